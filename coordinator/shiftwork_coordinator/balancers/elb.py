"""Classic load balancers: instances are registered and deregistered by id.

Out is not registered. With connection draining an instance that leaves is described as deregistering until nothing is
in flight or the draining's time is up; without it AWS cuts what is in flight. Back is `InService`, after as many
checks as the balancer's healthy threshold. Requests are not counted: the agent's view decides about quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.balancers.agreement import together
from shiftwork_coordinator.balancers.aws_changes import INVALID, INVALID_INSTANCE, NO_ID, change, what_counts
from shiftwork_coordinator.balancers.settings import read_settings, several
from shiftwork_coordinator.ports import Gates, NotTaken, Pace, Problem, Reading, Server, TrafficState
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.asking import Ask

MOST = 20
NOT_THERE = "InvalidInstance"
STARTING = ("registration is still in progress", "has not passed the configured", "is in pending state")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`load_balancers`: names, of one region."""

    load_balancer: str = ""
    load_balancers: tuple[str, ...] = ()
    region: str = ""
    role_arn: str = ""


class Balancer(msgspec.Struct, frozen=True):
    """`delay`: how long connections are drained; None = not at all."""

    name: str
    interval: float
    passes: int
    delay: float | None
    cross_zone: bool

    @property
    def checked_for(self) -> float:
        return self.interval * self.passes


Health = Mapping[str, Mapping[str, str]]
"""InstanceState by instance id."""


class ClassicBalancers:
    pace = Pace(1.0, 5.0)

    def __init__(self, wanted: Settings, names: tuple[str, ...]) -> None:
        self.name = "elb " + ", ".join(names)
        self._names, self._ask = names, asking.of(wanted)
        self._known: Sequence[Balancer] = ()

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        try:
            self._known = await _described(self._ask, self._names)
            found = await asyncio.gather(*(_health(self._ask, balancer, servers) for balancer in self._known))
        except ShiftworkError as err:
            return [Problem(err.message, code=err.code)]
        wrong = [_nameless(server) for server in servers if not server.cloud_id]
        wrong += [p for balancer, health in zip(self._known, found, strict=True) for p in _traps(balancer, health)]
        return wrong

    async def deregister(self, servers: Sequence[Server]) -> None:
        await self._change("deregister_instances_from_load_balancer", servers)

    async def register(self, servers: Sequence[Server]) -> None:
        await self._change("register_instances_with_load_balancer", servers)

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        try:
            balancers = await self._balancers()
        except (Unavailable, InvalidRequest) as err:
            return {server.instance: Reading(TrafficState.UNKNOWN, detail=err.message) for server in servers}
        found = list(zip(balancers, await asyncio.gather(*(self._health(b, servers) for b in balancers)), strict=True))
        return {server.instance: together([_look(b, health, server) for b, health in found]) for server in servers}

    async def close(self) -> None:
        """Nothing to close: clients are shared."""

    async def _balancers(self) -> Sequence[Balancer]:
        """Read once: what a deployment began with."""
        if not self._known:
            self._known = await _described(self._ask, self._names)
        return self._known

    async def _health(self, balancer: Balancer, servers: Sequence[Server]) -> Health | ShiftworkError:
        try:
            return await _health(self._ask, balancer, servers)
        except (Unavailable, InvalidRequest) as err:
            return err

    async def _change(self, operation: str, servers: Sequence[Server]) -> None:
        """All balancers are asked, for all servers with an id, before the first error is raised."""
        answers = await asyncio.gather(*(self._tell(operation, name, servers) for name in self._names))
        nameless = {server.instance: _nameless(server).message for server in servers if not server.cloud_id}
        if wrong := what_counts([*answers, NotTaken(nameless, code=INVALID_INSTANCE) if nameless else None]):
            raise wrong

    async def _tell(self, operation: str, name: str, servers: Sequence[Server]) -> ShiftworkError | None:
        async def tell(part: Sequence[Server]) -> None:
            instances = [{"InstanceId": server.cloud_id} for server in part]
            await self._ask("elb", operation, LoadBalancerName=name, Instances=instances)

        alone = _gone if operation.startswith("deregister") else partial(_not_taken, name)
        return await change([server for server in servers if server.cloud_id], tell, NOT_THERE, alone)


def _gone(server: Server, err: InvalidRequest) -> None:
    """What is not there is out."""


def _not_taken(name: str, server: Server, err: InvalidRequest) -> NotTaken:
    text = f"cannot register instance {server.instance} with load balancer {name}: {err.message}"
    return NotTaken({server.instance: f"{text}; it must run, in the balancer's network"}, code=INVALID_INSTANCE)


def connect(settings: Mapping[str, object], gates: Gates) -> ClassicBalancers:
    """The driver for these settings; touches nothing yet. Raises InvalidRequest for settings it cannot use."""
    wanted = read_settings("elb", Settings, settings)
    names = several("elb", "load_balancer", wanted.load_balancer, wanted.load_balancers)
    if not 0 < len(names) <= MOST:
        why = f"{len(names)} `load_balancers`; name 1 to {MOST} in one entry"
        raise InvalidRequest(f"cannot use load balancer `elb`: {why}", code="INVALID_LOAD_BALANCER")
    return ClassicBalancers(wanted, names)


# What AWS tells


async def _described(ask: Ask, names: Sequence[str]) -> list[Balancer]:
    """In the order of `names`. Raises InvalidRequest when one is not there."""
    try:
        found = await ask("elb", "describe_load_balancers", LoadBalancerNames=list(names))
    except InvalidRequest as err:
        if err.code == "LoadBalancerNotFound":
            raise InvalidRequest(
                f"cannot find classic load balancer {', '.join(names)}: {err.message}; correct `load_balancer`,"
                " `region` or `role_arn`; target groups are for `elbv2`",
                code=INVALID,
            ) from err
        raise
    by_name = {one["LoadBalancerName"]: one for one in found["LoadBalancerDescriptions"]}
    attributes = await asyncio.gather(*(_attributes(ask, name) for name in names))
    return [_balancer(by_name[name], told) for name, told in zip(names, attributes, strict=True)]


async def _attributes(ask: Ask, name: str) -> Mapping[str, Any]:
    told = await ask("elb", "describe_load_balancer_attributes", LoadBalancerName=name)
    attributes: Mapping[str, Any] = told["LoadBalancerAttributes"]
    return attributes


def _balancer(told: Mapping[str, Any], attributes: Mapping[str, Any]) -> Balancer:
    check, draining = told.get("HealthCheck", {}), attributes.get("ConnectionDraining", {})
    return Balancer(
        name=told["LoadBalancerName"],
        interval=check.get("Interval", 30),
        passes=check.get("HealthyThreshold", 10),
        delay=float(draining.get("Timeout", 300)) if draining.get("Enabled") else None,
        cross_zone=bool(attributes.get("CrossZoneLoadBalancing", {}).get("Enabled")),
    )


async def _health(ask: Ask, balancer: Balancer, servers: Sequence[Server]) -> Health:
    """One call. Named instances are told about even when they are not registered; terminated ones are left out."""
    named = [{"InstanceId": server.cloud_id} for server in servers if server.cloud_id]
    if not named:
        return {}
    try:
        told = await ask("elb", "describe_instance_health", LoadBalancerName=balancer.name, Instances=named)
    except InvalidRequest as err:
        if err.code != NOT_THERE:
            raise
        # One of them is not there any more. All that are registered, then.
        told = await ask("elb", "describe_instance_health", LoadBalancerName=balancer.name)
    return {one["InstanceId"]: one for one in told["InstanceStates"]}


def _look(balancer: Balancer, health: Health | ShiftworkError, server: Server) -> Reading:
    if isinstance(health, ShiftworkError):
        lasts = max(balancer.delay or 0, balancer.checked_for)
        return Reading(TrafficState.UNKNOWN, detail=health.message, lasts=lasts)
    if not server.cloud_id:
        return Reading(TrafficState.UNKNOWN, detail=_nameless(server).message)
    return reading(balancer, health.get(server.cloud_id))


def reading(balancer: Balancer, told: Mapping[str, str] | None) -> Reading:
    """None = AWS does not know it as one of the balancer's, nor as an instance that runs."""
    delay = balancer.delay or 0.0
    if told is None:
        return Reading(TrafficState.ABSENT, detail=f"{balancer.name}: not registered", lasts=delay)
    state, why = told.get("State", ""), told.get("Description", "")
    shown = f"{balancer.name}: {state}" + (f" ({why})" if why not in ("", "N/A") else "")
    if "deregistration currently in progress" in why:
        detail = f"{shown}; connections are drained for at most {delay:g} s"
        return Reading(TrafficState.DRAINING, detail=detail, lasts=delay)
    if "not currently registered" in why:
        return Reading(TrafficState.ABSENT, detail=shown, lasts=delay)
    if state == "InService":
        return Reading(TrafficState.HEALTHY, detail=shown)
    if state != "OutOfService":
        return Reading(TrafficState.UNKNOWN, detail=shown, lasts=max(delay, balancer.checked_for))
    checks = f"healthy after {balancer.passes} passed checks, one each {balancer.interval:g} s"
    starts = any(text in why for text in STARTING)
    kind = TrafficState.STARTING if starts else TrafficState.UNHEALTHY
    return Reading(kind, detail=f"{shown}; {checks}", lasts=balancer.checked_for)


# What would go wrong


def _nameless(server: Server) -> Problem:
    text = f"cannot use instance {server.instance} in a classic load balancer: {NO_ID}"
    return Problem(text, instance=server.instance, code=INVALID_INSTANCE)


def _traps(balancer: Balancer, health: Health) -> Iterator[Problem]:
    name = balancer.name
    if balancer.delay is None:
        text = f"load balancer {name} cuts what is in flight when an instance leaves; turn on connection draining"
        yield Problem(text, fatal=False)
    if not balancer.cross_zone:
        text = (
            f"load balancer {name} keeps traffic within a zone: while all instances of a zone are out, requests there"
            " fail; turn on cross-zone load balancing, or leave one up in each zone"
        )
        yield Problem(text, fatal=False)
    for id, told in health.items():
        if "LoadBalancer is not configured" in told.get("Description", ""):
            text = f"{id} gets nothing from load balancer {name}: {told['Description']}; enable its zone there"
            yield Problem(text, code=INVALID)
    registered = [t for t in health.values() if "not currently registered" not in t.get("Description", "")]
    if registered and all("UnhealthyThreshold" in told.get("Description", "") for told in registered):
        text = (
            f"none of the {len(registered)} instances in load balancer {name} passes its health check; unless this"
            " revision mends that, correct the check"
        )
        yield Problem(text, fatal=False)
