"""Alarms through the shell: a red one stops what runs and forbids a start; without a deployment nobody asks."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_coordinator import alarms
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.settings import Alarms
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.operations import create_deployment
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryAlarms

V1, V2 = (f"sha256:{digit * 64}" for digit in "12")


@pytest.fixture
async def source(world: Any, monkeypatch: pytest.MonkeyPatch) -> MemoryAlarms:
    memory = MemoryAlarms()
    monkeypatch.setattr(alarms, "connect", lambda settings: memory)
    group = await world.store.group("web", "production")
    watched = Alarms(cloudwatch=("errors",), every=1.0)
    settings = replace(group.settings, alarms=watched, rollback=("alarm",))
    await world.store.write(Put(replace(group, settings=settings)))
    return memory


async def deploy(world: Any, revision: str, **options: Any) -> str:
    asked = CreateDeployment("web", "production", revision, **options)
    return (await create_deployment(world.home, asked, "tester")).id


async def test_green_lets_it_pass(world: Any, source: MemoryAlarms) -> None:
    assert (await world.ended(await deploy(world, V1))).status is DeploymentStatus.SUCCEEDED
    assert source.asked


async def test_red_before_the_start_forbids_it_and_nothing_is_touched(world: Any, source: MemoryAlarms) -> None:
    source.red["errors"] = "5 errors in 1 minute"
    ended = await world.ended(await deploy(world, V1))
    assert (ended.status, ended.error_code) == (DeploymentStatus.STOPPED, "ALARM_ACTIVE")
    assert "5 errors in 1 minute" in ended.error_message
    assert not any(agent.commands for agent in world.agents.values())
    assert not world.balancer.calls


async def test_the_fix_is_brought_while_it_is_red(world: Any, source: MemoryAlarms) -> None:
    source.red["errors"] = "5 errors in 1 minute"
    ended = await world.ended(await deploy(world, V1, ignore_alarms=True))
    assert ended.status is DeploymentStatus.SUCCEEDED
    assert f"{ended.id} web/production ignoring alarms" in [line.what for line in await world.store.audit()]


async def test_red_while_it_runs_stops_it_and_rolls_back_what_changed(world: Any, source: MemoryAlarms) -> None:
    await world.ended(await deploy(world, V1))
    agent = world.agents["web-1"]
    agent.release.clear()
    id = await deploy(world, V2)
    await world.until(lambda: (id, "BeforeBlockTraffic") in agent.ran)
    source.red["errors"] = "it burns"
    await world.until(lambda: bool(world.home.runs[id].image.deployment.halted_code))
    agent.release.set()
    stopped = await world.ended(id)
    assert (stopped.status, stopped.error_code) == (DeploymentStatus.STOPPED, "ALARM_ACTIVE")
    back = await world.ended(stopped.rolled_back_by)
    assert back.status is DeploymentStatus.SUCCEEDED, "a rollback heeds no alarm"
    assert {agent.installed for agent in world.agents.values()} == {V1}


async def test_a_source_with_a_bug_is_an_alarm_that_cannot_be_read(world: Any, source: MemoryAlarms) -> None:
    source.down = "boom"
    id = await deploy(world, V1)
    await world.until(lambda: any(r.code == "ALARM" and "boom" in r.message for r in world.home.reasons(id)))
    source.down = ""
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_the_time_that_the_coordinator_was_away_is_no_alarms_silence(world: Any, source: MemoryAlarms) -> None:
    agent = world.agents["web-1"]
    agent.release.clear()
    id = await deploy(world, V1)
    await world.until(lambda: (id, "BeforeBlockTraffic") in agent.ran)
    await world.home.stop()
    row = await world.store.deployment(id)
    await world.store.write(Put(replace(row, alarms_unread_since=1.0)))
    await world.restart()
    agent.release.set()
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_without_a_deployment_nobody_is_asked(world: Any, source: MemoryAlarms) -> None:
    await world.ended(await deploy(world, V1))
    await world.until(lambda: not world.home.runs)
    asked = source.asked
    await world.restart()
    assert source.asked == asked


async def test_a_plan_names_what_would_stop_it(world: Any, source: MemoryAlarms) -> None:
    source.red["errors"] = "it burns"
    found = await plan(world.home, CreateDeployment("web", "production", V1))
    assert any("it burns" in problem["message"] for problem in found["problems"])  # type: ignore[union-attr]
