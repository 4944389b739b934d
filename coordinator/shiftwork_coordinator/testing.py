"""In-memory twins of the coordinator's ports, for tests of the engine and of drivers. Shipped: drivers need them.

A twin keeps the port's promises and fails on demand. Faults are plain attributes that a test sets and clears.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import GateState
from shiftwork_contract.resource import Resource
from shiftwork_coordinator.fleets.tags import matches
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import Instances
from shiftwork_coordinator.ports import (
    AlarmReading,
    HookAnswer,
    HookCall,
    Member,
    Problem,
    Reading,
    Server,
    ShiftReading,
    TrafficState,
)


def _always(instance: str) -> bool:
    return True


@dataclass
class _Upstream:
    """What the twin knows of one server. `passed` and `failed` count its last checks in a row."""

    wanted: bool = True
    leaving_for: int = 0
    passed: int = 2
    failed: int = 0
    in_flight: int = 0


@dataclass
class MemoryBalancer:
    """A balancer of the HAProxy kind. It makes one check of each server that is in, at each call of `states`.

    `probe` answers the checks: two passes in a row make a server healthy, two failures unhealthy. Faults:
    `unreachable`: readings are UNKNOWN and verbs raise Unavailable. `refuses`: verbs raise InvalidRequest with this
    text. `unknown`: instances it cannot tell about. `lying_healthy`: instances called healthy whatever the checks say.
    `slow_drain`: readings after a deregister until a server is really out; it gets requests until then.
    """

    instances: Iterable[str]
    name: str = "memory"
    probe: Callable[[str], bool] = _always
    unreachable: bool = False
    refuses: str = ""
    unknown: set[str] = field(default_factory=set)
    lying_healthy: set[str] = field(default_factory=set)
    slow_drain: int = 0
    generation: int = 1
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Every change that was asked for and did something: ("register" | "deregister", instance)."""

    def __post_init__(self) -> None:
        self._upstreams = {instance: _Upstream() for instance in self.instances}
        self._turn = 0

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        if self.unreachable:
            return [Problem(f"cannot reach {self.name}")]
        return [
            Problem(f"cannot find instance {server.instance} in {self.name}", instance=server.instance)
            for server in servers
            if server.instance not in self._upstreams
        ]

    async def deregister(self, servers: Sequence[Server]) -> None:
        for instance, upstream in self._asked(servers):
            if upstream.wanted:
                self.calls.append(("deregister", instance))
                upstream.wanted, upstream.leaving_for = False, self.slow_drain

    async def register(self, servers: Sequence[Server]) -> None:
        for instance, upstream in self._asked(servers):
            if not upstream.wanted:
                self.calls.append(("register", instance))
                upstream.wanted, upstream.leaving_for, upstream.passed, upstream.failed = True, 0, 0, 0

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        return {server.instance: self._reading(server.instance) for server in servers}

    async def close(self) -> None:
        """Nothing to close."""

    def add(self, instance: str) -> None:
        """A server that it did not know, and that is out at first."""
        self._upstreams[instance] = _Upstream(wanted=False, passed=0)

    def in_traffic(self) -> set[str]:
        return {instance for instance, upstream in self._upstreams.items() if upstream.wanted}

    def begin(self) -> str:
        """A client's request arrives: the instance that gets it. Unavailable when no server may have it."""
        able = sorted(instance for instance, upstream in self._upstreams.items() if self._sends(upstream))
        if not able:
            raise Unavailable(f"cannot serve a request of {self.name}: no server is in")
        self._turn += 1
        chosen = able[self._turn % len(able)]
        self._upstreams[chosen].in_flight += 1
        return chosen

    def end(self, instance: str) -> None:
        """The request that `begin` gave to this instance is over."""
        self._upstreams[instance].in_flight -= 1

    def forget(self) -> None:
        """A reload that forgets what was asked: everything is in at once, unproven, under a new generation."""
        self.generation += 1
        for upstream in self._upstreams.values():
            upstream.wanted, upstream.leaving_for, upstream.passed, upstream.failed = True, 0, 0, 0

    def _asked(self, servers: Sequence[Server]) -> list[tuple[str, _Upstream]]:
        if self.unreachable:
            raise Unavailable(f"cannot reach {self.name}")
        if self.refuses:
            raise InvalidRequest(f"cannot change servers of {self.name}: {self.refuses}", code="LOAD_BALANCER_REFUSED")
        for server in servers:
            if server.instance not in self._upstreams:
                raise InvalidRequest(
                    f"cannot find instance {server.instance} in {self.name}", code="SERVER_NOT_MATCHED"
                )
        return [(server.instance, self._upstreams[server.instance]) for server in servers]

    def _sends(self, upstream: _Upstream) -> bool:
        return (upstream.wanted and upstream.passed >= 2) or upstream.leaving_for > 0

    def _reading(self, instance: str) -> Reading:
        upstream = self._upstreams.get(instance)
        if self.unreachable or instance in self.unknown or upstream is None:
            return Reading(TrafficState.UNKNOWN, detail=f"{self.name} cannot tell about {instance}")
        self._probe(instance, upstream)
        state = TrafficState.HEALTHY if instance in self.lying_healthy else self._state(upstream)
        return Reading(state, upstream.in_flight, generation=str(self.generation))

    def _probe(self, instance: str, upstream: _Upstream) -> None:
        upstream.leaving_for = max(0, upstream.leaving_for - 1)
        if not upstream.wanted:
            return
        if self.probe(instance):
            upstream.passed, upstream.failed = upstream.passed + 1, 0
        else:
            upstream.failed += 1
            upstream.passed = 0 if upstream.failed >= 2 else upstream.passed

    def _state(self, upstream: _Upstream) -> TrafficState:
        if not upstream.wanted:
            return TrafficState.DRAINING if upstream.leaving_for else TrafficState.ABSENT
        if upstream.passed >= 2:
            return TrafficState.HEALTHY
        return TrafficState.UNHEALTHY if upstream.failed >= 2 else TrafficState.STARTING


@dataclass
class MemoryAlarms:
    """Alarms that a test flips: `red` maps names to their reason. Faults: `unreadable` maps names to why, and `down`
    makes every question raise, as a driver must not."""

    red: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    changed_at: dict[str, float] = field(default_factory=dict)
    down: str = ""
    asked: int = 0

    async def states(self, names: Sequence[str]) -> Mapping[str, AlarmReading]:
        self.asked += 1
        if self.down:
            raise RuntimeError(self.down)
        return {name: self._reading(name) for name in names}

    async def close(self) -> None:
        """Nothing to close."""

    def _reading(self, name: str) -> AlarmReading:
        if name in self.unreadable:
            return AlarmReading("UNREADABLE", self.unreadable[name])
        state: Literal["OK", "ALARM"] = "ALARM" if name in self.red else "OK"
        return AlarmReading(state, self.red.get(name, ""), self.changed_at.get(name))


@dataclass
class Machine:
    """An instance of EC2 in memory. `lifecycle` is its state in the Auto Scaling group `group`."""

    tags: dict[str, str] = field(default_factory=dict)
    group: str = ""
    state: str = "running"
    zone: str = "us-east-1a"
    lifecycle: str = "InService"


@dataclass
class MemoryFleets:
    """EC2 with the machines that a test puts there, by id. `groups` are Auto Scaling groups, the empty ones too.
    `unreachable` makes every question raise Unavailable."""

    machines: dict[str, Machine] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    unreachable: bool = False
    asked: int = 0

    async def members(self, wanted: Instances) -> Sequence[Member]:
        self._ask()
        groups = {*self.groups, *(m.group for m in self.machines.values())}
        absent = [name for name in wanted.ids if name not in self.machines]
        absent += [name for name in wanted.autoscaling if name not in groups]
        if absent:
            raise InvalidRequest(f"cannot find {', '.join(absent)} in memory")
        return [
            Member(id, m.state, m.zone, m.group, m.lifecycle if m.group in wanted.autoscaling else "")
            for id, m in self.machines.items()
            if id in wanted.ids or (m.group and m.group in wanted.autoscaling) or matches(m.tags, wanted)
        ]

    async def lost(self, ids: Sequence[str], *, missing: bool = False) -> Mapping[str, str]:
        self._ask()
        states = {id: self.machines[id].state if id in self.machines else "missing" for id in ids}
        return {id: state for id, state in states.items() if state != "running" and (missing or state != "missing")}

    async def terminate(self, ids: Sequence[str]) -> None:
        self._ask()
        for id in ids:
            if id in self.machines:
                self.machines[id].state = "shutting-down"

    def _ask(self) -> None:
        self.asked += 1
        if self.unreachable:
            raise Unavailable("cannot reach EC2")


@dataclass
class MemoryShifter:
    """Resources whose traffic is shifted, all at their original at first.

    `hooks` maps functions to their answer; one that is not there never answers. Faults: `unreachable` makes verbs raise
    Unavailable and readings tell nothing; `not_ready` names resources whose replacement is not; `fatal` maps resources
    to why they never will be; `refuses` makes `set_weight` raise InvalidRequest; `slow`: readings until a weight shows.
    """

    hooks: dict[str, HookAnswer] = field(default_factory=dict)
    unreachable: bool = False
    not_ready: set[str] = field(default_factory=set)
    fatal: dict[str, str] = field(default_factory=dict)
    refuses: str = ""
    slow: int = 0
    calls: list[tuple[str, float]] = field(default_factory=list)
    """Every weight that was asked for and differed: (resource, weight)."""
    invoked: list[HookCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.has: dict[str, float] = {}
        self.arranged: dict[str, Arrangement] = {}
        self.arrangements: list[tuple[str, Arrangement]] = []
        self._shows: dict[str, tuple[float, int]] = {}

    async def check(self, resources: Sequence[Resource], *, gradual: bool = False) -> Sequence[Problem]:
        return [Problem(self.fatal[one.name], instance=one.name) for one in resources if one.name in self.fatal]

    async def set_weight(self, resource: Resource, weight: float) -> None:
        if self.unreachable:
            raise Unavailable("cannot reach the platform")
        if self.refuses:
            raise InvalidRequest(f"cannot move {resource.name}: {self.refuses}")
        if self.has.get(resource.name, 0.0) != weight:
            self.calls.append((resource.name, weight))
            self._shows[resource.name] = (self.has.get(resource.name, 0.0), self.slow)
            self.has[resource.name] = weight

    async def arrange(self, resource: Resource, wanted: Arrangement) -> None:
        if self.unreachable:
            raise Unavailable("cannot reach the platform")
        if self.arranged.get(resource.name) is not wanted:
            self.arrangements.append((resource.name, wanted))
            self.arranged[resource.name] = wanted

    async def readings(self, resources: Sequence[Resource]) -> Mapping[str, ShiftReading]:
        return {one.name: self._reading(one.name) for one in resources}

    async def invoke(self, call: HookCall, *, wait: bool) -> HookAnswer | None:
        if self.unreachable:
            raise Unavailable("cannot reach the platform")
        self.invoked.append(call)
        return self.hooks.get(call.function) if wait else None

    def _reading(self, name: str) -> ShiftReading:
        if self.unreachable:
            return ShiftReading(None, ready=False, detail="cannot reach the platform")
        if name in self.fatal:
            return ShiftReading(None, ready=False, fatal=True, detail=self.fatal[name])
        before, left = self._shows.get(name, (0.0, 0))
        self._shows[name] = (before, max(0, left - 1))
        shown = before if left else self.has.get(name, 0.0)
        ready, arranged = name not in self.not_ready, self.arranged.get(name)
        holds = frozenset({arranged} if arranged and ready else ())
        return ShiftReading(shown, ready=ready, holds=holds)


@dataclass
class _Gate:
    open: bool
    since: float
    refused: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    checkers: set[str] = field(default_factory=set)


@dataclass
class MemoryGates:
    """Agents' gates. A test's health checker asks `answer`; all gates stand open at first.

    Faults: `disconnected`: instances whose agent cannot be asked to move its gate. `silent`: instances whose state is
    not reported. `problems`: why a gate cannot listen, by instance.
    """

    instances: Iterable[str] = ()
    probe: Callable[[str], bool] = _always
    monotonic: Callable[[], float] = time.monotonic
    disconnected: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gates = {instance: _Gate(True, self.monotonic()) for instance in self.instances}

    async def set(self, instance: str, *, open: bool) -> None:
        if instance in self.disconnected:
            raise Unavailable(f"cannot move the gate of instance {instance}: its agent is not connected")
        self.calls.append((instance, open))
        before = self._gates.get(instance)
        if before is None or before.open is not open:
            known = before.checkers if before else set()
            self._gates[instance] = _Gate(open, self.monotonic(), checkers=known)

    def state(self, instance: str) -> GateState | None:
        gate = self._gates.get(instance)
        if gate is None or instance in self.silent:
            return None
        return GateState(
            open=gate.open,
            since=self.monotonic() - gate.since,
            refused=min((gate.refused.get(one, 0) for one in gate.checkers), default=0),
            passed=min((gate.passed.get(one, 0) for one in gate.checkers), default=0),
            checkers=len(gate.checkers),
            problem=self.problems.get(instance, ""),
        )

    def answer(self, instance: str, checker: str) -> bool:
        """The answer to one check from the address `checker`: true is 200, false 503."""
        gate = self._gates[instance]
        gate.checkers.add(checker)
        passes = gate.open and self.probe(instance)
        gate.passed[checker] = gate.passed.get(checker, 0) + 1 if passes else 0
        gate.refused[checker] = 0 if passes else gate.refused.get(checker, 0) + 1
        return passes
