"""The AppSpec of the ECS platform, in YAML or JSON: the task definition that a service gets, and its hooks.

Source of the rules: CodeDeploy's reference of the AppSpec `resources` and `hooks` sections.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shiftwork_contract import yamlmarks
from shiftwork_contract.appspec_resources import check_version, function_hooks, lowered, needed
from shiftwork_contract.errors import AppSpecError
from shiftwork_contract.yamlmarks import Marked

ECS_HOOKS = ("BeforeInstall", "AfterInstall", "AfterAllowTestTraffic", "BeforeAllowTraffic", "AfterAllowTraffic")
SERVICE_TYPE = "AWS::ECS::Service"


class Network(msgspec.Struct, frozen=True):
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...] = ()
    assign_public_ip: Literal["ENABLED", "DISABLED"] = "DISABLED"


class Capacity(msgspec.Struct, frozen=True):
    provider: str
    weight: int = 0
    base: int = 0


class EcsAppSpec(msgspec.Struct, frozen=True):
    """`container` and `port` are what the load balancers send to. Empty and None keep what the service has."""

    task_definition: str
    container: str
    port: int
    platform_version: str = ""
    network: Network | None = None
    capacity: tuple[Capacity, ...] = ()
    hooks: dict[str, str] = {}


def parse_ecs(text: str | bytes, file: str = "appspec.yml") -> EcsAppSpec:
    """The AppSpec in `text`. Raises AppSpecError with the place of the first problem."""
    root = yamlmarks.parse(text, file, error=AppSpecError)
    if root is None or root.is_null:
        raise AppSpecError("the AppSpec is empty; it needs `version: 0.0` and `Resources`", file=file)
    members = lowered(root)
    check_version(root, members)
    resources = needed(root, members, "resources")
    items = resources.items()
    if len(items) != 1:
        raise resources.fail(f"`Resources` must name one service, not {len(items)}")
    hooks = function_hooks(members["hooks"], ECS_HOOKS) if "hooks" in members else {}
    return _service(items[0], hooks)


def _service(marked: Marked, hooks: dict[str, str]) -> EcsAppSpec:
    entries = list(marked.mapping().values())
    if len(entries) != 1:
        raise marked.fail(f"`{marked.path}` must have one key, such as TargetService, not {len(entries)}")
    members = lowered(entries[0])
    if (kind := needed(entries[0], members, "type").text()) != SERVICE_TYPE:
        raise members["type"].fail(f"`{entries[0].path}.Type` must be {SERVICE_TYPE}, not {kind!r}")
    inner = needed(entries[0], members, "properties")
    found = lowered(inner)
    balancer = needed(inner, found, "loadbalancerinfo")
    about = lowered(balancer)
    return EcsAppSpec(
        task_definition=needed(inner, found, "taskdefinition").text(),
        container=needed(balancer, about, "containername").text(),
        port=_number(needed(balancer, about, "containerport"), 65535),
        platform_version=found["platformversion"].text() if "platformversion" in found else "",
        network=_network(found["networkconfiguration"]) if "networkconfiguration" in found else None,
        capacity=tuple(_capacity(item) for item in found["capacityproviderstrategy"].items())
        if "capacityproviderstrategy" in found
        else (),
        hooks=hooks,
    )


def _network(marked: Marked) -> Network:
    outer = lowered(marked)
    inner = needed(marked, outer, "awsvpcconfiguration")
    found = lowered(inner)
    assign = found["assignpublicip"].text() if "assignpublicip" in found else "DISABLED"
    if assign not in ("ENABLED", "DISABLED"):
        raise found["assignpublicip"].fail(f"`AssignPublicIp` must be ENABLED or DISABLED, not {assign!r}")
    groups = tuple(found["securitygroups"].texts()) if "securitygroups" in found else ()
    return msgspec.convert(
        {"subnets": needed(inner, found, "subnets").texts(), "security_groups": groups, "assign_public_ip": assign},
        Network,
    )


def _capacity(marked: Marked) -> Capacity:
    found = lowered(marked)
    numbers: dict[str, Any] = {key: _number(found[key], 100_000) for key in ("weight", "base") if key in found}
    return Capacity(needed(marked, found, "capacityprovider").text(), **numbers)


def _number(marked: Marked, most: int) -> int:
    text = marked.text()
    if not text.isdecimal() or int(text) > most:
        raise marked.fail(f"`{marked.path}` must be a number of at most {most}, not {text!r}")
    return int(text)


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A load balancer of a service: two target groups that swap roles, the listener that sends real requests (or one
    rule of it), and the one for tests."""

    target_groups: tuple[str, str]
    listener: str
    rule: str = ""
    test_listener: str = ""
    test_rule: str = ""


class ServiceShift(msgspec.Struct, frozen=True, tag="service"):
    """One service whose traffic moves from its primary task set to a new one. `name` is `cluster:service`.

    `original` is the ARN of the task set that was primary at creation, `current` its task definition, `target` the new
    one. `token` marks the new task set, so that it is made once.
    """

    name: str
    cluster: str
    service: str
    original: str
    current: str
    target: str
    token: str
    container: str
    port: int
    pairs: tuple[Pair, ...]
    platform_version: str = ""
    network: Network | None = None
    capacity: tuple[Capacity, ...] = ()
