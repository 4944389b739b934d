"""Shifting traffic: rows in, decision out. Times are seconds; now is 1000."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.engine.weights import after, pause, weights
from shiftwork_coordinator.model.config import (
    PREDEFINED,
    AllAtOnce,
    DeploymentConfig,
    MinimumHealthyHosts,
    TimeBasedCanary,
    TimeBasedLinear,
)
from shiftwork_coordinator.model.rows import Asked, Deployment, HookRun, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.snapshot import Shifted, Snapshot
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

NOW = 1000.0
CANARY, LINEAR = TimeBasedCanary(10, 300), TimeBasedLinear(10, 60)
STAGES = {"ready": 0, "before": 1, "shift": 2, "after": 3, "done": 4}
HOOKS = {"BeforeAllowTraffic": "check", "AfterAllowTraffic": "probe"}
D, T = DeploymentStatus, TargetStatus


def test_weights_rise_to_one() -> None:
    assert weights(AllAtOnce()) == (1.0,)
    assert weights(CANARY) == (0.1, 1.0)
    assert weights(LINEAR) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert weights(TimeBasedLinear(30, 60)) == (0.3, 0.6, 0.9, 1.0)
    assert (after(LINEAR, 0.3), after(LINEAR, 1.0), after(CANARY, 0.0)) == (0.4, 1.0, 0.1)
    assert (pause(CANARY), pause(AllAtOnce())) == (300, 0.0)


def test_the_nine_presets_of_lambda_are_there() -> None:
    names = {n.removeprefix("CodeDeployDefault.Lambda") for n, c in PREDEFINED.items() if c.platform == "Lambda"}
    canaries = {f"Canary10Percent{m}Minutes" for m in (5, 10, 15, 30)}
    linears = {"Linear10PercentEvery1Minute", *(f"Linear10PercentEvery{m}Minutes" for m in (2, 3, 10))}
    assert names == {"AllAtOnce", *canaries, *linears}


def snapshot(stage: str = "shift", traffic: Any = CANARY, seen: Shifted | None = None, **more: Any) -> Snapshot:
    """One function in the middle of its way; `target`, `deployment` change rows."""
    config = DeploymentConfig(
        "c", MinimumHealthyHosts("HOST_COUNT", 0), max_failed=0, traffic=traffic, platform="Lambda"
    )
    deployment = Deployment(
        "d-1", 1, "fn", "live", "g", Revision("sha256:a", "appspec:"), config, GroupSettings(platform="Lambda"), 0.0,
        status=D.IN_PROGRESS, platform="Lambda", deployment_type="BLUE_GREEN", functions=HOOKS, started_at=900.0,
        batch=1,
    )  # fmt: skip
    target = Target(
        "d-1", "orders", status=T.IN_PROGRESS, stage=STAGES[stage], stage_since=950.0, batch=1,
        resource=FunctionShift("orders", "orders", "live", "1", "2"),
    )  # fmt: skip
    return Snapshot(
        deployment=replace(deployment, **more.get("deployment", {})),
        targets={"orders": replace(target, **more.get("target", {})), **more.get("others", {})},
        epoch=1,
        request=Request("d-1", **more.get("request", {})),
        asked={("orders", "weight"): more["asked"]} if "asked" in more else {},
        shifted={"orders": seen} if seen else {},
        hook_runs={("orders", run.event): run for run in more.get("runs", ())},
    )


def asked(weight: float, at: float = 990.0, **more: Any) -> Asked:
    return Asked("d-1", "orders", "weight", weight, **({"asked_at": at} | more))


def sees(weight: float | None, at: float = 995.0, **more: Any) -> Shifted:
    return Shifted(weight, more.pop("ready", True), at, **more)


def run(event: str = "BeforeAllowTraffic", **more: Any) -> HookRun:
    return HookRun("d-1", "orders", event, f"d-1.orders.{event}", "check", wanted_at=960.0, **more)


def one(decision: Decision, before: Snapshot) -> Target:
    return {**before.targets, **{t.instance: t for t in decision.targets}}["orders"]


def reasons(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def test_it_waits_until_the_replacement_is_ready() -> None:
    decision = decide(snapshot("ready", seen=sees(0.0, ready=False, detail="version 2 is Pending")), NOW)
    assert reasons(decision) == ["READY_UP"]
    assert "version 2 is Pending" in decision.reasons[0].message


def test_an_answer_from_before_the_stage_says_nothing() -> None:
    assert reasons(decide(snapshot("ready", seen=sees(0.0, at=940.0)), NOW)) == ["READY_UP"]


def test_what_will_never_be_ready_fails_at_once() -> None:
    before = snapshot("ready", seen=sees(None, ready=False, fatal=True, detail="no such version"))
    assert (one(decide(before, NOW), before).status, one(decide(before, NOW), before).weight) == (T.FAILED, None)


def test_a_hook_is_stored_before_it_is_invoked() -> None:
    before = snapshot("before")
    decision = decide(before, NOW)
    assert [r.id for r in decision.hook_runs] == ["d-1.orders.BeforeAllowTraffic"]
    assert [a.verb for a in decision.actions] == []
    after_ = decide(replace(before, hook_runs={("orders", "BeforeAllowTraffic"): decision.hook_runs[0]}), NOW)
    assert [a.verb for a in after_.actions] == ["invoke"]


def test_an_invoked_hook_is_waited_for_and_not_invoked_again() -> None:
    decision = decide(snapshot("before", runs=[run(invoked_at=961.0)]), NOW)
    assert (reasons(decision), decision.actions) == (["HOOK"], ())


def test_a_failed_invocation_is_tried_again_later() -> None:
    decision = decide(snapshot("before", runs=[run(error="throttled", next_try=1002.0)]), NOW)
    assert (decision.actions, decision.wake_at) == ((), 1002.0)


def test_a_hook_that_says_failed_fails_the_target_before_any_traffic_moves() -> None:
    before = snapshot("before", runs=[run(status="Failed", message="bad schema")])
    target = one(decide(before, NOW), before)
    assert (target.status, target.error_code, target.weight) == (T.FAILED, "HOOK_EXECUTION_FAILURE", None)
    assert "bad schema" in target.error_message


def test_a_hook_has_an_hour() -> None:
    before = snapshot("before", runs=[replace(run(invoked_at=961.0), wanted_at=NOW - 3600)])
    assert one(decide(before, NOW), before).error_code == "HOOK_EXECUTION_FAILURE"


def test_an_event_without_a_function_is_passed() -> None:
    before = snapshot("before", deployment={"functions": {}})
    assert one(decide(before, NOW), before).weight == 0.1


def test_the_first_weight_is_wanted_at_once() -> None:
    before = snapshot()
    decision = decide(before, NOW)
    assert (one(decision, before).weight, one(decision, before).weight_since) == (0.1, None)
    assert [(a.verb, getattr(a, "weight", None)) for a in decision.actions] == [("weight", 0.1)]


WANTED = {"weight": 0.1, "traffic_since": 980.0}


def test_a_weight_counts_from_a_reading_asked_for_after_it_was_set() -> None:
    late = snapshot(target=WANTED, asked=asked(0.1), seen=sees(0.1, at=989.0))
    assert one(decide(late, NOW), late).weight_since is None
    good = snapshot(target=WANTED, asked=asked(0.1), seen=sees(0.1))
    assert one(decide(good, NOW), good).weight_since == NOW


HELD = {"weight": 0.1, "traffic_since": 680.0, "weight_since": 700.5}


def test_no_step_is_early_and_none_is_late() -> None:
    before = snapshot(target=HELD, asked=asked(0.1, 690.0), seen=sees(0.1))
    decision = decide(before, NOW)
    assert (reasons(decision), decision.wake_at) == (["SHIFT"], 1000.5)
    assert one(decide(before, 1000.5), before).weight == 1.0


def test_continue_promotes_at_once() -> None:
    before = snapshot(
        traffic=LINEAR, target=HELD | {"weight_since": 990.0}, request={"proceed_at": 999.0}, seen=sees(0.1)
    )
    assert one(decide(before, NOW), before).weight == 1.0


def test_an_earlier_continue_does_not() -> None:
    before = snapshot(
        traffic=LINEAR, target=HELD | {"weight_since": 990.0}, request={"proceed_at": 989.0}, seen=sees(0.1)
    )
    assert one(decide(before, NOW), before).weight == 0.1


def test_a_weight_that_drifts_is_set_again() -> None:
    before = snapshot(target=HELD, asked=asked(0.1, 690.0), seen=sees(0.0))
    assert [a.verb for a in decide(before, NOW).actions] == ["weight"]


def test_a_weight_that_cannot_be_told_is_asked_for_again_but_not_all_the_time() -> None:
    held = {"weight": 0.1, "traffic_since": 989.0}
    before = snapshot(target=held, asked=asked(0.1, 999.8), seen=sees(None, at=999.9, detail="not allowed to look"))
    decision = decide(before, NOW)
    assert (decision.actions, decision.wake_at) == ((), pytest.approx(1000.8))
    assert [a.verb for a in decide(before, 1000.8).actions] == ["weight"]


def test_a_weight_that_is_never_in_force_fails() -> None:
    before = snapshot(
        target={"weight": 0.1, "traffic_since": NOW - 301}, asked=asked(0.1, error="denied", asked_at=None)
    )
    target = one(decide(before, NOW), before)
    assert (target.status, target.error_code, target.weight) == (T.FAILED, "TRAFFIC_SHIFT", 0.0)
    assert "denied" in target.error_message


@pytest.mark.parametrize("why", [{"request": {"stop": "stop"}}, {"deployment": {"halted_code": "ALARM_ACTIVE"}}])
def test_a_stop_and_an_alarm_give_all_traffic_back(why: dict[str, Any]) -> None:
    before = snapshot(target=HELD, asked=asked(0.1, 690.0), seen=sees(0.1), **why)
    decision = decide(before, NOW)
    assert (one(decision, before).status, one(decision, before).weight) == (T.FAILED, 0.0)
    assert [(a.verb, getattr(a, "weight", None)) for a in decision.actions] == [("weight", 0.0)]
    assert decision.deployment.status is D.IN_PROGRESS, "the end waits until the traffic is back"
    assert decision.rollback is None


def test_it_ends_when_the_traffic_is_back() -> None:
    back = {"status": T.FAILED, "weight": 0.0, "traffic_since": 990.0, "completed_at": 990.0}
    before = snapshot(
        target=back, asked=asked(0.0, 991.0), seen=sees(0.0),
        deployment={"halted_code": "ALARM_ACTIVE", "halted_at": 990.0, "rollback_on": ("alarm",)},
    )  # fmt: skip
    decision = decide(before, NOW)
    assert (decision.deployment.status, decision.rollback) == (D.STOPPED, None)
    assert "where it was before" in decision.deployment.rollback_note
    assert [(h.target, h.data) for h in decision.history if h.kind == "weight"] == [("orders", {"weight": 0.0})]


def test_one_that_fails_stops_the_others_and_those_that_were_done_are_rolled_back() -> None:
    bills = FunctionShift("bills", "bills", "live", "4", "5")
    done = Target(
        "d-1", "bills", status=T.SUCCEEDED, stage=4, batch=1, resource=bills, weight=1.0, weight_since=980.0,
        traffic_since=970.0, completed_at=985.0,
    )  # fmt: skip
    failed = {"status": T.FAILED, "weight": 0.0, "traffic_since": 990.0, "completed_at": 990.0}
    before = snapshot(
        target=failed, asked=asked(0.0, 991.0), seen=sees(0.0), others={"bills": done},
        deployment={"rollback_on": ("failure",), "halted_code": "HEALTH_CONSTRAINTS", "halted_at": 991.0},
    )  # fmt: skip
    before = replace(
        before,
        asked={**before.asked, ("bills", "weight"): Asked("d-1", "bills", "weight", 1.0, asked_at=975.0)},
        shifted={**before.shifted, "bills": sees(1.0)},
    )
    decision = decide(before, NOW)
    assert decision.deployment.status is D.FAILED
    assert decision.rollback is not None
    assert set(decision.rollback.skip) == {"orders"}


def test_all_of_it_succeeds() -> None:
    end = {"weight": 1.0, "traffic_since": 900.0, "weight_since": 950.0}
    before = snapshot(
        "after",
        target=end,
        asked=asked(1.0, 905.0),
        seen=sees(1.0),
        runs=[run("AfterAllowTraffic", status="Succeeded")],
    )
    decision = decide(before, NOW)
    assert (one(decision, before).status, decision.deployment.status) == (T.SUCCEEDED, D.SUCCEEDED)
    assert decision.last_good


def test_a_plan_foresees_every_step() -> None:
    before = snapshot("ready", traffic=LINEAR, deployment={"status": D.CREATED, "started_at": None, "batch": 0})
    before = replace(before, targets={"orders": replace(before.targets["orders"], status=T.PENDING, batch=0)})
    assert foresee(before, NOW).ends == "Succeeded"
