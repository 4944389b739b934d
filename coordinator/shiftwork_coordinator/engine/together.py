"""Deployments that were created together end together: all Succeeded, or none keeps what it did.

A deployment that has nothing left to do has *arrived* and waits for its companions. When all have, each ends Succeeded,
and the first that did has settled it: nothing halts the others any more. When one ends badly, or is on its way there,
the others halt and are rolled back. So a companion that is still to be rolled back has never ended, and whoever
restarts finds it among the active ones.
"""

from __future__ import annotations

from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.snapshot import Companion
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus

TOGETHER = "TOGETHER"
"""What a deployment was halted for by a companion's end."""


def companion(row: Deployment) -> Companion:
    """What a deployment's row says to those that were created with it."""
    if row.status is DeploymentStatus.SUCCEEDED:
        return Companion(row.id, "succeeded")
    if row.halted_code or row.status in ENDED:
        why = row.error_message or row.halted_message or row.error_code or row.halted_code
        along = TOGETHER in (row.halted_code, row.error_code)
        return Companion(row.id, "back", f"{row.id} of {row.group}: {why}", along)
    return Companion(row.id, "under way" if row.arrived_at is None else "arrived")


def settled(draft: Draft) -> bool:
    return any(one.state == "succeeded" for one in draft.snapshot.companions)


def gone_back(draft: Draft) -> str:
    """Why none of them may keep what it did, from the one that began it; empty while that is open."""
    back = [one for one in draft.snapshot.companions if one.state == "back"]
    return "" if settled(draft) or not back else min(back, key=lambda one: one.along).why


def heed(draft: Draft) -> None:
    if not draft.halted and (why := gone_back(draft)):
        draft.halt(TOGETHER, f"deployed together with {why}")


def arrived(draft: Draft) -> bool:
    """Whether all have; notes that this one has."""
    if draft.deployment.arrived_at is None and draft.snapshot.companions:
        draft.update(arrived_at=draft.now)
    missing = [c.id for c in draft.snapshot.companions if c.state not in ("arrived", "succeeded")]
    if missing and not settled(draft):
        others = ", ".join(missing)
        draft.wait("TOGETHER", f"done; waits for {others}, deployed together", since=draft.deployment.arrived_at)
        return False
    return True
