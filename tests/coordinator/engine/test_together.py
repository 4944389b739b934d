"""Deployments that end together: rows in, decision out. The function under test has all its traffic moved already."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.together import companion
from shiftwork_coordinator.model.config import AllAtOnce
from shiftwork_coordinator.model.rows import Deployment, Request
from shiftwork_coordinator.model.snapshot import Companion, Snapshot
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

from .test_shift import NOW, asked, sees, snapshot

D, T = DeploymentStatus, TargetStatus
BACK = Companion("d-2", "back", "d-2 of bills: it burns")


def moved(*companions: Companion, **more: Any) -> Snapshot:
    """All done but for the companions; `deployment`, `request` change rows."""
    done = {"status": T.SUCCEEDED, "stage": 4, "weight": 1.0, "weight_since": 980.0, "completed_at": 985.0}
    found = snapshot("done", AllAtOnce(), sees(1.0), asked=asked(1.0), target=done, **more)
    return replace(found, companions=companions)


def ends(decision: Decision) -> str:
    return str(decision.deployment.status)


def test_one_without_companions_waits_for_nobody() -> None:
    decision = decide(moved(), NOW)
    assert (ends(decision), decision.deployment.arrived_at) == ("Succeeded", None)


@pytest.mark.parametrize(
    ("states", "end"),
    [
        (("under way",), "InProgress"),
        (("arrived", "under way"), "InProgress"),
        (("arrived", "arrived"), "Succeeded"),
        (("succeeded", "arrived"), "Succeeded"),
        (("succeeded", "under way"), "Succeeded"),
        (("arrived", "back"), "Stopped"),
        (("under way", "back"), "Stopped"),
    ],
)
def test_what_has_arrived_ends_with_its_companions(states: Any, end: str) -> None:
    before = moved(
        *(Companion(f"d-{n}", state, "why") for n, state in enumerate(states, 2)), deployment={"together": ("d-2",)}
    )
    decision = decide(before, NOW)
    assert (ends(decision), decision.rollback is not None) == (end, end == "Stopped")
    if end == "InProgress":
        assert decision.deployment.arrived_at == NOW
        assert [r.code for r in decision.reasons] == ["TOGETHER"]
        assert companion(decision.deployment).state == "arrived"


@pytest.mark.parametrize("rollback_on", [(), ("failure", "stop")])
def test_a_companion_that_goes_back_takes_this_one_along(rollback_on: Any) -> None:
    """Whatever the group says of rollbacks: that is what together means."""
    decision = decide(
        moved(BACK, deployment={"rollback_on": rollback_on, "arrived_at": 990.0, "together": ("d-2",)}), NOW
    )
    assert (ends(decision), decision.deployment.error_code) == ("Stopped", "TOGETHER")
    assert "d-2 of bills: it burns" in decision.deployment.error_message
    assert decision.rollback is not None


@pytest.mark.parametrize("rollback_on", [(), ("failure",)])
def test_the_one_that_began_it_keeps_nothing_either(rollback_on: Any) -> None:
    """Its alarm is red while it waits for the others, and its group rolls back on no alarm."""
    halted = {"halted_code": "ALARM_ACTIVE", "halted_message": "it burns"}
    decision = decide(moved(Companion("d-2", "arrived"), deployment={"rollback_on": rollback_on, **halted}), NOW)
    assert decision.rollback is None, "without companions the group has its way"
    bound = {"rollback_on": rollback_on, "together": ("d-2",), **halted}
    decision = decide(moved(Companion("d-2", "arrived"), deployment=bound), NOW)
    assert (ends(decision), decision.rollback is not None) == ("Stopped", True)


def test_a_shift_under_way_gives_its_traffic_back() -> None:
    before = replace(
        snapshot(seen=sees(0.1), asked=asked(0.1), target={"weight": 0.1, "weight_since": 980.0}), companions=(BACK,)
    )
    decision = decide(before, NOW)
    (target,) = decision.targets
    assert (target.status, target.weight) == (T.FAILED, 0.0)


def test_one_that_has_not_begun_never_does() -> None:
    begun = {"started_at": None, "status": D.CREATED, "batch": 0}
    before = snapshot("ready", deployment=begun, target={"status": T.PENDING, "batch": 0})
    decision = decide(replace(before, companions=(BACK,)), NOW)
    assert (ends(decision), decision.actions, decision.rollback) == ("Stopped", (), None)
    assert decision.deployment.started_at is None


def test_once_one_has_succeeded_nothing_halts_the_others() -> None:
    """Neither an operator nor a companion: else one would keep what another has given back."""
    stop = {"stop": "stop", "stop_by": "ann"}
    settled = moved(Companion("d-2", "succeeded"), BACK, request=stop, deployment={"arrived_at": 990.0})
    assert ends(decide(settled, NOW)) == "Succeeded"
    assert ends(decide(moved(Companion("d-2", "arrived"), request=stop), NOW)) == "Stopped"


ROW: Deployment = snapshot().deployment


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "under way"),
        ({"status": D.QUEUED}, "under way"),
        ({"arrived_at": 1.0}, "arrived"),
        ({"status": D.SUCCEEDED, "arrived_at": 1.0}, "succeeded"),
        ({"halted_code": "MANUAL_STOP", "halted_message": "stopped by ann", "arrived_at": 1.0}, "back"),
        ({"status": D.FAILED, "error_code": "X", "error_message": "broken"}, "back"),
        ({"status": D.STOPPED, "error_message": "not started"}, "back"),
    ],
)
def test_what_a_row_tells_its_companions(fields: Any, state: str) -> None:
    found = companion(replace(ROW, **fields))
    assert found.state == state
    assert (state == "back") is bool(found.why)


@pytest.mark.parametrize("begun", [True, False])
def test_the_one_that_began_it_is_named_whoever_else_was_taken_along(begun: bool) -> None:
    started = {} if begun else {"started_at": None, "status": D.CREATED, "batch": 0}
    along = companion(replace(decide(moved(BACK, deployment=started), NOW).deployment, id="d-3"))
    assert (along.state, along.along) == ("back", True)
    decision = decide(moved(along, BACK), NOW)
    assert decision.deployment.error_message == f"deployed together with {BACK.why}"


def test_a_request_is_heeded_while_the_others_are_under_way() -> None:
    before = moved(Companion("d-2", "under way"))
    decision = decide(replace(before, request=Request("d-1", stop="stop", stop_by="ann")), NOW)
    assert ends(decision) == "Stopped"
