"""A service as AWS describes it: which of its task sets is the original, which the replacement. Pure.

The replacement carries the deployment's token as its external id. The original is the one that was primary at creation;
where that is not known (a rollback), it is the primary that is not ours, and once ours is the primary, the other one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from shiftwork_contract.appspec_ecs import Capacity, Network, Pair, ServiceShift
from shiftwork_contract.errors import InvalidRequest

ECS_SERVICE, BALANCING = "INVALID_ECS_SERVICE", "ELASTIC_LOAD_BALANCING_INVALID"
"""CodeDeploy's codes for a service, or its load balancers, that cannot be deployed to."""
NOTE = "shiftwork:scaling"
"""The tag on a service whose scaling is suspended by a deployment: what was suspended before."""


class TaskSet(msgspec.Struct, frozen=True):
    """`running` None = AWS does not tell. `groups` are the target groups that its tasks are in."""

    arn: str
    id: str
    status: str
    mark: str
    definition: str
    groups: tuple[str, ...]
    running: int | None
    pending: int
    stability: str
    described: Mapping[str, Any]

    @property
    def primary(self) -> bool:
        return self.status == "PRIMARY"


class Standing(msgspec.Struct, frozen=True):
    """One service at one moment. `note` is what NOTE says, None without it. Task sets that are draining are gone."""

    one: ServiceShift
    arn: str
    cluster_arn: str
    desired: int
    sets: tuple[TaskSet, ...]
    note: str | None
    described: Mapping[str, Any]

    @property
    def replacement(self) -> TaskSet | None:
        return next((s for s in self.sets if s.mark == self.one.token), None)

    @property
    def original(self) -> TaskSet | None:
        others = [s for s in self.sets if s.mark != self.one.token]
        if self.one.original:
            return next((s for s in others if s.arn == self.one.original), None)
        ours = {group for pair in self.one.pairs for group in pair.target_groups}
        return next((s for s in others if s.primary), None) or next((s for s in others if ours & set(s.groups)), None)

    @property
    def primaries(self) -> list[TaskSet]:
        return [s for s in self.sets if s.primary]

    def groups(self, pair: Pair) -> tuple[str, str]:
        """The original's target group of this pair, and the replacement's."""
        first, second = pair.target_groups
        for owner, others in ((self.original, False), (self.replacement, True)):
            here = [group for group in pair.target_groups if owner and group in owner.groups]
            if len(here) == 1:
                return (first, second) if (here[0] == first) is not others else (second, first)
        raise InvalidRequest(
            f"cannot tell the target groups of {self.one.name} apart: its primary task set must be in exactly one of"
            f" {' and '.join(map(short, pair.target_groups))}; correct `ecs.load_balancers`",
            code=BALANCING,
        )

    def occupants(self, group: str) -> list[TaskSet]:
        """Task sets other than the replacement that are in a target group."""
        return [s for s in self.sets if group in s.groups and s.mark != self.one.token]


def standing(one: ServiceShift, described: Mapping[str, Any]) -> Standing:
    """From what DescribeServices answers. Raises InvalidRequest when the service is not there or not active."""
    found = described.get("services", [])
    if not found or found[0].get("status") not in ("ACTIVE", None):
        is_what = found[0]["status"] if found else "not there"
        raise InvalidRequest(
            f"cannot deploy to service {one.service} of cluster {one.cluster}: it is {is_what}; correct `ecs` in the"
            " group, or `aws.region`",
            code=ECS_SERVICE,
        )
    service = found[0]
    tags = {tag["key"]: tag.get("value", "") for tag in service.get("tags") or ()}
    sets = (_task_set(s) for s in service.get("taskSets") or ())
    return Standing(
        one, service["serviceArn"], service.get("clusterArn", ""), service.get("desiredCount", 0),
        tuple(s for s in sets if s.status != "DRAINING"), tags.get(NOTE), service,
    )  # fmt: skip


def _task_set(found: Mapping[str, Any]) -> TaskSet:
    return TaskSet(
        arn=found["taskSetArn"],
        id=found.get("id", ""),
        status=found.get("status", ""),
        mark=found.get("externalId") or "",
        definition=found.get("taskDefinition", ""),
        groups=tuple(entry["targetGroupArn"] for entry in _balancers(found)),
        running=found.get("runningCount"),
        pending=found.get("pendingCount") or 0,
        stability=found.get("stabilityStatus", ""),
        described=found,
    )


def _balancers(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in found.get("loadBalancers") or () if entry.get("targetGroupArn")]


def unsteady(now: Standing) -> str:
    """Why the replacement is not steady, as far as ECS can tell; empty when it is."""
    made = now.replacement
    if made is None:
        return "its task set is not there"
    told = made.running is not None
    if (told and made.running != now.desired) or made.pending or made.stability != "STEADY_STATE":
        running = f"{made.running} of {now.desired} tasks run, {made.pending} are starting: " if told else ""
        return f"{running}{made.stability}"
    return ""


def new_task_set(now: Standing, first: TaskSet) -> dict[str, Any]:
    """The input of CreateTaskSet: what the AppSpec says, else what the original has."""
    one, has = now.one, first.described
    wanted: dict[str, Any] = {
        "cluster": one.cluster,
        "service": one.service,
        "externalId": one.token,
        "clientToken": hashlib.sha256(one.token.encode()).hexdigest()[:32],
        "taskDefinition": one.target,
        "scale": {"unit": "PERCENT", "value": 100.0},
        "networkConfiguration": _network(one.network) if one.network else has.get("networkConfiguration"),
        "loadBalancers": [_entry(now, pair, first, number) for number, pair in enumerate(one.pairs)],
        "serviceRegistries": has.get("serviceRegistries"),
        "platformVersion": one.platform_version or has.get("platformVersion"),
        **_runs_on(one.capacity, has),
    }
    return {key: value for key, value in wanted.items() if value}


def _network(network: Network) -> dict[str, Any]:
    inner = {
        "subnets": list(network.subnets),
        "securityGroups": list(network.security_groups),
        "assignPublicIp": network.assign_public_ip,
    }
    return {"awsvpcConfiguration": inner}


def _runs_on(capacity: tuple[Capacity, ...], has: Mapping[str, Any]) -> dict[str, Any]:
    """Either a capacity provider strategy or a launch type: AWS takes no task set with both."""
    if capacity:
        strategy = [{"capacityProvider": c.provider, "weight": c.weight, "base": c.base} for c in capacity]
        return {"capacityProviderStrategy": strategy}
    if has.get("capacityProviderStrategy"):
        return {"capacityProviderStrategy": has["capacityProviderStrategy"]}
    return {"launchType": has.get("launchType")}


def _entry(now: Standing, pair: Pair, first: TaskSet, number: int) -> dict[str, Any]:
    """The AppSpec's container and port are of the first load balancer; further ones keep what the original has."""
    old, new = now.groups(pair)
    before = next(entry for entry in _balancers(first.described) if entry["targetGroupArn"] == old)
    if number == 0:
        before = {"containerName": now.one.container, "containerPort": now.one.port}
    return {**before, "targetGroupArn": new}


def short(arn: str) -> str:
    """The part of an ARN that people know: `targetgroup/blue/…` as `blue`."""
    parts = arn.rsplit(":", 1)[-1].split("/")
    return parts[1] if len(parts) > 1 and parts[0] in ("targetgroup", "task-definition") else parts[-1]
