"""The engine and the driver for Auto Scaling groups together, over a twin of AWS: there, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.conftest import V1, V2, Agent, World
from tests.drivers.scaling_account import NOTE, TARGETS, Account, furnished, group

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.creation import config_named, new_id, targets_of
from shiftwork_coordinator.model.rows import Deployment, Instance
from shiftwork_coordinator.model.settings import BlueGreen, Instances
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.operations import stop_deployment, store_and_start
from shiftwork_coordinator.scaling_groups import fleet_targets, oriented
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.store import Put

D = DeploymentStatus
BLUE = tuple(f"web-{n}" for n in range(1, 5))
WEB = {
    "sizes": [2, 6, 4], "instances": 4, "rests": [], "attached": [TARGETS, "classic"], "notes": [], "protected": True,
}  # fmt: skip
EMPTY = WEB | {"sizes": [0, 6, 0], "instances": 0}


class Site:
    def __init__(self, world: World, account: Account, tasks: asyncio.TaskGroup) -> None:
        self.world, self.account, self._tasks = world, account, tasks
        self.serving: list[asyncio.Task[None]] = []

    async def deploy(self, revision: str) -> tuple[str, str]:
        """The deployment and the name of the replacement, whose instances have started their agents."""
        found = await self.world.store.group("web", "production")
        assert found is not None
        row = Deployment(
            new_id(), await self.world.store.next_serial(), "web", "production", found.id,
            Revision(revision, "coordinator:"), config_named("HalfAtATime", {}), oriented(found.settings, {"web"}),
            self.world.home.clock.now(), deployment_type="BLUE_GREEN", rollback_on=(),
        )  # fmt: skip
        originals = [i for i in await self.world.store.instances() if i.name in BLUE]
        [fleet] = fleet_targets(row)
        await store_and_start(self.world.home, [(row, [*targets_of(row, originals), fleet])], "create", queue=False)
        name = fleet.resource.replacement  # type: ignore[union-attr]
        await self.world.until(lambda: len(self.account.groups.get(name, {}).get("Instances", ())) == 4)
        for id in self.account.ids(name):
            await self._start(id)
        return row.id, name

    async def _start(self, id: str) -> None:
        self.world.balancer.add(id)  # type: ignore[attr-defined]
        await self.world.store.write(Put(Instance(id)))
        agent = self.world.agents[id] = Agent(id, self.world)
        self.serving.append(self._tasks.create_task(agent.serve()))
        await agent.connect()

    @property
    def in_traffic(self) -> set[str]:
        return set(self.world.balancer.in_traffic())  # type: ignore[attr-defined]


@pytest.fixture(params=("copy", "swap"))
async def site(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    standby = group("web-b", MinSize=0, MaxSize=6, DesiredCapacity=0)
    account = furnished(Account(group("web", DesiredCapacity=4), standby, healthy=4))
    account.move(there=account.ids("web"), gone=[])
    account.describe_auto_scaling_groups(["web"])
    account.leaks.clear()
    monkeypatch.setattr(asking, "of", lambda at: account.ask)
    found = await world.store.group("web", "production")
    assert found is not None
    wanted = BlueGreen() if request.param == "copy" else BlueGreen("swap", "web-b")
    settings = replace(found.settings, instances=Instances(autoscaling=("web",)), blue_green=wanted)
    await world.store.write(Put(replace(found, settings=settings, last_good=Revision(V1, "coordinator:"))))
    async with asyncio.TaskGroup() as tasks:
        made = Site(world, account, tasks)
        yield made
        for task in made.serving:
            task.cancel()


@pytest.mark.parametrize("lost", [0, 5])
async def test_another_group_takes_over(site: Site, lost: int) -> None:
    """Also when the answer of a call is lost."""
    site.account.lost_at = lost
    id, name = await site.deploy(V2)
    green = set(site.account.ids(name))
    ended = await site.world.ended(id)
    assert ended.status is D.SUCCEEDED, ended.error_message
    assert site.in_traffic == green
    stands = site.account.stands()
    assert stands.pop("web-b", EMPTY) == (WEB if name == "web-b" else EMPTY)
    assert stands == ({"web": EMPTY} if name == "web-b" else {name: WEB})


@pytest.mark.parametrize("event", ["Install", "BeforeBlockTraffic"])
async def test_a_failure_leaves_the_groups_as_they_were(site: Site, event: str) -> None:
    before = site.account.stands()
    site.world.fails = lambda agent, command, at: at == event
    id, _ = await site.deploy(V2)
    ended = await site.world.ended(id)
    assert ended.status is D.FAILED
    assert site.in_traffic == set(BLUE)
    assert site.account.stands() == before


async def test_stopped_while_the_originals_are_kept_it_goes_back(site: Site) -> None:
    before = site.account.stands()
    found = await site.world.store.group("web", "production")
    assert found is not None
    kept = replace(found.settings, originals=replace(found.settings.originals, keep_for=600.0))
    await site.world.store.write(Put(replace(found, settings=kept)))
    id, name = await site.deploy(V2)
    await site.world.until(
        lambda: not site.account.note(name) and "AddToLoadBalancer" in site.account.note("web", NOTE)
    )
    await stop_deployment(site.world.home, id, now=False, rollback=False, who="tester")
    ended = await site.world.ended(id)
    assert ended.status is D.STOPPED
    assert site.in_traffic == set(BLUE)
    assert site.account.stands() == before
