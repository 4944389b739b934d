"""The engine and the drivers of Auto Scaling and target groups together, over a twin of AWS: traffic moves by
weights, and is given back from anywhere, also when the coordinator is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.conftest import V1, V2, Agent, World
from tests.drivers.weighed_account import BLUE, GREEN, LISTENER, Weighed, web

from shiftwork_contract.revision import Revision
from shiftwork_coordinator import fleets
from shiftwork_coordinator.balancers.elbv2 import TargetGroups
from shiftwork_coordinator.creation import new_id, targets_of
from shiftwork_coordinator.model.config import AllAtOnce, DeploymentConfig, MinimumHealthyHosts, TimeBasedCanary
from shiftwork_coordinator.model.rows import Deployment, Instance
from shiftwork_coordinator.model.settings import BlueGreen, Instances, Quiet, Weights
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import rollback_deployment, stop_deployment, store_and_start
from shiftwork_coordinator.ports import Pace
from shiftwork_coordinator.scaling_groups import fleet_targets
from shiftwork_coordinator.shell.run import Run
from shiftwork_coordinator.shifters import asking, weighing
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import Machine, MemoryFleets

D = DeploymentStatus
FLEET = "autoscaling:web"
INTERVAL = 0.5
CANARY = DeploymentConfig("canary", MinimumHealthyHosts("HOST_COUNT", 0), max_failed=0)


class Site:
    def __init__(self, world: World, account: Weighed, tasks: asyncio.TaskGroup) -> None:
        self.world, self.account, self._tasks = world, account, tasks
        self.serving: list[asyncio.Task[None]] = []
        self.blue = account.ids("web")

    async def deploy(self, interval: float = INTERVAL) -> tuple[str, str]:
        """The deployment and the name of the replacement, whose instances have started their agents."""
        found = await self.world.store.group("web", "production")
        assert found is not None
        config = replace(CANARY, traffic=TimeBasedCanary(25, interval))
        row = Deployment(
            new_id(), await self.world.store.next_serial(), "web", "production", found.id,
            Revision(V2, "coordinator:"), config, await weighing.oriented(found.settings),
            self.world.home.clock.now(), deployment_type="BLUE_GREEN", rollback_on=(),
        )  # fmt: skip
        originals = [i for i in await self.world.store.instances() if i.name in self.blue]
        [fleet] = fleet_targets(row)
        await store_and_start(self.world.home, [(row, [*targets_of(row, originals), fleet])], "create", queue=False)
        name = fleet.resource.replacement  # type: ignore[union-attr]
        await self.world.until(lambda: len(self.account.groups.get(name, {}).get("Instances", ())) == 2)
        for id in self.account.ids(name):
            await self.start(id)
        return row.id, name

    async def start(self, id: str) -> None:
        await self.world.store.write(Put(Instance(id)))
        agent = self.world.agents[id] = Agent(id, self.world)
        self.serving.append(self._tasks.create_task(agent.serve()))
        await agent.connect()

    async def until(self, id: str, condition: Callable[[Run], Any]) -> None:
        await self.world.until(lambda: (run := self.world.home.runs.get(id)) is None or bool(condition(run)))


@pytest.fixture
async def site(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    account = Weighed(web(DesiredCapacity=2), healthy=2)
    monkeypatch.setattr(asking, "of", lambda at: account.ask)
    monkeypatch.setattr(TargetGroups, "pace", Pace(0.05, 0.2))
    found = await world.store.group("web", "production")
    assert found is not None
    settings = replace(
        found.settings, instances=Instances(autoscaling=("web",)), load_balancers=(), quiet=Quiet(at_most=0.1),
        blue_green=BlueGreen(shift=Weights((GREEN, BLUE), LISTENER)),
    )  # fmt: skip
    await world.store.write(Put(replace(found, settings=settings, last_good=Revision(V1, "coordinator:"))))
    async with asyncio.TaskGroup() as tasks:
        made = Site(world, account, tasks)
        for id in made.blue:
            await made.start(id)
        yield made
        for task in made.serving:
            task.cancel()


def as_before(site: Site) -> None:
    assert site.account.stands().keys() == {"web"}
    assert site.account.serving() == {BLUE: ["web"]}
    assert (site.account.share(BLUE), site.account.cut, site.account.leaks) == (100, [], [])


async def test_by_weights_to_the_end(site: Site) -> None:
    id, name = await site.deploy()
    ended = await site.world.ended(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert site.account.serving() == {GREEN: [name]}
    assert site.account.stands().keys() == {name}
    assert (site.account.shares, site.account.cut) == ([0, 25, 100], [])
    lines = [line for _, line in await site.world.store.history(id) if line.kind == "weight"]
    assert [line.data["weight"] for line in lines] == [0.25, 1.0]
    assert lines[1].at - lines[0].at >= INTERVAL
    assert {t.status for t in (await site.world.store.targets(id)).values()} == {TargetStatus.SUCCEEDED}


async def test_a_script_of_an_original_that_fails_gives_the_weight_back(site: Site) -> None:
    """By then everything is on the replacements, and some originals are out."""
    site.world.fails = lambda agent, command, at: at == "AfterBlockTraffic" and agent == site.blue[0]
    id, _ = await site.deploy()
    ended = await site.world.ended(id)
    assert (ended.status, site.account.shares) == (D.FAILED, [0, 25, 100, 0])
    as_before(site)


async def test_a_stop_during_the_canary_gives_the_weight_back(site: Site) -> None:
    id, _ = await site.deploy(600.0)
    await site.until(id, lambda run: run.image.targets[FLEET].weight_since)
    await stop_deployment(site.world.home, id, now=False, rollback=None, who="tester")
    ended = await site.world.ended(id)
    assert (ended.status, site.account.shares) == (D.STOPPED, [0, 25, 0])
    as_before(site)


@pytest.mark.parametrize("stage", (5, 7))
async def test_a_restart_changes_nothing(site: Site, stage: int) -> None:
    id, name = await site.deploy()
    await site.until(id, lambda run: run.image.targets[FLEET].stage >= stage)
    await site.world.restart()
    ended = await site.world.ended(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert (site.account.shares, site.account.serving()) == ([0, 25, 100], {GREEN: [name]})


@pytest.mark.parametrize("call", (1, 9, 10))
async def test_an_answer_that_is_lost_changes_nothing(site: Site, call: int) -> None:
    site.account.lost_at = call
    id, name = await site.deploy()
    ended = await site.world.ended(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert (site.account.share(GREEN), site.account.serving()) == (100, {GREEN: [name]})


async def test_a_rollback_afterwards_moves_all_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    id, name = await site.deploy()
    assert (await site.world.ended(id)).status is D.SUCCEEDED
    there = MemoryFleets({one: Machine(group=name) for one in site.account.ids(name)})
    monkeypatch.setattr(fleets, "connect", lambda at: there)
    back = await rollback_deployment(site.world.home, id, who="tester")
    assert (back.rollback_of, back.config.name, back.config.traffic) == (id, "canary", AllAtOnce())
    assert back.settings.weights == Weights((GREEN, BLUE), LISTENER), "it goes the other way"
