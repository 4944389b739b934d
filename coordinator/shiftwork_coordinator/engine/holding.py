"""The groups that launch a deployment's instances: held still meanwhile, and as before in the end.

No instance is taken before every group is held, so that none is launched or ended behind the floor's back; a group is
let go when all instances are decided, whatever became of them.
"""

from __future__ import annotations

from shiftwork_coordinator.engine import blue_green
from shiftwork_coordinator.engine import shift as shifting
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.itinerary import StageKind
from shiftwork_coordinator.engine.outcome import DONE, WAIT, Outcome
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.status import DECIDED, TargetStatus


def begin(draft: Draft) -> None:
    """Groups, and originals that are to be replaced, are under way from the start."""
    for fleet in (*draft.fleets(), *draft.with_role("original")):
        draft.set(fleet, status=TargetStatus.IN_PROGRESS, started_at=draft.now)


def held(draft: Draft) -> bool:
    """Whether instances may be taken. Why not is said by the stage that a group is in."""
    return all(t.status is TargetStatus.IN_PROGRESS and _past_first(draft, t) for t in draft.fleets())


def _past_first(draft: Draft, fleet: Target) -> bool:
    return draft.stage(fleet).kind is not StageKind.ARRANGE


def follow(draft: Draft, fleet: Target) -> Outcome:
    if draft.stage(fleet).role:
        return blue_green.follow(draft, fleet)
    return DONE if all(t.status in DECIDED for t in draft.members()) else WAIT


def shift(draft: Draft, target: Target) -> Outcome:
    return blue_green.move(draft, target) if target.role == "fleet" else shifting.shift(draft, target)


def heed(draft: Draft) -> None:
    """A group that cannot be held, or let go, ends the deployment; so does an original that does not leave traffic."""
    besides = (*draft.fleets(), *draft.with_role("original"))
    failed = next((t for t in besides if t.status is TargetStatus.FAILED), None)
    if failed is not None and not draft.halted:
        draft.halt(failed.error_code, f"{failed.instance}: {failed.error_message}")
