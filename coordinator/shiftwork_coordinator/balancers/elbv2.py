"""Target groups of Application and Network Load Balancers: instances by id, or addresses, come and go as targets.

Out is deregistered. The load balancer sends a target that is `draining` nothing new, but calls it so for the whole
deregistration delay, even when nothing is in flight; only then it is `unused`, and out beyond doubt. A network load
balancer leaves connections that are established where they are. AWS counts no requests: `in_flight` is None, and the
agent's view of its connections decides about quiet.

Back is registered: `initial` until its checks have passed. With fewer healthy targets than the group's least, a load
balancer sends to all of them, healthy or not: `check` names that, and what else would be waited for in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.balancers import elbv2_check, elbv2_groups
from shiftwork_coordinator.balancers.agreement import together
from shiftwork_coordinator.balancers.aws_changes import INVALID_INSTANCE, change, what_counts
from shiftwork_coordinator.balancers.elbv2_groups import Group, Health
from shiftwork_coordinator.balancers.elbv2_health import reading
from shiftwork_coordinator.balancers.settings import read_settings, several
from shiftwork_coordinator.ports import Gates, NotTaken, Pace, Problem, Reading, Server, TrafficState
from shiftwork_coordinator.shifters import asking

MOST_GROUPS = 20
"""Target groups that one DescribeTargetGroups is asked for."""
WRONG_TARGET = "InvalidTarget"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`target_groups`: names or ARNs, of one region. `port`: the targets' own, where it is not the group's. `zone`:
    for addresses outside the VPC, `all` or a zone. `out_when: draining` takes AWS's word that a target which drains
    gets nothing new, instead of waiting until the deregistration delay is over."""

    target_group: str = ""
    target_groups: tuple[str, ...] = ()
    port: int = 0
    zone: str = ""
    out_when: Literal["unused", "draining"] = "unused"
    region: str = ""
    role_arn: str = ""


class TargetGroups:
    pace = Pace(1.0, 5.0)
    """AWS gives an account 10 readings a second and region, for all that ask."""

    def __init__(self, wanted: Settings, names: tuple[str, ...]) -> None:
        self.name = "elbv2 " + ", ".join(map(elbv2_groups.short, names))
        self._wanted, self._names = wanted, names
        self._ask = asking.of(wanted)
        self._known: Sequence[Group] = ()

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        try:
            self._known = await elbv2_groups.described(self._ask, self._names)
            return await elbv2_check.problems(self._ask, self._known, servers, self._wanted.port)
        except ShiftworkError as err:
            return [Problem(err.message, code=err.code)]

    async def deregister(self, servers: Sequence[Server]) -> None:
        await self._change("deregister_targets", servers)

    async def register(self, servers: Sequence[Server]) -> None:
        await self._change("register_targets", servers)

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        try:
            groups = await self._groups()
        except (Unavailable, InvalidRequest) as err:
            return {server.instance: Reading(TrafficState.UNKNOWN, detail=err.message) for server in servers}
        found = list(zip(groups, await asyncio.gather(*map(self._health, groups)), strict=True))
        return {
            server.instance: together([self._look(group, health, server) for group, health in found])
            for server in servers
        }

    async def close(self) -> None:
        """Nothing to close: clients are shared."""

    async def _groups(self) -> Sequence[Group]:
        """Read once: what a deployment began with."""
        if not self._known:
            self._known = await elbv2_groups.described(self._ask, self._names)
        return self._known

    async def _health(self, group: Group) -> Health | ShiftworkError:
        try:
            return await elbv2_groups.health(self._ask, group)
        except (Unavailable, InvalidRequest) as err:
            return err

    def _look(self, group: Group, health: Health | ShiftworkError, server: Server) -> Reading:
        if isinstance(health, ShiftworkError):
            return Reading(TrafficState.UNKNOWN, detail=health.message, lasts=max(group.delay, group.checked_for))
        if not (id := group.id_of(server)):
            return Reading(TrafficState.UNKNOWN, detail=elbv2_groups.nameless(group, server))
        told = health.get((id, self._wanted.port or group.port), elbv2_groups.NOT_REGISTERED)
        return reading(group, told, self._wanted.out_when == "draining")

    # Changes

    async def _change(self, operation: str, servers: Sequence[Server]) -> None:
        """All groups are asked, for all servers that can be named there, before the first error is raised."""
        groups = await self._groups()
        without = [(s.instance, elbv2_groups.nameless(g, s)) for g in groups for s in servers if not g.id_of(s)]
        nameless = {name: f"cannot change {why}" for name, why in without}
        answers = await asyncio.gather(*(self._tell(operation, group, servers) for group in groups))
        if wrong := what_counts([*answers, NotTaken(nameless, code=INVALID_INSTANCE) if nameless else None]):
            raise wrong

    async def _tell(self, operation: str, group: Group, servers: Sequence[Server]) -> ShiftworkError | None:
        async def tell(part: Sequence[Server]) -> None:
            targets = [self._target(group, server) for server in part]
            await self._ask("elbv2", operation, TargetGroupArn=group.arn, Targets=targets)

        alone = _gone if operation == "deregister_targets" else partial(_not_taken, group)
        return await change([server for server in servers if group.id_of(server)], tell, WRONG_TARGET, alone)

    def _target(self, group: Group, server: Server) -> dict[str, object]:
        target: dict[str, object] = {"Id": group.id_of(server), "Port": self._wanted.port or group.port}
        return target | ({"AvailabilityZone": self._wanted.zone} if self._wanted.zone else {})


def _gone(server: Server, err: InvalidRequest) -> None:
    """What is not there is out."""


def _not_taken(group: Group, server: Server, err: InvalidRequest) -> NotTaken:
    where = group.vpc or "the VPC of the group"
    text = f"cannot register instance {server.instance} with target group {group.name}: {err.message}"
    return NotTaken({server.instance: f"{text}; it must run, in {where}"}, code=INVALID_INSTANCE)


def connect(settings: Mapping[str, object], gates: Gates) -> TargetGroups:
    """The driver for these settings; touches nothing yet. Raises InvalidRequest for settings it cannot use."""
    wanted = read_settings("elbv2", Settings, settings)
    names = several("elbv2", "target_group", wanted.target_group, wanted.target_groups)
    if not names:
        raise _refused("`target_group` is missing; give a name or an ARN")
    if len(names) > MOST_GROUPS:
        raise _refused(f"{len(names)} `target_groups`; at most {MOST_GROUPS} may stand in one entry, write several")
    if not 0 <= wanted.port < 65536:
        raise _refused(f"`port` is {wanted.port}; it is 1-65535, or left out")
    regions = {name.split(":")[3] for name in names if name.startswith("arn:") and name.count(":") >= 5}
    if len(regions | ({wanted.region} - {""})) > 1:
        raise _refused(f"its target groups are in {', '.join(sorted(regions))}; write an entry for each region")
    return TargetGroups(msgspec.structs.replace(wanted, region=wanted.region or "".join(regions)), names)


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use load balancer `elbv2`: {why}", code="INVALID_LOAD_BALANCER")
