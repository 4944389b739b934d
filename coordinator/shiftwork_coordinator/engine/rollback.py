"""Whether a deployment that ended is rolled back, to which revision, and on which instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shiftwork_contract.resource import Shift, reversed_resource, revision_of
from shiftwork_coordinator.engine.alarms import ALARM_ACTIVE, ALARM_UNREADABLE
from shiftwork_coordinator.engine.decision import Rollback
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Deployment, Installed, Request, Target
from shiftwork_coordinator.model.snapshot import Snapshot
from shiftwork_coordinator.model.status import INSTANCE_TERMINATED, DeploymentStatus, TargetStatus

GONE = "no rollback: the originals are gone already; `shiftwork rollback` makes new instances of the revision before"


def wanted(deployment: Deployment, request: Request, status: DeploymentStatus) -> bool:
    """Whether an ended deployment asks for a rollback. A rollback is never rolled back itself; of what was deployed
    together none keeps what it did, whatever their groups say."""
    if deployment.creator == "codeDeployRollback" or not deployment.started_at:
        return False
    if deployment.together and status is not DeploymentStatus.SUCCEEDED:
        return True
    if status is DeploymentStatus.FAILED:
        return "failure" in deployment.rollback_on
    if deployment.error_code in (ALARM_ACTIVE, ALARM_UNREADABLE):
        return "alarm" in deployment.rollback_on
    return status is DeploymentStatus.STOPPED and _on_stop(request, deployment.rollback_on)


def _on_stop(request: Request, rollback_on: tuple[str, ...]) -> bool:
    return "stop" in rollback_on if request.stop_rollback is None else request.stop_rollback


def rollback(
    snapshot: Snapshot, targets: Mapping[str, Target], health: Mapping[str, bool]
) -> tuple[Rollback | None, str]:
    """The rollback and a note for people. There is none without a previous success or when nothing changed."""
    if any(target.role == "original" for target in targets.values()):
        retired = any(target.arranged is Arrangement.RETIRED for target in targets.values())
        return None, GONE if retired else "no rollback needed: the originals serve as before"
    fleets = [target for target in targets.values() if target.role]
    targets = {name: target for name, target in targets.items() if not target.role}
    if any(target.resource for target in targets.values()):
        return shifted_back(targets)
    if _failed(fleets) and not _failed(targets.values()):
        return None, "no rollback: no instance failed, only an Auto Scaling group did"
    revision = snapshot.last_good
    if revision is None:
        return None, "no rollback: the group has no earlier successful revision"
    skip = unneeded(targets, snapshot.installed, revision.identity, health)
    if len(skip) == len(targets):
        return None, "no rollback needed: no instance was changed"
    return Rollback(revision, skip), ""


def _failed(targets: Iterable[Target]) -> bool:
    return any(target.status is TargetStatus.FAILED for target in targets)


def shifted_back(targets: Mapping[str, Target]) -> tuple[Rollback | None, str]:
    """Resources whose traffic was shifted to its end go back; those that failed on the way gave it back already."""
    skip = {
        name: f"its traffic is on {target.resource.current}"
        for name, target in targets.items()
        if isinstance(target.resource, Shift) and not _stays_shifted(target)
    }
    if len(skip) == len(targets):
        return None, "no rollback needed: all traffic is where it was before"
    moved = [target.resource for name, target in targets.items() if name not in skip and target.resource]
    return Rollback(revision_of(reversed_resource(one, "") for one in moved), skip), ""


def _stays_shifted(target: Target) -> bool:
    """One that failed once its original was to go has kept its traffic on the replacement."""
    return target.status is TargetStatus.SUCCEEDED or target.arranged is Arrangement.RETIRED


def unneeded(
    targets: Mapping[str, Target], installed: Mapping[str, Installed], identity: str, health: Mapping[str, bool]
) -> dict[str, str]:
    """The instances that need nothing to be back on `identity`, and why."""
    return {
        name: target.error_message
        if target.error_code == INSTANCE_TERMINATED
        else f"already on {identity[:19]} and not left half-way by {target.deployment_id}"
        for name, target in targets.items()
        if not needs_rollback(target, installed.get(name), identity, health)
    }


def needs_rollback(target: Target, seen: Installed | None, identity: str, health: Mapping[str, bool]) -> bool:
    """What is installed differs, or the target failed on the way (its application may be stopped)."""
    if target.error_code == INSTANCE_TERMINATED:
        return False
    changed = seen is not None and seen.installed not in ("", identity)
    never_had_it = (seen is None or not seen.installed) and target.status is TargetStatus.SUCCEEDED
    touched = target.status is TargetStatus.FAILED and health.get(target.instance) is False
    return changed or never_had_it or touched
