"""Deployments as JSON, in CodeDeploy's field names. Pure: rows in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_coordinator.engine.batches import natural
from shiftwork_coordinator.engine.decision import Reason
from shiftwork_coordinator.engine.draft import MEMBERS
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.model.rows import Deployment, History, LifecycleEventRow, Target
from shiftwork_coordinator.model.snapshot import AgentSeen
from shiftwork_coordinator.model.status import DECIDED, ENDED, TargetStatus

View = dict[str, Any]
OVERVIEW = (
    TargetStatus.PENDING,
    TargetStatus.IN_PROGRESS,
    TargetStatus.SUCCEEDED,
    TargetStatus.FAILED,
    TargetStatus.SKIPPED,
    TargetStatus.READY,
)

NO_AGENT: View = {"connected": None, "lastSeen": None, "health": None, "connections": None}


class Seen(msgspec.Struct, frozen=True):
    """What only the running coordinator knows: why it waits, what serves, which agents are there; and `told`, the
    history, of which the view shows how traffic moved."""

    reasons: tuple[Reason, ...] = ()
    in_service: Mapping[str, bool | None] = {}
    agents: Mapping[str, AgentSeen] = {}
    told: Sequence[History] = ()


def deployment(row: Deployment, targets: Mapping[str, Target] | None = None, seen: Seen | None = None) -> View:
    """A deployment without its targets' details; `targets` fill the overview."""
    seen = seen or Seen()
    counted = {name: target for name, target in (targets or {}).items() if target.role in MEMBERS}
    return {
        "deploymentId": row.id,
        "applicationName": row.application,
        "deploymentGroupName": row.group,
        "deploymentConfigName": row.config.name,
        "computePlatform": row.platform,
        "deploymentType": row.deployment_type,
        "status": row.status,
        "creator": row.creator,
        "createdBy": row.created_by,
        "description": row.description,
        "together": list(row.together),
        "createTime": row.created_at,
        "startTime": row.started_at,
        "completeTime": row.completed_at,
        "revision": msgspec.to_builtins(row.revision),
        "previousRevision": msgspec.to_builtins(row.previous_revision),
        "parameters": row.parameters,
        "appspec": row.appspec,
        "appSpecContent": row.appspec_content,
        "deploymentOverview": _overview(counted),
        "errorInformation": _error(row.error_code or row.halted_code, row.error_message or row.halted_message),
        "rollbackInfo": {
            "rollbackDeploymentId": row.rolled_back_by,
            "rollbackTriggeringDeploymentId": row.rollback_of,
            "rollbackMessage": row.rollback_note,
        },
        "minimumHealthyHosts": row.floor,
        "inService": _count(row, seen.in_service),
        "minimumInService": row.least_in_service,
        "batch": row.batch,
        "batches": _batches(row, counted),
        "bakeUntil": row.bake_until,
        "trafficWeights": [_weight(line) for line in seen.told if line.kind == "weight"],
        "waiting": msgspec.to_builtins(list(seen.reasons)),
    }


def _count(row: Deployment, in_service: Mapping[str, bool | None]) -> int | None:
    if row.status in ENDED or not in_service:
        return None
    return sum(value is True for value in in_service.values())


def _overview(targets: Mapping[str, Target]) -> dict[str, int]:
    return {str(status): sum(t.status is status for t in targets.values()) for status in OVERVIEW}


def _batches(row: Deployment, targets: Mapping[str, Target]) -> int:
    """Batches so far and those still to come, if each takes as many as the floor allows."""
    waiting = sum(t.status is TargetStatus.PENDING and not t.role for t in targets.values())
    size = max(1, len(targets) - row.floor)
    return row.batch + -(-waiting // size)


def _weight(line: History) -> View:
    """The replacement's share of the traffic from this moment on, as it was seen to be in force."""
    return {"targetId": line.target, "weight": line.data["weight"], "at": line.at}


def _error(code: str, message: str) -> View | None:
    return {"code": code, "message": message} if code or message else None


def targets(
    row: Deployment, targets: Mapping[str, Target], events: Mapping[str, Mapping[str, LifecycleEventRow]], seen: Seen
) -> list[View]:
    """In natural order of their names."""
    watched = row.status not in ENDED
    return [
        _target(t, _order(row, t), events.get(name, {}), seen, watched)
        for name, t in sorted(targets.items(), key=_by_name)
    ]


def _order(row: Deployment, target: Target) -> list[str]:
    return [str(event) for event in events_of(row, target.role)]


def _by_name(item: tuple[str, Target]) -> list[tuple[int, str]]:
    return natural(item[0])


def _target(
    target: Target, order: list[str], events: Mapping[str, LifecycleEventRow], seen: Seen, watched: bool
) -> View:
    agent = seen.agents.get(target.instance, AgentSeen())
    untold = EventStatus.SKIPPED if target.status in DECIDED else EventStatus.PENDING
    return {
        "targetId": target.instance,
        "address": target.address,
        "instanceId": target.cloud_id,
        "role": target.role,
        "status": target.status,
        "batch": target.batch,
        "traffic": target.traffic,
        "weight": target.weight,
        "arranged": target.arranged,
        "resource": msgspec.to_builtins(target.resource),
        "inService": seen.in_service.get(target.instance),
        "agent": _agent(agent, watched) if target.resource is None else NO_AGENT,
        "requestsCut": target.cut,
        "startTime": target.started_at,
        "completeTime": target.completed_at,
        "errorInformation": _error(target.error_code, target.error_message),
        "lifecycleEvents": [_event(events.get(name) or LifecycleEventRow(name, untold)) for name in order],
    }


def _agent(seen: AgentSeen, watched: bool) -> View:
    """`connections` counts those that are established on the port that the group watches; null where nobody looks."""
    look = seen.quiet.quiet if seen.quiet and watched else None
    return {
        "connected": seen.connected,
        "lastSeen": seen.last_seen,
        "health": msgspec.to_builtins(seen.probe) if watched else None,
        "connections": look.established if look and look.known else None,
    }


def _event(row: LifecycleEventRow) -> View:
    return {
        "lifecycleEventName": row.event,
        "status": row.status,
        "startTime": row.started_at,
        "endTime": row.ended_at,
        "revision": row.revision,
        "diagnostics": msgspec.to_builtins(row.diagnostics),
    }
