"""Three functions in three groups with different configs, deployed together: all move, or none has moved."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_coordinator import shifters, together
from shiftwork_coordinator.auth import Caller, NotAllowed
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts, TimeBasedLinear
from shiftwork_coordinator.model.rows import CustomConfig, Deployment, Group
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.operations import continue_deployment, stop_deployment
from shiftwork_coordinator.ports import HookAnswer
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryShifter

D = DeploymentStatus
NAMES = ("bills", "mails", "orders")
CONFIGS = {"bills": "LambdaAllAtOnce", "mails": "l0.05", "orders": "l60.0"}


def appspec(name: str, current: int = 1, target: int = 2) -> str:
    about = f"{{Name: {name}, Alias: live, CurrentVersion: {current}, TargetVersion: {target}}}"
    return f"version: 0.0\nResources:\n  - {name}: {{Type: 'AWS::Lambda::Function', Properties: {about}}}\n"


def linear(interval: float) -> CustomConfig:
    hosts, traffic = MinimumHealthyHosts("HOST_COUNT", 0), TimeBasedLinear(50, interval)
    config = DeploymentConfig(f"l{interval}", hosts, max_failed=0, traffic=traffic, platform="Lambda")
    return CustomConfig(config.name, config)


@pytest.fixture
async def platform(world: Any, monkeypatch: pytest.MonkeyPatch) -> MemoryShifter:
    memory = MemoryShifter()
    monkeypatch.setitem(shifters.BUILT_IN, "Lambda", lambda settings: memory)
    monkeypatch.setattr(shifters, "hook_functions", lambda settings: memory)
    groups = [Group(f"g-{n}", "fn", n, GroupSettings(platform="Lambda", config=CONFIGS[n])) for n in NAMES]
    await world.store.write(*(Put(g) for g in groups), Put(linear(0.05)), Put(linear(60.0)))
    return memory


def asked(**options: Any) -> list[CreateDeployment]:
    return [CreateDeployment("fn", name, appspec_content=appspec(name), **options) for name in NAMES]


async def deploy(world: Any, **options: Any) -> dict[str, str]:
    made = await together.create(world.home, asked(**options), "tester")
    return {row.group: row.id for row in made}


def state(world: Any, id: str) -> Any:
    return world.home.runs[id].image.deployment


async def others_arrived(world: Any, ids: dict[str, str]) -> None:
    """The first two are done, and the third is in the middle of its shift."""
    await world.until(lambda: all(state(world, ids[name]).arrived_at for name in ("bills", "mails")))
    await world.until(lambda: world.home.runs[ids["orders"]].image.targets["orders"].weight_since is not None)


async def rolled_back(world: Any, ids: dict[str, str]) -> dict[str, Any]:
    """The rows of all, once whatever puts them back has ended, too."""
    rows = {name: await world.ended(id) for name, id in ids.items()}
    for row in rows.values():
        if row.rolled_back_by:
            assert (await world.ended(row.rolled_back_by)).status is D.SUCCEEDED
    return rows


async def test_none_succeeds_before_all_have_arrived(world: Any, platform: MemoryShifter) -> None:
    ids = await deploy(world)
    await others_arrived(world, ids)
    assert {state(world, id).status for id in ids.values()} == {D.IN_PROGRESS}
    reasons = world.home.reasons(ids["bills"])
    assert any(r.code == "TOGETHER" and ids["orders"] in r.message for r in reasons)
    at = world.home.clock.now()
    await world.home.runs[ids["orders"]].request(lambda request: replace(request, proceed_at=at))
    assert {(await world.ended(id)).status for id in ids.values()} == {D.SUCCEEDED}
    assert platform.has == dict.fromkeys(NAMES, 1.0)
    known = world.home._bundles
    assert (known._active, known._over, known._locks) == ({}, {}, {}), "nothing is remembered for ever"


async def test_one_that_fails_takes_all_back(world: Any, platform: MemoryShifter) -> None:
    """Also where the group itself wants no rollback, as here."""
    platform.not_ready = {"orders"}
    ids = await deploy(world)
    await world.until(lambda: all(state(world, ids[name]).arrived_at for name in ("bills", "mails")))
    assert platform.has == {"bills": 1.0, "mails": 1.0}
    platform.fatal["orders"] = "version 2 does not start"
    rows = await rolled_back(world, ids)
    assert {name: row.status for name, row in rows.items()} == {
        "bills": D.STOPPED, "mails": D.STOPPED, "orders": D.FAILED
    }  # fmt: skip
    assert {rows[name].error_code for name in ("bills", "mails")} == {"TOGETHER"}
    back = [await world.store.targets(rows[name].rolled_back_by) for name in ("bills", "mails")]
    assert [t.resource.target for targets in back for t in targets.values()] == ["1", "1"]


async def test_stopping_one_stops_and_returns_all(world: Any, platform: MemoryShifter) -> None:
    ids = await deploy(world)
    await others_arrived(world, ids)
    await stop_deployment(world.home, ids["mails"], now=False, rollback=True, who="ann")
    rows = await rolled_back(world, ids)
    assert {row.status for row in rows.values()} == {D.STOPPED}
    assert platform.has["orders"] == 0.0
    assert "stopped by ann" in rows["orders"].error_message
    assert rows["bills"].rolled_back_by
    assert rows["mails"].rolled_back_by
    assert not rows["orders"].rolled_back_by, "its traffic went back in place"


async def test_continuing_one_promotes_all_that_wait(world: Any, platform: MemoryShifter) -> None:
    """Whichever is named: also one that has arrived and only waits for the others."""
    for config, named in (("l60.0", "mails"), ("", "bills")):
        platform.has.clear()
        ids = await deploy(world, config=config)
        if config:
            await world.until(lambda: all(waits(world, ids[name], "SHIFT") for name in NAMES))  # noqa: B023
        else:
            await others_arrived(world, ids)
            await world.until(lambda: waits(world, ids["orders"], "SHIFT"))  # noqa: B023
        await continue_deployment(world.home, ids[named], who="ann")
        assert {(await world.ended(id)).status for id in ids.values()} == {D.SUCCEEDED}
        assert platform.has == dict.fromkeys(NAMES, 1.0)


async def test_nothing_that_waits_cannot_be_continued(world: Any, platform: MemoryShifter) -> None:
    platform.not_ready = {"bills", "mails", "orders"}
    ids = await deploy(world)
    with pytest.raises(Conflict, match="neither baking"):
        await continue_deployment(world.home, ids["mails"], who="ann")
    await stop_deployment(world.home, ids["mails"], now=False, rollback=None, who="ann")
    await rolled_back(world, ids)


async def test_a_stop_reaches_all_and_leaves_none_where_it_got_to(world: Any, platform: MemoryShifter) -> None:
    ids = await deploy(world)
    await others_arrived(world, ids)
    with pytest.raises(InvalidRequest, match=r"deployed together with .*leave --no-rollback out"):
        await stop_deployment(world.home, ids["bills"], now=False, rollback=False, who="ann")
    assert not any(world.home.runs[id].image.request.stop for id in ids.values())
    await stop_deployment(world.home, ids["bills"], now=True, rollback=None, who="ann")
    assert {world.home.runs[id].image.request.stop for id in ids.values() if id in world.home.runs} <= {"now"}
    rows = await rolled_back(world, ids)
    assert {row.error_code for row in rows.values()} == {"MANUAL_STOP"}
    assert [bool(rows[name].rolled_back_by) for name in NAMES] == [True, True, False], "their groups ask for none"


def waits(world: Any, id: str, code: str) -> bool:
    return any(reason.code == code for reason in world.home.reasons(id))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_restart_changes_nothing(world: Any, platform: MemoryShifter, when: str) -> None:
    """Before one is stopped; and after it has failed, but before any of the others knew."""
    ids = await deploy(world)
    await others_arrived(world, ids)
    if when == "after":
        await world.home.stop()
        row = await world.store.deployment(ids["orders"])
        failed = replace(row, status=D.FAILED, error_code="TRAFFIC_SHIFT", error_message="gone", completed_at=1.0)
        await world.store.write(Put(failed))
        await world.start()
    else:
        await world.restart()
        assert {state(world, id).status for id in ids.values()} == {D.IN_PROGRESS}
        await stop_deployment(world.home, ids["orders"], now=False, rollback=True, who="ann")
    rows = await rolled_back(world, ids)
    assert [bool(rows[name].rolled_back_by) for name in NAMES] == [True, True, False]


async def test_a_restart_between_two_successes_makes_the_rest_succeed(world: Any, platform: MemoryShifter) -> None:
    ids = await deploy(world)
    await others_arrived(world, ids)
    await world.home.stop()
    row = await world.store.deployment(ids["orders"])
    await world.store.write(Put(replace(row, status=D.SUCCEEDED, completed_at=1.0)))
    await world.start()
    assert [(await world.ended(ids[name])).status for name in ("bills", "mails")] == [D.SUCCEEDED, D.SUCCEEDED]


async def test_what_one_saw_of_the_others_holds_until_it_has_written(
    world: Any, platform: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that comes in while the first Succeeded is being written comes too late."""
    write, stopped = world.store.write, asyncio.Event()

    async def slow(*changes: Any, epoch: int | None = None) -> None:
        done = [c.row for c in changes if isinstance(c, Put) and getattr(c.row, "status", "") is D.SUCCEEDED]
        if any(isinstance(row, Deployment) for row in done) and not stopped.is_set():
            stopped.set()
            other = next(id for id in done[0].together if id in world.home.runs)
            await world.home.runs[other].request(lambda request: replace(request, stop="stop", stop_by="ann"))
            await asyncio.sleep(0.2)
        await write(*changes, epoch=epoch)

    monkeypatch.setattr(world.store, "write", slow)
    ids = await deploy(world, config="l0.05")
    assert {(await world.ended(id)).status for id in ids.values()} == {D.SUCCEEDED}
    assert stopped.is_set()


async def test_two_that_decide_at_once_decide_one_after_the_other(world: Any, platform: MemoryShifter) -> None:
    """Stops that come in while the last one arrives: all Succeeded or none, every time."""
    for wait in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        platform.has.clear()
        ids = await deploy(world, config="l0.05")
        await asyncio.sleep(0.1 + wait)
        with contextlib.suppress(Conflict):  # all over already
            await stop_deployment(world.home, ids["mails"], now=False, rollback=True, who="ann")
        rows = await rolled_back(world, ids)
        assert len({row.status is D.SUCCEEDED for row in rows.values()}) == 1, {n: r.status for n, r in rows.items()}


async def test_all_are_created_or_none(world: Any, platform: MemoryShifter) -> None:
    platform.fatal["mails"] = "its alias is at version 9"
    with pytest.raises(InvalidRequest, match="version 9"):
        await deploy(world)
    platform.fatal.clear()
    with pytest.raises(InvalidRequest, match="twice at once"):
        await together.create(world.home, asked() + asked()[:1], "tester")
    with pytest.raises(InvalidRequest, match="1 to 100"):
        await together.create(world.home, [], "tester")
    assert await world.store.deployments() == []
    ids = await deploy(world)
    with pytest.raises(Conflict, match="active deployment"):
        await deploy(world)
    assert len(await world.store.deployments()) == 3
    await stop_deployment(world.home, ids["orders"], now=False, rollback=True, who="ann")
    await rolled_back(world, ids)


SETTINGS = (
    '{"application": "fn", "groups": {"new": {"platform": "Lambda", "hooks": {"before_allow_traffic": "check"}}}}'
)


async def test_a_plan_of_groups_that_are_not_there_yet(world: Any, platform: MemoryShifter) -> None:
    platform.hooks["check"] = HookAnswer("Succeeded")
    one = CreateDeployment("fn", "new", appspec_content=appspec("new"))
    bad = CreateDeployment("fn", "missing", appspec_content=appspec("missing"))
    wanted = together.PlanTogether("t.yaml", SETTINGS, [one, bad])
    found: Any = await together.foresee(world.home, wanted, Caller("ann", role="admin"))
    assert [(c["name"], c["change"]) for c in found["changes"]] == [("fn/new", "created")]
    first, second = found["plans"]
    assert (first["problems"], first["resources"][0]["target"]) == ([], "2")
    assert "cannot find the deployment group" in second["problems"][0]["message"]
    assert await world.store.group("fn", "new") is None
    with pytest.raises(NotAllowed, match="takes the role admin"):
        await together.foresee(world.home, wanted, Caller("ci", role="deployer"))
