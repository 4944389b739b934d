"""One target's way through its itinerary."""

from __future__ import annotations

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.lifecycle import BLOCK_TRIO, EventStatus, LifecycleEvent
from shiftwork_coordinator.engine import shift, stages
from shiftwork_coordinator.engine.draft import MEMBERS, Draft
from shiftwork_coordinator.engine.itinerary import StageKind, comes_back, leaves_service
from shiftwork_coordinator.engine.outcome import STOPPED, WAIT, Failed
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.status import INSTANCE_TERMINATED, CommandStatus, TargetStatus

OURS = (StageKind.BLOCK, StageKind.ALLOW, StageKind.INVOKE, StageKind.SHIFT, StageKind.ARRANGE)
"""Stages whose event the coordinator itself carries out."""
LEFT_SERVICE = "LEFT_SERVICE"
VALIDATE = LifecycleEvent.VALIDATE_SERVICE


def advance(draft: Draft, instance: str) -> None:
    """Takes the target as far as it can go now."""
    while (target := draft.targets[instance]).status in (TargetStatus.PENDING, TargetStatus.IN_PROGRESS):
        if target.status is TargetStatus.PENDING and draft.stage(target).kind is not StageKind.PREPARE:
            return
        outcome = stages.run(draft, target)
        target = draft.targets[instance]
        if outcome is WAIT:
            return
        if outcome is STOPPED:
            stop(draft, target)
        elif isinstance(outcome, Failed):
            fail(draft, target, outcome)
        else:
            _next(draft, target)
    if target.status is TargetStatus.SUCCEEDED and target.role in MEMBERS and comes_back(draft.stages):
        _still_in_service(draft, target)


def _next(draft: Draft, target: Target) -> None:
    close_event(draft, target, EventStatus.SUCCEEDED)
    if target.stage + 1 < len(draft.stages_of(target)):
        draft.enter(target, target.stage + 1)
        if target.role == "fleet":  # its instances wait for that, and were looked at before it
            draft.wake(draft.now)
    else:
        target = draft.enter(target, target.stage + 1)
        target = draft.set(target, status=TargetStatus.SUCCEEDED, completed_at=draft.now)
        draft.set_health(target, True)
        draft.reassess(target)


def close_event(draft: Draft, target: Target, status: EventStatus, message: str = "") -> None:
    """Ends the traffic event of a stage that the coordinator itself carries out."""
    stage = draft.stage(target)
    if stage.kind not in OURS or not stage.events:
        return
    if stage.kind is StageKind.INVOKE and draft.hook_run(target, stage.events[0]) is None:
        return
    code = ErrorCode.SUCCESS if status is EventStatus.SUCCEEDED else ErrorCode.UNKNOWN_ERROR
    began = target.traffic_since if target.traffic else target.stage_since
    name = stage.events[0]
    draft.event(target, name, status, started_at=began, ended_at=draft.now, diagnostics=Diagnostics(code, "", message))


def fail(draft: Draft, target: Target, why: Failed) -> None:
    close_event(draft, target, EventStatus.FAILED, why.message)
    touched = was_touched(draft, target)
    target = draft.set(
        target,
        status=TargetStatus.FAILED,
        completed_at=draft.now,
        error_code=why.code,
        error_message=why.message,
        cancel="stop",
    )
    if touched:
        draft.set_health(target, False)
    settle_traffic(draft, target, touched=touched)
    draft.reassess(target)


def stop(draft: Draft, target: Target) -> None:
    """Ends a target whose deployment was stopped or halted: Skipped when nothing changed on it."""
    close_event(draft, target, EventStatus.SKIPPED, "the deployment was stopped")
    touched = was_touched(draft, target)
    target = draft.set(
        target,
        status=TargetStatus.FAILED if touched else TargetStatus.SKIPPED,
        completed_at=draft.now,
        error_code=draft.deployment.halted_code if touched else "",
        error_message=f"stopped before {_upcoming(draft, target)}",
        cancel=target.cancel or "stop",
    )
    if touched:
        draft.set_health(target, False)
    settle_traffic(draft, target, touched=touched)
    draft.reassess(target)


def _upcoming(draft: Draft, target: Target) -> str:
    row = draft.command(target)
    events = list(draft.stage(target).events)
    left = events[len(row.ran) :] if row else events
    return str(left[0]) if left else "it was started"


def was_touched(draft: Draft, target: Target) -> bool:
    """Whether anything after AfterBlockTraffic began on it (without traffic control: anything at all).

    A command whose end was never heard may have begun anything.
    """
    if target.weight is not None or target.arranged is not None:
        return True
    if target.role == "original":
        return False
    for (instance, stage), row in draft.snapshot.commands.items():
        if instance != target.instance or stage < leaves_service(draft.stages):
            continue
        began = {*row.ran, row.running} - {"", *BLOCK_TRIO}
        if began or row.ended_at is None:
            return True
    return False


def validated(draft: Draft, target: Target) -> bool:
    """Whether ValidateService passed: something came after it, or its command was cancelled right behind it."""
    if any(s.kind is StageKind.ALLOW for s in draft.stages[: target.stage + 1]):
        return True
    row = draft.command(target)
    if row is None or row.status is not CommandStatus.SKIPPED or VALIDATE not in row.ran:
        return False
    return row.ran[-1] != VALIDATE or draft.snapshot.request.stop != "now"


def settle_traffic(draft: Draft, target: Target, *, touched: bool) -> None:
    """Back into traffic only what nothing has touched, or what passed ValidateService and was taken back already; a
    replacement that never served is nobody's to take back."""
    shift.settle_weight(draft, target)
    if not target.traffic or target.kept_out or (target.role == "replacement" and target.traffic == "out"):
        return
    safe = not touched or (validated(draft, target) and target.error_code != "HEALTH_CHECK")
    wanted = "in" if safe else "out"
    if wanted != target.traffic:
        draft.set(target, traffic=wanted, traffic_since=draft.now)


def _still_in_service(draft: Draft, target: Target) -> None:
    """A target updated by this deployment that leaves service before its end counts as failed."""
    service = draft.service[target.instance]
    if service.value is not False or target.kept_out or target.error_code == INSTANCE_TERMINATED:
        return
    draft.set_health(target, False)
    draft.set(
        target,
        status=TargetStatus.FAILED,
        error_code=LEFT_SERVICE,
        error_message=f"left service after it was updated: {service.why}",
    )
