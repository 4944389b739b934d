"""What would go wrong with target groups: found before anything is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.balancers import elbv2_groups
from shiftwork_coordinator.balancers.aws_changes import INVALID, INVALID_INSTANCE
from shiftwork_coordinator.balancers.elbv2_groups import Group, Health
from shiftwork_coordinator.balancers.elbv2_health import NOT_IN_USE, in_words, remedy
from shiftwork_coordinator.ports import Problem, Server
from shiftwork_coordinator.shifters.asking import Ask

LONG_DELAY = 60.0
"""Seconds of deregistration delay that are worth a word: each batch waits for it."""
CROSS_ZONE = "load_balancing.cross_zone.enabled"
FAIL_OPEN = "target_group_health.unhealthy_state_routing.minimum_healthy_targets"


async def problems(ask: Ask, groups: Sequence[Group], servers: Sequence[Server], port: int) -> list[Problem]:
    """`port` 0 = the groups' own. Raises Unavailable or InvalidRequest when it cannot be told."""
    found = await asyncio.gather(*(_of_group(ask, group, servers, port) for group in groups))
    return [problem for each in found for problem in each]


async def _of_group(ask: Ask, group: Group, servers: Sequence[Server], port: int) -> list[Problem]:
    if group.kind not in ("instance", "ip"):
        text = (
            f"target group {group.name} has targets of type {group.kind}; only `instance` and `ip` can be deployed to"
        )
        return [Problem(text, code=INVALID)]
    if not group.balancers:
        text = (
            f"no load balancer uses target group {group.name}: its targets stay `unused` and never get healthy; let a"
            " listener forward to it"
        )
        return [Problem(text, code=INVALID)]
    health = await elbv2_groups.health(ask, group)
    balancers = await _balancers(ask, group)
    return [*_sick(group, health), *_traps(group, balancers), *_of_servers(group, health, servers, port)]


async def _balancers(ask: Ask, group: Group) -> Mapping[str, Mapping[str, str]] | Problem:
    """Attributes of its load balancers, and their type, by name. A Problem when AWS will not tell: they only inform."""
    try:
        told = (await ask("elbv2", "describe_load_balancers", LoadBalancerArns=list(group.balancers)))["LoadBalancers"]
        return {one["LoadBalancerName"]: await _attributes(ask, one) for one in told}
    except (InvalidRequest, Unavailable) as err:
        return Problem(
            f"what load balancers do with target group {group.name} is not known: {err.message}", fatal=False
        )


async def _attributes(ask: Ask, balancer: Mapping[str, Any]) -> dict[str, str]:
    told = await ask("elbv2", "describe_load_balancer_attributes", LoadBalancerArn=balancer["LoadBalancerArn"])
    return {one["Key"]: one["Value"] for one in told["Attributes"]} | {"type": balancer.get("Type", "application")}


def _sick(group: Group, health: Health) -> Iterator[Problem]:
    """Nothing passes: perhaps nothing ever can."""
    states = [told for told in health.values() if told.get("State") not in ("draining", "unused")]
    if states and all(told.get("State") == "unhealthy" for told in states):
        text = (
            f"none of the {len(states)} targets in target group {group.name} passes its health check, the first is"
            f" {in_words(states[0])}; unless this revision mends that, correct path, port or codes of the check"
        )
        yield Problem(text, fatal=False)


def _traps(group: Group, balancers: Mapping[str, Mapping[str, str]] | Problem) -> Iterator[Problem]:
    if group.delay > LONG_DELAY:
        text = (
            f"target group {group.name} has a deregistration delay of {group.delay:g} s, which every batch waits for;"
            " lower it to the longest request, or set `out_when: draining`"
        )
        yield Problem(text, fatal=False)
    for unit, default in (("count", "1"), ("percentage", "off")):
        least = group.attributes.get(f"{FAIL_OPEN}.{unit}", default)
        if least != default:
            text = (
                f"target group {group.name} sends to unhealthy targets too while fewer than {least}"
                f"{' %' if unit == 'percentage' else ''} are healthy; keep the deployment's minimum above that"
            )
            yield Problem(text, fatal=False)
    if isinstance(balancers, Problem):
        yield balancers
        return
    for name, attributes in balancers.items():
        yield from _of_balancer(group, name, attributes)


def _of_balancer(group: Group, name: str, attributes: Mapping[str, str]) -> Iterator[Problem]:
    network = attributes["type"] == "network"
    cross = group.attributes.get(CROSS_ZONE, "use_load_balancer_configuration")
    if cross == "use_load_balancer_configuration":
        cross = attributes.get(CROSS_ZONE, "false" if network else "true")
    if cross == "false":
        text = (
            f"load balancer {name} keeps traffic for target group {group.name} within a zone: while all targets of a"
            " zone are out, requests there fail; turn on cross-zone load balancing, or leave one up in each zone"
        )
        yield Problem(text, fatal=False)
    if network and group.attributes.get("deregistration_delay.connection_termination.enabled", "false") == "false":
        text = (
            f"load balancer {name} leaves connections established to a target of {group.name} that was taken out: what"
            " clients still send over them reaches it; `quiet` waits for them, or turn on connection termination"
        )
        yield Problem(text, fatal=False)


def _of_servers(group: Group, health: Health, servers: Sequence[Server], port: int) -> Iterator[Problem]:
    wanted = port or group.port
    for server in servers:
        id = group.id_of(server)
        if not id:
            text = f"cannot use {elbv2_groups.nameless(group, server)}"
            yield Problem(text, instance=server.instance, code=INVALID_INSTANCE)
            continue
        if (told := health.get((id, wanted))) and told.get("Reason") == NOT_IN_USE:
            text = f"instance {server.instance} in target group {group.name} is {in_words(told)}; {remedy(NOT_IN_USE)}"
            yield Problem(text, instance=server.instance, code=INVALID)
        yield from _other_ports(group, server, {p for known, p in health if known == id}, wanted)


def _other_ports(group: Group, server: Server, ports: set[int], wanted: int) -> Iterator[Problem]:
    """It keeps getting requests through them, or comes back at another than it was."""
    if others := sorted(ports - {wanted}):
        shown = ", ".join(map(str, others))
        text = (
            f"instance {server.instance} is in target group {group.name} with port {shown}, and would be taken out and"
            f" put back with {wanted} alone; set `port`, in an entry for each"
        )
        yield Problem(text, fatal=wanted not in ports, instance=server.instance, code=INVALID)
