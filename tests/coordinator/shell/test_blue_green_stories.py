"""Blue/green of instances through the shell: new ones join on the way, and a restart at any moment changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.conftest import V1, V2, Agent, World

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import Revision
from shiftwork_coordinator import shifters
from shiftwork_coordinator.creation import config_named, new_id, targets_of
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Deployment, Instance
from shiftwork_coordinator.model.settings import BlueGreen, Instances
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import stop_deployment, store_and_start
from shiftwork_coordinator.ports import ShiftReading
from shiftwork_coordinator.scaling_groups import fleet_targets
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryShifter

A, D, T = Arrangement, DeploymentStatus, TargetStatus
FLEET = "autoscaling:web"
BLUE = tuple(f"web-{n}" for n in range(1, 5))
GREEN = tuple(f"i-0000000{n}" for n in range(1, 5))


class Cloud(MemoryShifter):
    """Its replacement is made of GREEN, whose agents start with it. `keeps`: it does not let an original go."""

    keeps = False

    async def arrange(self, resource: Any, wanted: Arrangement) -> None:
        if self.keeps and wanted is A.RETIRED:
            raise InvalidRequest("cannot call autoscaling:DeleteAutoScalingGroup")
        await super().arrange(resource, wanted)

    async def readings(self, resources: Any) -> dict[str, ShiftReading]:
        found = await super().readings(resources)
        made = self.arranged.get(FLEET) not in (None, A.ABANDONED)
        return {name: replace(one, weight=None, members=GREEN if made else ()) for name, one in found.items()}


class Shop:
    def __init__(self, world: World, cloud: Cloud, tasks: asyncio.TaskGroup) -> None:
        self.world, self.cloud, self._tasks = world, cloud, tasks
        self.serving: list[asyncio.Task[None]] = []

    async def deploy(self, revision: str) -> str:
        group = await self.world.store.group("web", "production")
        assert group is not None
        row = Deployment(
            new_id(), await self.world.store.next_serial(), "web", "production", group.id,
            Revision(revision, "coordinator:"), config_named("HalfAtATime", {}), group.settings,
            self.world.home.clock.now(), deployment_type="BLUE_GREEN", rollback_on=("failure",),
        )  # fmt: skip
        originals = [i for i in await self.world.store.instances() if i.name in BLUE]
        await store_and_start(
            self.world.home, [(row, [*targets_of(row, originals), *fleet_targets(row)])], "create", queue=False
        )
        return row.id

    async def launch(self) -> None:
        """What the new group's instances do when they start: their agents join."""
        await self.world.until(lambda: self.cloud.arranged.get(FLEET) is A.PROVISIONED)
        for name in GREEN:
            self.world.balancer.add(name)  # type: ignore[attr-defined]
            await self.world.store.write(Put(Instance(name)))
            agent = self.world.agents[name] = Agent(name, self.world)
            self.serving.append(self._tasks.create_task(agent.serve()))
            await agent.connect()

    async def targets(self, id: str) -> dict[str, Any]:
        return await self.world.store.targets(id)


@pytest.fixture
async def shop(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    cloud = Cloud()
    monkeypatch.setattr(shifters, "connect", lambda settings: cloud)
    group = await world.store.group("web", "production")
    assert group is not None
    settings = replace(group.settings, instances=Instances(autoscaling=("web",)), blue_green=BlueGreen())
    await world.store.write(Put(replace(group, settings=settings, last_good=Revision(V1, "coordinator:"))))
    async with asyncio.TaskGroup() as tasks:
        shop = Shop(world, cloud, tasks)
        yield shop
        for task in shop.serving:
            task.cancel()


async def test_new_instances_take_over(shop: Shop) -> None:
    id = await shop.deploy(V2)
    await shop.launch()
    ended = await shop.world.ended(id)
    targets = await shop.targets(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert {t.status for t in targets.values()} == {T.SUCCEEDED}
    assert {name for name, t in targets.items() if t.role == "replacement"} == set(GREEN)
    assert [wanted for _, wanted in shop.cloud.arrangements] == [A.PROVISIONED, A.PROMOTED, A.RETIRED]
    group = await shop.world.store.group("web", "production")
    assert group is not None
    assert group.copies == {"web": f"shiftwork-web-production-{id}"}


async def test_scripts_of_the_originals_and_of_the_replacements(shop: Shop) -> None:
    id = await shop.deploy(V2)
    await shop.launch()
    await shop.world.ended(id)
    blue = [event for _, event in shop.world.agents["web-1"].ran]
    green = [event for _, event in shop.world.agents[GREEN[0]].ran]
    assert blue == ["BeforeBlockTraffic", "AfterBlockTraffic"]
    assert (green[0], green[-2:]) == ("ApplicationStop", ["BeforeAllowTraffic", "AfterAllowTraffic"])
    assert len(green) == 9


@pytest.mark.parametrize("event", ["Install", "AfterAllowTraffic", "BeforeBlockTraffic"])
async def test_a_failure_gives_everything_back(shop: Shop, event: str) -> None:
    shop.world.fails = lambda agent, command, at: at == event
    id = await shop.deploy(V2)
    await shop.launch()
    ended = await shop.world.ended(id)
    assert ended.status is D.FAILED
    assert shop.cloud.arranged[FLEET] is A.ABANDONED
    states = shop.world.balancer.in_traffic()  # type: ignore[attr-defined]
    assert states == set(BLUE)


@pytest.mark.parametrize("stage", range(8))
async def test_a_restart_at_every_stage_of_the_group_changes_nothing(shop: Shop, stage: int) -> None:
    id = await shop.deploy(V2)
    if stage < 2:
        await shop.world.restart()
    await shop.launch()

    def reached() -> bool:
        run = shop.world.home.runs.get(id)
        return run is None or run.image.targets[FLEET].stage >= stage

    await shop.world.until(reached)
    await shop.world.restart()
    ended = await shop.world.ended(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert [wanted for _, wanted in shop.cloud.arrangements] == [A.PROVISIONED, A.PROMOTED, A.RETIRED]
    assert shop.world.balancer.in_traffic() == set(GREEN)  # type: ignore[attr-defined]


async def test_a_stop_before_anybody_joined(shop: Shop) -> None:
    id = await shop.deploy(V2)
    await shop.world.until(lambda: shop.cloud.arranged.get(FLEET) is A.PROVISIONED)
    await stop_deployment(shop.world.home, id, now=False, rollback=None, who="tester")
    ended = await shop.world.ended(id)
    assert (ended.status, shop.cloud.arranged[FLEET]) == (D.STOPPED, A.ABANDONED)
    assert {t.status for t in (await shop.targets(id)).values() if t.role == "original"} == {T.SKIPPED}


async def test_a_copy_that_has_taken_over_stands_also_when_its_original_cannot_go(shop: Shop) -> None:
    shop.cloud.keeps = True
    id = await shop.deploy(V2)
    await shop.launch()
    ended = await shop.world.ended(id)
    group = await shop.world.store.group("web", "production")
    assert group is not None and group.last_good is not None
    assert (ended.status, shop.world.balancer.in_traffic()) == (D.FAILED, set(GREEN))  # type: ignore[attr-defined]
    assert group.copies == {"web": f"shiftwork-web-production-{id}"}, "the next deployment is to it"
    assert group.last_good.identity == V1
