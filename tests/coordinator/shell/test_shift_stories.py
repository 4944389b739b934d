"""Functions through the shell: what a deployment does to an alias, and that a restart changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_coordinator import alarms, shifters
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.engine.decision import Reason
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts, TimeBasedLinear
from shiftwork_coordinator.model.rows import CustomConfig, Group
from shiftwork_coordinator.model.settings import Alarms, FunctionHooks, GroupSettings
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import (
    answer_hook,
    continue_deployment,
    create_deployment,
    rollback_deployment,
    stop_deployment,
)
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.ports import HookAnswer, HookCall
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryAlarms, MemoryShifter

APPSPEC = """
version: 0.0
Resources:
  - orders:
      Type: AWS::Lambda::Function
      Properties: {Name: orders, Alias: live, CurrentVersion: 1, TargetVersion: 2}
  - bills:
      Type: AWS::Lambda::Function
      Properties: {Name: bills, Alias: live, CurrentVersion: 4, TargetVersion: 5}
Hooks:
  - BeforeAllowTraffic: check
"""
S, F = HookAnswer("Succeeded"), HookAnswer("Failed", "bad schema")


def linear(interval: float) -> DeploymentConfig:
    hosts = MinimumHealthyHosts("HOST_COUNT", 0)
    return DeploymentConfig(
        f"l{interval}", hosts, max_failed=0, traffic=TimeBasedLinear(50, interval), platform="Lambda"
    )


@pytest.fixture
async def platform(world: Any, monkeypatch: pytest.MonkeyPatch) -> MemoryShifter:
    memory = MemoryShifter(hooks={"check": S})
    monkeypatch.setitem(shifters.BUILT_IN, "Lambda", lambda settings: memory)
    monkeypatch.setattr(shifters, "hook_functions", lambda settings: memory)
    settings = GroupSettings(platform="Lambda", config="l0.1", rollback=("failure", "alarm"))
    configs = [CustomConfig(c.name, c) for c in (linear(0.1), linear(60.0))]
    await world.store.write(Put(Group("g-2", "fn", "live", settings)), *(Put(c) for c in configs))
    return memory


async def deploy(world: Any, **options: Any) -> str:
    asked = CreateDeployment("fn", **({"group": "live", "appspec_content": APPSPEC} | options))
    return (await create_deployment(world.home, asked, "tester")).id


def shifting(world: Any, id: str, weight: float) -> bool:
    return all(t.weight == weight and t.weight_since for t in world.home.runs[id].image.targets.values())


async def test_every_step_is_taken_once_and_hooks_are_asked_first(world: Any, platform: MemoryShifter) -> None:
    ended = await world.ended(await deploy(world))
    assert ended.status is DeploymentStatus.SUCCEEDED
    for name in ("orders", "bills"):
        assert [weight for one, weight in platform.calls if one == name] == [0.5, 1.0]
    assert sorted(call.resource.name for call in platform.invoked) == ["bills", "orders"]
    events = (await world.store.events(ended.id))["orders"]
    assert {name: str(row.status) for name, row in events.items()} == {
        "BeforeAllowTraffic": "Succeeded",
        "AllowTraffic": "Succeeded",
    }


async def test_a_hook_that_fails_moves_nothing(world: Any, platform: MemoryShifter) -> None:
    platform.hooks["check"] = F
    ended = await world.ended(await deploy(world))
    assert (ended.status, platform.calls, ended.rolled_back_by) == (DeploymentStatus.FAILED, [], "")
    assert "bad schema" in (await world.store.targets(ended.id))["orders"].error_message


async def test_a_stop_in_the_middle_gives_the_traffic_back_and_a_restart_before_it_changes_nothing(
    world: Any, platform: MemoryShifter
) -> None:
    id = await deploy(world, config="l60.0")
    await world.until(lambda: shifting(world, id, 0.5))
    await world.restart()
    await world.until(lambda: bool(world.home.runs[id].decision))
    await stop_deployment(world.home, id, now=False, rollback=None, who="tester")
    ended = await world.ended(id)
    assert ended.status is DeploymentStatus.STOPPED
    assert platform.has == {"orders": 0.0, "bills": 0.0}
    assert len(platform.invoked) == 2, "a hook is not invoked again by a restart"


async def test_continue_promotes(world: Any, platform: MemoryShifter) -> None:
    id = await deploy(world, config="l60.0")
    await world.until(lambda: shifting(world, id, 0.5))
    await world.until(lambda: any(r.code == "SHIFT" for r in world.home.reasons(id)))
    await continue_deployment(world.home, id, who="tester")
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_an_alarm_gives_the_traffic_back(
    world: Any, platform: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemoryAlarms()
    monkeypatch.setattr(alarms, "connect", lambda settings: source)
    group = await world.store.group("fn", "live")
    watched = replace(group.settings, alarms=Alarms(cloudwatch=("errors",), every=1.0))
    await world.store.write(Put(replace(group, settings=watched)))
    id = await deploy(world, config="l60.0")
    await world.until(lambda: shifting(world, id, 0.5))
    source.red["errors"] = "it burns"
    ended = await world.ended(id)
    assert (ended.status, ended.error_code) == (DeploymentStatus.STOPPED, "ALARM_ACTIVE")
    assert set(platform.has.values()) == {0.0}


async def test_one_function_that_fails_takes_all_back(world: Any, platform: MemoryShifter) -> None:
    platform.not_ready = {"orders"}
    id = await deploy(world)
    await world.until(lambda: world.home.runs[id].image.targets["bills"].status is TargetStatus.SUCCEEDED)
    platform.fatal["orders"] = "version 2 does not start"
    failed = await world.ended(id)
    assert failed.status is DeploymentStatus.FAILED
    back = await world.ended(failed.rolled_back_by)
    targets = await world.store.targets(back.id)
    assert (targets["orders"].status, targets["bills"].status) == (TargetStatus.SKIPPED, TargetStatus.SUCCEEDED)
    assert (targets["bills"].resource.current, targets["bills"].resource.target) == ("5", "4")
    assert len(platform.invoked) == 1, "a rollback asks no hooks"


async def test_an_operator_rolls_a_success_back(world: Any, platform: MemoryShifter) -> None:
    ended = await world.ended(await deploy(world))
    platform.has.clear()  # the twin speaks of shares of the replacement, which is the former version now
    back = await world.ended((await rollback_deployment(world.home, ended.id, who="tester")).id)
    assert (back.status, back.rollback_of) == (DeploymentStatus.SUCCEEDED, ended.id)


async def test_a_platform_that_is_away_for_a_while_is_waited_for(world: Any, platform: MemoryShifter) -> None:
    platform.unreachable = True
    id = await deploy(world)
    await world.until(lambda: any("cannot reach" in r.message for r in world.home.reasons(id)))
    platform.unreachable = False
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_hooks_may_answer_by_a_call_and_the_first_word_counts(world: Any, platform: MemoryShifter) -> None:
    group = await world.store.group("fn", "live")
    await world.store.write(Put(replace(group, settings=replace(group.settings, hooks=FunctionHooks(answer="call")))))
    id = await deploy(world)
    await world.until(lambda: len(platform.invoked) == 2)
    runs = lambda: world.home.runs[id].image.hook_runs.values()  # noqa: E731
    await world.until(lambda: all(run.invoked_at for run in runs()))
    for call in platform.invoked:
        await answer_hook(world.home, call.id, "Succeeded", "the function")
    told = [(line.who, line.action) for line in await world.store.audit() if line.action == "hook.answer"]
    assert told == [("the function", "hook.answer")] * 2
    with pytest.raises(Conflict, match="answered Succeeded already"):
        await answer_hook(world.home, platform.invoked[0].id, "Failed", "a second thought")
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED
    with pytest.raises(InvalidRequest, match="no running deployment"):
        await answer_hook(world.home, platform.invoked[0].id, "Succeeded", "too late")


async def test_a_stop_does_not_wait_for_a_hook_function_that_still_runs(world: Any, platform: MemoryShifter) -> None:
    async def never(call: HookCall, *, wait: bool) -> None:
        platform.invoked.append(call)
        await asyncio.Event().wait()

    platform.invoke = never  # type: ignore[method-assign]
    id = await deploy(world)
    await world.until(lambda: len(platform.invoked) == 2)
    await stop_deployment(world.home, id, now=False, rollback=None, who="tester")
    async with asyncio.timeout(60):
        assert (await world.ended(id)).status is DeploymentStatus.STOPPED


async def test_a_hooks_word_is_kept_that_comes_with_the_news_of_its_call(world: Any, platform: MemoryShifter) -> None:
    platform.hooks.clear()
    group = await world.store.group("fn", "live")
    await world.store.write(Put(replace(group, settings=replace(group.settings, hooks=FunctionHooks(answer="call")))))
    id = await deploy(world)
    await world.until(lambda: len(platform.invoked) == 2)
    run = world.home.runs[id]
    row = run.image.hook_runs["orders", "BeforeAllowTraffic"]
    await asyncio.gather(run.answered(replace(row, status="Succeeded")), run.answered(replace(row, invoked_at=1.0)))
    assert run.image.hook_runs["orders", "BeforeAllowTraffic"].status == "Succeeded"


async def test_the_platform_is_asked_seldom_while_a_hook_or_a_pause_is_waited_for(
    world: Any, platform: MemoryShifter
) -> None:
    platform.hooks.clear()
    group = await world.store.group("fn", "live")
    await world.store.write(Put(replace(group, settings=replace(group.settings, hooks=FunctionHooks(answer="call")))))
    id = await deploy(world)
    await world.until(lambda: len(platform.invoked) == 2)
    run = world.home.runs[id]
    assert not run._outside.shifting._awaits()


async def test_continue_ends_the_time_that_originals_are_kept_for(
    world: Any, platform: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await deploy(world, config="l60.0")
    await world.until(lambda: shifting(world, id, 0.5))
    monkeypatch.setattr(world.home, "reasons", lambda id: (Reason("ORIGINALS", "they are kept for a while"),))
    await continue_deployment(world.home, id, who="tester")
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_one_alias_is_shifted_by_one_group_at_a_time(world: Any, platform: MemoryShifter) -> None:
    group = await world.store.group("fn", "live")
    await world.store.write(Put(replace(group, id="g-3", name="other")))
    id = await deploy(world, config="l60.0")
    with pytest.raises(Conflict, match=f"deployment {id} of live shifts its traffic"):
        await deploy(world, group="other")
    await stop_deployment(world.home, id, now=False, rollback=None, who="tester")
    await world.ended(id)
    await world.ended(await deploy(world, group="other"))


async def test_what_is_wrong_is_refused_before_anything_is_touched(world: Any, platform: MemoryShifter) -> None:
    platform.fatal["bills"] = "its alias is at version 3"
    with pytest.raises(InvalidRequest, match="version 3"):
        await deploy(world)
    with pytest.raises(InvalidRequest, match="give an AppSpec"):
        await deploy(world, appspec_content="")
    with pytest.raises(InvalidRequest, match="it is for Server"):
        await deploy(world, config="HalfAtATime")
    assert await world.store.deployments() == []


async def test_a_plan_touches_nothing(world: Any, platform: MemoryShifter) -> None:
    found = await plan(world.home, CreateDeployment("fn", "live", appspec_content=APPSPEC))
    assert found["problems"] == []
    assert (platform.calls, platform.invoked) == ([], [])
    await asyncio.sleep(0)
