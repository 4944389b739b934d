"""What triggers tell, in the shape of CodeDeploy's messages ("JSON data formats for triggers" in its guide). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from shiftwork_coordinator.model.rows import Deployment, History, LifecycleEventRow, Target
from shiftwork_coordinator.model.settings import Trigger, TriggerEvent

Events = Mapping[str, Mapping[str, LifecycleEventRow]]
OF_DEPLOYMENTS: Mapping[str, TriggerEvent] = {
    "Succeeded": "DeploymentSuccess", "Failed": "DeploymentFailure", "Stopped": "DeploymentStop",
    "Ready": "DeploymentReady",
}  # fmt: skip
OF_INSTANCES: Mapping[str, TriggerEvent] = {
    "InProgress": "InstanceStart", "Succeeded": "InstanceSuccess", "Failed": "InstanceFailure",
    "Ready": "InstanceReady",
}  # fmt: skip
SUBJECT = 100
"""Characters that SNS takes."""


class Notice(msgspec.Struct, frozen=True):
    """For one topic, to be sent once."""

    topic: str
    subject: str
    message: str


def notices(
    deployment: Deployment, targets: Mapping[str, Target], told: Sequence[History], events: Events
) -> list[Notice]:
    """What the group's triggers want to know of `told`, in order."""
    wanted = [(line, event) for line in told if (event := _event(deployment, targets, line)) is not None]
    return [
        _notice(trigger, event, deployment, targets, line, events)
        for line, event in wanted
        for trigger in deployment.settings.triggers
        if event in trigger.events
    ]


def _event(deployment: Deployment, targets: Mapping[str, Target], line: History) -> TriggerEvent | None:
    status = str(line.data.get("status", ""))
    if line.kind == "target":
        of_host = line.target in targets and targets[line.target].resource is None
        return OF_INSTANCES.get(status) if of_host else None
    if line.kind != "deployment":
        return None
    if status == "InProgress" and line.at == deployment.started_at:
        return "DeploymentRollback" if deployment.rollback_of else "DeploymentStart"
    return OF_DEPLOYMENTS.get(status)


def _notice(
    trigger: Trigger,
    event: TriggerEvent,
    deployment: Deployment,
    targets: Mapping[str, Target],
    line: History,
    events: Events,
) -> Notice:
    region, account = trigger.sns.split(":")[3:5]
    head = {"region": region, "accountId": account, "eventTriggerName": trigger.name, "deploymentId": deployment.id}
    if line.target:
        body = _of_instance(targets[line.target], line, events.get(line.target, {}), f"{region}:{account}")
    else:
        body = _of_deployment(deployment, targets, str(line.data["status"]))
    subject = f"{event} {deployment.application}/{deployment.group} {line.target or deployment.id}"
    return Notice(trigger.sns, subject[:SUBJECT], msgspec.json.encode({**head, **body}).decode())


def _of_deployment(deployment: Deployment, targets: Mapping[str, Target], status: str) -> dict[str, Any]:
    """The overview and the error are JSON within JSON, as CodeDeploy has them."""
    counted = [target for target in targets.values() if target.role in ("", "replacement")]
    overview = {str(s): sum(t.status == s for t in counted) for s in ("Pending", "InProgress", "Succeeded", "Failed")}
    overview |= {"Skipped": sum(t.status == "Skipped" for t in counted)}
    error = {"ErrorCode": deployment.error_code, "ErrorMessage": deployment.error_message}
    of = {"RollbackTriggeringDeploymentId": deployment.rollback_of} if deployment.rollback_of else None
    return {
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group,
        "createTime": _moment(deployment.created_at),
        "completeTime": _moment(deployment.completed_at),
        "deploymentOverview": msgspec.json.encode(overview).decode(),
        "status": status.upper(),
        "errorInformation": msgspec.json.encode(error).decode() if deployment.error_code else None,
        "rollbackInformation": of,
    }


def _of_instance(target: Target, line: History, events: Mapping[str, LifecycleEventRow], place: str) -> dict[str, Any]:
    arn = f"arn:aws:ec2:{place}:instance/{target.cloud_id}" if target.cloud_id else target.instance
    return {
        "instanceId": arn,
        "lastUpdatedAt": f"{line.at:.3f}",
        "instanceStatus": str(line.data["status"]),
        "lifecycleEvents": [
            {
                "LifecycleEvent": row.event,
                "LifecycleEventStatus": str(row.status),
                "StartTime": f"{row.started_at or 0.0:.3f}",
                "EndTime": f"{row.ended_at or 0.0:.3f}",
            }
            for row in events.values()
        ],
    }


def _moment(at: float | None) -> str | None:
    """Such as `Fri Nov 06 16:14:11 UTC 2015`."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
