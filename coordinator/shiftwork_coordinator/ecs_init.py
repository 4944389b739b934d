"""An existing service in the form that Shiftwork deploys: EXTERNAL controller, first task set, group. Pure.

AWS cannot give a service another controller, so a second service is made beside the first, in the same target group;
the first one is deleted when the second one serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

OF_SERVICE = (
    "desiredCount", "healthCheckGracePeriodSeconds", "schedulingStrategy", "enableECSManagedTags",
    "enableExecuteCommand",
)  # fmt: skip
OF_TASK_SET = (
    "taskDefinition", "networkConfiguration", "serviceRegistries", "capacityProviderStrategy", "launchType",
    "platformVersion",
)  # fmt: skip
"""With this controller AWS takes these with a task set, and not with the service."""


class Behind(msgspec.Struct, frozen=True):
    """A target group of the service, and what forwards to it; empty where nothing was found."""

    target_group: str
    listener: str = ""
    rule: str = ""


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """`notes` is what a person has to see to."""

    create_service: dict[str, Any]
    create_task_set: dict[str, Any]
    group: dict[str, Any]
    notes: tuple[str, ...]


def plan(service: Mapping[str, Any], behind: Sequence[Behind], name: str, *, scales: bool) -> Plan:
    """`service` as DescribeServices tells it; `name` is the new service's."""
    cluster = service["clusterArn"].rsplit("/", 1)[-1]
    return Plan(
        {"cluster": cluster, "serviceName": name, "deploymentController": {"type": "EXTERNAL"}, **_of_service(service)},
        {"cluster": cluster, "service": name, **_of_task_set(service), "scale": {"unit": "PERCENT", "value": 100.0}},
        {"platform": "ECS", "config": "ECSAllAtOnce", "ecs": _ecs(cluster, name, behind), "rollback": ["failure"]},
        tuple(_notes(service, behind, scales)),
    )


def _of_service(service: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: service[key] for key in OF_SERVICE if service.get(key) not in (None, False)}
    if service.get("propagateTags") not in (None, "NONE"):
        kept["propagateTags"] = service["propagateTags"]
    tags = [tag for tag in service.get("tags") or () if not tag["key"].startswith("aws:")]
    return kept | ({"tags": tags} if tags else {})


def _of_task_set(service: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: service[key] for key in OF_TASK_SET if service.get(key)}
    if "capacityProviderStrategy" in kept:
        kept.pop("launchType", None)
    keys = ("targetGroupArn", "containerName", "containerPort")
    balancers = [{k: entry[k] for k in keys if k in entry} for entry in service.get("loadBalancers") or ()]
    return kept | ({"loadBalancers": balancers} if balancers else {})


def _ecs(cluster: str, name: str, behind: Sequence[Behind]) -> dict[str, Any]:
    return {"cluster": cluster, "service": name, "load_balancers": [_pair(one) for one in behind]}


def _pair(one: Behind) -> dict[str, Any]:
    pair: dict[str, Any] = {"target_groups": [one.target_group, "SECOND-TARGET-GROUP"]}
    pair["listener"] = one.listener or "LISTENER"
    return pair | ({"rule": one.rule} if one.rule else {})


def _notes(service: Mapping[str, Any], behind: Sequence[Behind], scales: bool) -> list[str]:
    controller = (service.get("deploymentController") or {}).get("type", "ECS")
    notes = []
    if controller == "EXTERNAL":
        notes.append("the controller is EXTERNAL already: only the group is needed")
    if controller == "CODE_DEPLOY":
        notes.append("the load balancers are those of the primary task set: deploy nothing with CodeDeploy meanwhile")
    if not behind:
        notes.append("it has no load balancer with a target group: Shiftwork cannot shift its traffic")
    notes += [f"make a second target group like {one.target_group}, for SECOND-TARGET-GROUP" for one in behind]
    notes += [f"no listener was found that forwards to {one.target_group}" for one in behind if not one.listener]
    if service.get("schedulingStrategy") == "DAEMON":
        notes.append("DAEMON services cannot have this controller")
    if service.get("serviceConnectConfiguration"):
        notes.append("Service Connect does not work with this controller")
    if scales:
        notes.append("it scales by itself: register the new service as a scalable target, with the same policies")
    return notes
