"""Which targets a target group has, and how each of them stands, by checks that are really made.

A check is made every `check_every` seconds, whatever the group says: its minutes are moments here. Path, port, matcher
and thresholds are the group's. The first check that passes makes a new target healthy, as with AWS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import msgspec

from shiftwork_coordinator.ports import Clock

INITIAL, HEALTHY, UNHEALTHY, DRAINING, UNUSED = "initial", "healthy", "unhealthy", "draining", "unused"
TIMEOUT = 5.0
REGISTERING, CHECKING = "Elb.RegistrationInProgress", "Elb.InitialHealthChecking"
MISMATCH, FAILED = "Target.ResponseCodeMismatch", "Target.FailedHealthChecks"
LEAVING, ABSENT, IDLE = "Target.DeregistrationInProgress", "Target.NotRegistered", "Target.NotInUse"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sick`: ids of targets whose checks fail, whatever they answer."""

    check_every: float = 0.25
    sick: tuple[str, ...] = ()


class Target(NamedTuple):
    id: str
    port: int


class Group(NamedTuple):
    """What of a target group matters here. `draining` is its deregistration delay in seconds."""

    arn: str
    protocol: str
    port: int
    draining: float
    check_protocol: str = "HTTP"
    check_port: str = "traffic-port"
    path: str = "/"
    matcher: str = "200"
    healthy: int = 5
    unhealthy: int = 2


def group(described: Mapping[str, Any], attributes: Mapping[str, str]) -> Group:
    """From what DescribeTargetGroups and DescribeTargetGroupAttributes tell."""
    return Group(
        described["TargetGroupArn"], described.get("Protocol", "HTTP"), int(described.get("Port") or 80),
        float(attributes.get("deregistration_delay.timeout_seconds", 300)),
        described.get("HealthCheckProtocol") or "HTTP", described.get("HealthCheckPort") or "traffic-port",
        described.get("HealthCheckPath") or "/", (described.get("Matcher") or {}).get("HttpCode") or "200",
        int(described.get("HealthyThresholdCount") or 5), int(described.get("UnhealthyThresholdCount") or 2),
    )  # fmt: skip


@dataclass
class Standing:
    """`streak` checks in a row have told what the last one told; `since` when it was deregistered."""

    state: str = INITIAL
    reason: str = REGISTERING
    passed: bool = False
    streak: int = 0
    since: float = 0.0

    def after(self, why: str, about: Group) -> None:
        """A check was made; empty = it passed, else why not."""
        if self.state == DRAINING:
            return
        passes = not why
        self.streak = self.streak + 1 if passes is self.passed else 1
        self.passed = passes
        enough = 1 if self.state == INITIAL else about.healthy
        if self.passed and self.streak >= enough:
            self.state, self.reason = HEALTHY, ""
        elif not self.passed and self.streak >= about.unhealthy:
            self.state, self.reason = UNHEALTHY, why
        elif self.state == INITIAL:
            self.reason = CHECKING


Check = Callable[[str, Group, Target], Awaitable[str]]
"""Why a target, at its address, fails; empty when it does not."""


class Targets:
    """`address` tells where a target is reached by its id, `in_use` whether a listener knows the group."""

    def __init__(
        self, check: Check, clock: Clock, address: Callable[[str], str], in_use: Callable[[str], bool]
    ) -> None:
        self._check, self._clock, self._in_use = check, clock, in_use
        self.address = address
        self.settings = Settings()
        self._groups: dict[str, Group] = {}
        self._standings: dict[str, dict[Target, Standing]] = {}

    def knows(self, group: str) -> bool:
        return group in self._groups

    def groups_of(self, id: str) -> list[str]:
        """The target groups in which something of this id is, draining or not."""
        return [arn for arn, here in self._standings.items() if any(target.id == id for target in here)]

    def know(self, about: Group) -> None:
        """The group is there, or has other settings from here on."""
        self._groups[about.arn] = about
        self._standings.setdefault(about.arn, {})

    def forget(self, group: str) -> None:
        self._groups.pop(group, None)
        self._standings.pop(group, None)

    def register(self, group: str, ids: Iterable[tuple[str, int | None]]) -> None:
        """Registered before, a target stays as it stands; one that is leaving begins anew."""
        here = self._standings[group]
        for id, port in ids:
            target = Target(id, port or self._groups[group].port)
            if target not in here or here[target].state == DRAINING:
                here[target] = Standing()

    def deregister(self, group: str, ids: Iterable[tuple[str, int | None]]) -> None:
        """They get no further request, and are told to be draining for the group's delay."""
        here, now = self._standings[group], self._clock.monotonic()
        for id, port in ids:
            for target, standing in here.items():
                if target.id == id and port in (None, target.port) and standing.state != DRAINING:
                    standing.state, standing.reason, standing.since = DRAINING, LEAVING, now

    def delay(self, group: str) -> float:
        """Seconds for which its targets are draining."""
        return self._groups[group].draining if group in self._groups else 0.0

    def states(self, group: str) -> dict[Target, tuple[str, str]]:
        """State and reason of everything that is registered or draining."""
        self._end_draining(group)
        idle = not self._in_use(group)
        told = {t: (s.state, s.reason) for t, s in self._standings.get(group, {}).items()}
        return {t: (UNUSED, IDLE) if idle and state != DRAINING else (state, why) for t, (state, why) in told.items()}

    def taking(self, group: str) -> Sequence[Target]:
        """Those that get requests: the healthy ones, and all that are registered when none is."""
        here = self._standings.get(group, {})
        healthy = [target for target, standing in here.items() if standing.state == HEALTHY]
        return healthy or [target for target, standing in here.items() if standing.state != DRAINING]

    def _end_draining(self, group: str) -> None:
        here, about = self._standings.get(group, {}), self._groups.get(group)
        now = self._clock.monotonic()
        for target in [t for t, s in here.items() if about and s.state == DRAINING]:
            if about and now - here[target].since >= about.draining:
                del here[target]

    async def run(self) -> None:
        """Checks all that a listener may send to, until it is cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self.settings.check_every)

    async def check(self) -> None:
        due = [
            (about, target, standing)
            for arn, about in self._groups.items() if self._in_use(arn)
            for target, standing in self._standings[arn].items() if standing.state != DRAINING
        ]  # fmt: skip
        found = await asyncio.gather(*(self._checked(about, target) for about, target, _ in due))
        for (about, _, standing), why in zip(due, found, strict=True):
            standing.after(why, about)

    async def _checked(self, about: Group, target: Target) -> str:
        if target.id in self.settings.sick:
            return FAILED
        return await self._check(self.address(target.id), about, target)


def checker(session: aiohttp.ClientSession) -> Check:
    """Asks over HTTP, or opens a connection, as the group says."""

    async def check(address: str, about: Group, target: Target) -> str:
        port = target.port if about.check_port == "traffic-port" else int(about.check_port)
        try:
            async with asyncio.timeout(TIMEOUT):
                if about.check_protocol not in ("HTTP", "HTTPS"):
                    _, writer = await asyncio.open_connection(address, port)
                    writer.close()
                    return ""
                async with session.get(f"http://{address}:{port}{about.path}", allow_redirects=False) as got:
                    return "" if fits(about.matcher, got.status) else MISMATCH
        except TimeoutError:
            return "Target.Timeout"
        except (aiohttp.ClientError, OSError):
            return FAILED

    return check


def fits(matcher: str, status: int) -> bool:
    """`200`, `200,301` or `200-299`."""
    for part in matcher.split(","):
        first, _, last = part.partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False
