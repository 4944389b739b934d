"""Original and replacement: how they are to stand, the waits that a person may end, and the way back from anywhere.

The arrangement that is wanted stands in the target's row and is asserted until the end. A target that failed or was
stopped gives its traffic back first, and abandons its replacement when a reading shows that.
"""

from __future__ import annotations

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_coordinator.engine import blue_green
from shiftwork_coordinator.engine.actions import Arrange
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.itinerary import StageKind
from shiftwork_coordinator.engine.outcome import DONE, STOPPED, WAIT, Failed, Outcome
from shiftwork_coordinator.engine.shift import ask, in_force, is_back, promoted_since
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

READY_TIMEOUT = "READY_TIMEOUT"
SCALING = "AUTO_SCALING_CONFIGURATION"
FAILURES = {"": "ECS_UPDATE_ERROR", "fleet": SCALING}
"""CodeDeploy's codes, by the target's role."""
ASK_AGAIN = 5.0
"""Seconds until an arrangement that does not show is asked for again: to ask is cheap, and may be repeated."""
REFUSALS = 3
"""Refusals in a row, each of a kind that only a person can mend, after which a target is given up."""
LENGTHY = (Arrangement.PROVISIONED, Arrangement.RETIRED)
"""Instances or tasks start, or end after their last request: that has the patience of `steady_within`."""
ENDED_BADLY = (TargetStatus.FAILED, TargetStatus.SKIPPED)


def arrange(draft: Draft, target: Target) -> Outcome:
    stage = draft.stage(target)
    wanted = stage.wanted
    assert wanted is not None
    if (draft.stopping or draft.halted) and wanted is not Arrangement.RETIRED:
        return STOPPED
    if target.arranged is not wanted:
        draft.set(target, arranged=wanted, arranged_since=draft.now)
        for event in stage.events:
            draft.event(target, event, EventStatus.IN_PROGRESS, started_at=draft.now)
        return WAIT
    if _holds(draft, target):
        return DONE
    return _awaited(draft, target, wanted)


def _awaited(draft: Draft, target: Target, wanted: Arrangement) -> Outcome:
    seen = draft.snapshot.shifted.get(target.instance)
    asked = draft.snapshot.asked.get((target.instance, "arrange"))
    asked_at = _asked_at(draft, target)
    if seen is not None and seen.fatal and asked_at is not None and seen.asked_at >= asked_at:
        return Failed(FAILURES[target.role], seen.detail)
    if asked is not None and asked.refused and asked.tries >= REFUSALS and asked.value is wanted:
        return Failed(FAILURES[target.role], asked.error)
    why = (asked.error if asked else "") or (seen.detail if seen else "") or "it was asked for"
    limits = draft.limits
    within = limits.steady_within if wanted in LENGTHY else limits.allow_within
    until = target.arranged_since + within
    if draft.now >= until:
        return Failed("TIMEOUT", f"not {wanted} within {within:g} s: {why}")
    draft.wait("ARRANGE", f"not {wanted} yet: {why}", target.instance, since=target.arranged_since, until=until)
    return WAIT


def hold(draft: Draft, target: Target) -> Outcome:
    """Before traffic moves: until a person says so, where the group wants that. After it has moved: for as long as the
    originals are kept. A rollback waits for neither."""
    if draft.stopping or draft.halted:
        return STOPPED
    settings = draft.deployment.settings
    if draft.stage(target).wanted is Arrangement.RETIRED:
        return _keep_originals(draft, target, _keep_for(draft))
    if not _by_hand(draft) or promoted_since(draft, target.stage_since):
        return DONE
    until = target.stage_since + settings.ready.wait
    if draft.now >= until:
        draft.halt(READY_TIMEOUT, f"nobody continued it within {settings.ready.wait:g} s")
        draft.wake(draft.now)
        return STOPPED
    text = "the replacement is ready; `shiftwork continue` moves the traffic"
    draft.wait("READY", text, target.instance, since=target.stage_since, until=until)
    return WAIT


def _keep_for(draft: Draft) -> float:
    if draft.deployment.rollback_of:
        return 0.0
    bake = draft.deployment.config.bake if draft.with_role("original") else 0.0
    return max(draft.deployment.settings.originals.keep_for, bake)


def _keep_originals(draft: Draft, target: Target, seconds: float) -> Outcome:
    until = target.stage_since + seconds
    if draft.now >= until or promoted_since(draft, target.stage_since):
        return DONE
    draft.wait(
        "ORIGINALS", "the originals are kept for a while", target.instance, since=target.stage_since, until=until
    )
    return WAIT


def note_ready(draft: Draft) -> None:
    """The deployment is Ready while one of its targets waits for a person."""
    waits = any(t.status is TargetStatus.IN_PROGRESS and _waits_for_person(draft, t) for t in draft.targets.values())
    if waits and not draft.halted:
        draft.set_status(DeploymentStatus.READY)
    elif draft.deployment.status is DeploymentStatus.READY:
        draft.set_status(DeploymentStatus.IN_PROGRESS)


def _waits_for_person(draft: Draft, target: Target) -> bool:
    stage = draft.stage(target)
    return stage.kind is StageKind.HOLD and stage.wanted is None and _by_hand(draft)


def _by_hand(draft: Draft) -> bool:
    return draft.deployment.settings.ready.manual and not draft.deployment.rollback_of


def assert_arranged(draft: Draft, target: Target) -> None:
    """Asks for the wanted arrangement when it was not asked yet, and again while later readings do not show it."""
    target = _abandoned(draft, target)
    if target.arranged is None:
        return
    wanted = Arrange(target.instance, target.arranged)
    ask(draft, wanted, _asked_at(draft, target), ASK_AGAIN, shown=_holds(draft, target))


def _abandoned(draft: Draft, target: Target) -> Target:
    """A target that ended badly: once its traffic is back on the original, its replacement goes."""
    over = target.arranged in (None, Arrangement.ABANDONED, Arrangement.RETIRED)
    if over or target.status not in ENDED_BADLY or not _traffic_is_back(draft, target):
        return target
    return draft.set(target, arranged=Arrangement.ABANDONED, arranged_since=draft.now)


def _traffic_is_back(draft: Draft, target: Target) -> bool:
    if target.role == "fleet" and not blue_green.idle(draft):
        return False
    return is_back(draft, target)


def unsettled(draft: Draft, target: Target) -> bool:
    """Whether the last word about its weight or arrangement is not in force yet."""
    target = draft.targets[target.instance]
    weight = target.weight is not None and not in_force(draft, target)
    ended_badly = target.status in ENDED_BADLY and target.arranged not in (None, Arrangement.RETIRED)
    return weight or (ended_badly and not (target.arranged is Arrangement.ABANDONED and _holds(draft, target)))


def _holds(draft: Draft, target: Target) -> bool:
    asked_at, seen = _asked_at(draft, target), draft.snapshot.shifted.get(target.instance)
    return asked_at is not None and seen is not None and seen.asked_at >= asked_at and target.arranged in seen.holds


def _asked_at(draft: Draft, target: Target) -> float | None:
    row = draft.snapshot.asked.get((target.instance, "arrange"))
    if row is None or row.asked_at is None or row.asked_at < target.arranged_since or row.value != target.arranged:
        return None
    return row.asked_at
