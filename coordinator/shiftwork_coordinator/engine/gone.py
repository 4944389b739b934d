"""Targets whose instance does not run any more: resolved at once, not when silence has lasted long enough.

One that nothing has touched is Skipped, one that was under change has failed: a revision that gets instances ended by
their health checks must not look like a fleet that shrank. What was terminated counts no more, unless it failed: the
floor is held over those that are there. What is stopped goes on counting, as in CodeDeploy. In blue/green a replacement
that goes has failed, and an original that goes needs not be taken out of traffic any more.
"""

from __future__ import annotations

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_coordinator.engine import targets, verdict
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.outcome import Failed
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.status import INSTANCE_STOPPED, INSTANCE_TERMINATED, TargetStatus

T = TargetStatus
STOPPED = frozenset({"stopping", "stopped"})


def heed(draft: Draft) -> None:
    for target in draft.targets.values():
        state = draft.snapshot.gone.get(target.instance)
        if state is not None and target.status not in (T.FAILED, T.SKIPPED):
            _resolve(draft, target, state)
    _lower_floor(draft)


def _resolve(draft: Draft, target: Target, state: str) -> None:
    code = INSTANCE_STOPPED if state in STOPPED else INSTANCE_TERMINATED
    what = f"{target.cloud_id or target.instance} is {state} in EC2"
    if target.status is T.SUCCEEDED:
        if code == INSTANCE_TERMINATED and not target.role and not target.error_code:
            _let_go(draft, draft.set(target, error_code=code, error_message=f"{what}, after it was updated"))
            draft.tell("gone", target.instance, message=f"{what}, after it was updated")
    elif target.role == "replacement" or (not target.role and targets.was_touched(draft, target)):
        targets.fail(draft, target, Failed(code, f"{what}, while it was changed"))
        _let_go(draft, draft.targets[target.instance])
    else:
        _skip(draft, target, code, f"{what}: nothing was changed there")


def _skip(draft: Draft, target: Target, code: str, why: str) -> None:
    targets.close_event(draft, target, EventStatus.SKIPPED, why)
    ended = {"status": T.SKIPPED, "completed_at": draft.now, "error_code": code, "error_message": why}
    target = draft.set(target, cancel=target.cancel or "stop", **ended)
    targets.settle_traffic(draft, target, touched=False)
    _let_go(draft, draft.targets[target.instance])


def _let_go(draft: Draft, target: Target) -> None:
    """Of the balancers nothing more is wanted for what will not come back, or was to leave them anyway."""
    if target.traffic and (target.error_code == INSTANCE_TERMINATED or target.role == "original"):
        draft.set(target, traffic="", traffic_since=draft.now)
    draft.reassess(target)


def _lower_floor(draft: Draft) -> None:
    """For fewer than there were at the start. A count of hosts stays, and may now be out of reach."""
    total, were = draft.size(), len(draft.members())
    if draft.halted or total >= were:
        return
    floor = min(draft.deployment.floor, draft.deployment.config.minimum_healthy_hosts.of(total))
    if floor != draft.deployment.floor:
        draft.update(floor=floor)
        draft.tell("floor", minimum=floor, total=total)
    if draft.with_status(T.PENDING) and (problem := verdict.invalid(total, floor)):
        draft.halt(verdict.HEALTH_CONSTRAINTS, f"{were - total} instances were terminated: {problem}")
