"""Target groups as AWS describes them, and the health of their targets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.balancers.aws_changes import INVALID, NO_ID
from shiftwork_coordinator.ports import Server
from shiftwork_coordinator.shifters.asking import Ask

Health = Mapping[tuple[str, int], Mapping[str, str]]
"""TargetHealth by id and port of the target."""
NOT_REGISTERED: Mapping[str, str] = {"State": "unused", "Reason": "Target.NotRegistered"}


class Group(msgspec.Struct, frozen=True):
    """`kind` is the targets' type. `delay`: the deregistration delay; `passes`: checks that call a target
    healthy, one each `interval` seconds. `attributes` are AWS's, by key."""

    arn: str
    name: str
    kind: str
    protocol: str
    port: int
    vpc: str
    balancers: tuple[str, ...]
    interval: float
    passes: int
    attributes: Mapping[str, str]

    @property
    def delay(self) -> float:
        return float(self.attributes.get("deregistration_delay.timeout_seconds", 300))

    @property
    def checked_for(self) -> float:
        """Seconds that its checks need to call a target healthy."""
        return self.interval * self.passes

    def id_of(self, server: Server) -> str:
        """Empty when the server cannot be one of its targets."""
        if self.kind == "instance":
            return server.cloud_id
        return server.address if self.kind == "ip" else ""


def short(name: str) -> str:
    """The name in an ARN of a target group."""
    return name.split(":targetgroup/", 1)[-1].split("/", 1)[0]


def nameless(group: Group, server: Server) -> str:
    """Why a server cannot be a target of this group."""
    if group.kind == "instance":
        why = NO_ID
    elif group.kind == "ip":
        why = "its address is not known; let its agent report one"
    else:
        why = f"the group's targets are of type {group.kind}, only `instance` and `ip` can be deployed to"
    return f"instance {server.instance} in target group {group.name}: {why}"


async def described(ask: Ask, names: Sequence[str]) -> list[Group]:
    """In the order of `names`. Raises InvalidRequest when one is not there."""
    arns, plain = [n for n in names if n.startswith("arn:")], [n for n in names if not n.startswith("arn:")]
    found = await _page(ask, "TargetGroupArns", arns) + await _page(ask, "Names", plain)
    by_name = {one[key]: one for one in found for key in ("TargetGroupArn", "TargetGroupName")}
    if missing := [name for name in names if name not in by_name]:
        raise _missing(missing, "AWS does not name it")
    told = await asyncio.gather(*(_attributes(ask, by_name[name]["TargetGroupArn"]) for name in names))
    return [_group(by_name[name], attributes) for name, attributes in zip(names, told, strict=True)]


async def _page(ask: Ask, key: str, names: Sequence[str]) -> list[Any]:
    """At most 20 names, so it is one page."""
    if not names:
        return []
    try:
        return list((await ask("elbv2", "describe_target_groups", **{key: list(names)}))["TargetGroups"])
    except InvalidRequest as err:
        if err.code == "TargetGroupNotFound":
            raise _missing(names, err.message) from err
        raise


def _missing(names: Sequence[str], why: str) -> InvalidRequest:
    shown = ", ".join(map(short, names))
    return InvalidRequest(
        f"cannot find target group {shown}: {why}; correct `target_group`, `region` or `role_arn`", code=INVALID
    )


async def _attributes(ask: Ask, arn: str) -> dict[str, str]:
    told = await ask("elbv2", "describe_target_group_attributes", TargetGroupArn=arn)
    return {one["Key"]: one["Value"] for one in told["Attributes"]}


def _group(told: Mapping[str, Any], attributes: Mapping[str, str]) -> Group:
    return Group(
        arn=told["TargetGroupArn"],
        name=told["TargetGroupName"],
        kind=told.get("TargetType", "instance"),
        protocol=told.get("Protocol", ""),
        port=told.get("Port", 0),
        vpc=told.get("VpcId", ""),
        balancers=tuple(told.get("LoadBalancerArns", ())),
        interval=told.get("HealthCheckIntervalSeconds", 30),
        passes=told.get("HealthyThresholdCount", 5),
        attributes=attributes,
    )


async def health(ask: Ask, group: Group) -> dict[tuple[str, int], Mapping[str, str]]:
    """Of all its targets, in one call. AWS leaves out what is not registered."""
    told = await ask("elbv2", "describe_target_health", TargetGroupArn=group.arn)
    return {
        (one["Target"]["Id"], one["Target"].get("Port", group.port)): one["TargetHealth"]
        for one in told["TargetHealthDescriptions"]
    }
