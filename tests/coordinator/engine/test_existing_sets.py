"""Replacements that stand already: proven out of traffic before they are touched, and never in it by mistake."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.engine.test_blue_green import BLUE, FLEET, GREEN, World

from shiftwork_contract.resource import ExistingSets
from shiftwork_coordinator.engine.actions import Register
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.settings import Originals, Ready
from shiftwork_coordinator.model.snapshot import TrafficSeen
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

A, D, T = Arrangement, DeploymentStatus, TargetStatus
AWAY, IN, OUT = ["-green-1", "-green-2"], ["+green-1", "+green-2"], ["-blue-1", "-blue-2"]


class Standing(World):
    """GREEN are targets from the beginning, as the set that was replaced last time: healthy and out of traffic.
    `busy` are requests in flight, by instance."""

    def __init__(self, minimum: int = 1, **settings: Any) -> None:
        super().__init__(minimum, **settings)
        found = self.snapshot.targets
        fleet = replace(found[FLEET], resource=ExistingSets(FLEET))
        green = {name: Target("d-1", name, role="replacement") for name in GREEN}
        self.members, self.busy = (), dict[str, int]()
        health = dict.fromkeys((*BLUE, *GREEN), True)
        self.snapshot = replace(self.snapshot, targets={**found, FLEET: fleet, **green}, health=health)

    def _seen(self, name: str) -> TrafficSeen:
        seen, busy = super()._seen(name), self.busy.get(name, 0)
        return replace(seen, last=replace(seen.last, in_flight=busy)) if busy else seen

    def _do(self, action: Any) -> None:
        """Nothing is let in that has not passed ValidateService in this deployment."""
        if isinstance(action, Register) and action.instance in GREEN:
            assert self.snapshot.targets[action.instance].stage >= 3, (action, self.log)
        super()._do(action)

    def ran(self, name: str) -> set[int]:
        """The stages in which its agent was told to run something, but for the preparation."""
        return {stage for instance, stage in self.snapshot.commands if instance == name and stage}


def test_they_leave_traffic_first_whatever_they_were_in() -> None:
    world = Standing()
    ended = world.end()
    assert (ended.status, world.log) == (D.SUCCEEDED, ["provisioned", *AWAY, *IN, *OUT, "promoted", "retired"])
    assert (ended.floor, ended.batch, world.serving) == (1, 1, set(GREEN))
    assert world.statuses((*BLUE, *GREEN, FLEET)) == {T.SUCCEEDED}


def test_one_that_still_serves_a_request_is_waited_for() -> None:
    world = Standing()
    world.serving |= set(GREEN)
    world.sick, world.busy = set(GREEN), {"green-2": 3}
    decision = world.until(lambda d: any(r.code == "BLOCK" and r.target == "green-2" for r in d.reasons))
    assert any("3 requests in flight" in reason.message for reason in decision.reasons)
    assert not world.ran("green-1") | world.ran("green-2")
    world.busy, world.sick = {}, set()
    assert world.end().status is D.SUCCEEDED


def test_one_that_no_balancer_takes_out_fails_before_anything_is_changed() -> None:
    world = Standing()
    real = world._do
    world._do = lambda action: None if getattr(action, "instance", "") == "green-2" else real(action)  # type: ignore[method-assign]
    ended = world.end(most=2000)
    assert (ended.status, ended.error_code, world.serving) == (D.FAILED, "BLOCK_TRAFFIC", set(BLUE))
    assert "green-2 is to be changed, and not out of traffic in 90 s" in ended.error_message
    assert not world.ran("green-1") | world.ran("green-2")


def test_one_that_cannot_fetch_the_revision_stays_out_while_the_others_take_over() -> None:
    """What it has is the revision of the time before the last."""
    world, late = Standing(), ("green-2", 0)
    world.least = 1
    real = world._ran
    world._ran = lambda row: row if (row.instance, row.stage) == late else real(row)  # type: ignore[method-assign]
    world.until(lambda d: any(t.instance == "green-1" and t.stage == 2 for t in d.targets))
    world.fails = lambda instance, stage: (instance, stage) == late
    world.snapshot = replace(
        world.snapshot, commands={**world.snapshot.commands, late: real(world.snapshot.commands[late])}
    )
    assert (world.end().status, world.serving) == (D.SUCCEEDED, {"green-1"})
    assert world.statuses(("green-2",)) == {T.FAILED}


@pytest.mark.parametrize("ticks", range(1, 26))
def test_a_stop_at_any_moment_ends_with_one_set_in_traffic(ticks: int) -> None:
    world = Standing()
    world.stop_after(ticks)
    assert world.serving == (set(GREEN) if world.arranged is A.RETIRED else set(BLUE))


@pytest.mark.parametrize("stage", range(6))
def test_a_failure_at_every_stage_of_a_replacement_leaves_the_originals_serving(stage: int) -> None:
    world = Standing()
    world.fails = lambda instance, at: instance in GREEN and at == stage
    ended = world.end()
    failed = stage not in (2, 4)  # where agents run nothing
    assert (ended.status is D.FAILED, world.serving) == (failed, set(BLUE if failed else GREEN))
    if failed:
        assert world.arranged is A.ABANDONED and "originals serve as before" in ended.rollback_note


@pytest.mark.parametrize("stage", [1, 3])
def test_an_original_whose_scripts_fail_takes_everything_back(stage: int) -> None:
    world = Standing()
    world.fails = lambda instance, at: instance == "blue-1" and at == stage
    ended = world.end()
    assert (ended.status, world.serving, world.arranged) == (D.FAILED, set(BLUE), A.ABANDONED)


def test_a_red_word_while_the_originals_are_kept_turns_back() -> None:
    world = Standing(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    assert world.serving == set(GREEN)
    world.ask(stop="stop")
    assert (world.end().status, world.serving) == (D.STOPPED, set(BLUE))
    assert world.log[-5:] == ["+blue-1", "+blue-2", *AWAY, "abandoned"]


def test_it_waits_for_a_person_before_traffic_moves() -> None:
    world = Standing(ready=Ready(manual=True))
    decision = world.until(lambda d: any(r.code == "READY" for r in d.reasons))
    assert (decision.deployment.status, world.serving) == (D.READY, set(BLUE))
    world.ask(proceed_at=world.now)
    assert world.end().status is D.SUCCEEDED


@pytest.mark.parametrize("state", ["terminated", "stopped"])
def test_replacements_that_vanish_before_they_are_taken_end_it(state: str) -> None:
    world = Standing()
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(GREEN, state))
    assert (world.end().status, world.serving) == (D.FAILED, set(BLUE))
    assert world.statuses(GREEN) == {T.FAILED}


def test_a_plan_names_them() -> None:
    plan = foresee(Standing().snapshot, 1000.0)
    assert plan.ends == "Succeeded"
    assert [batch.targets for batch in plan.batches] == [GREEN]
    assert plan.steps[-4:] == (
        "put back into traffic: green-1",
        "put back into traffic: green-2",
        "take out of traffic: blue-1",
        "take out of traffic: blue-2",
    )
