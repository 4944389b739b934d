"""Any balancer with health checks, steered by what the checks find: the gate that an agent serves for its target.

Nothing is asked of the balancer. That it has stopped sending is counted, not read: the gate itself has refused it
often enough. What is still in flight only the agent can see, so readings carry no count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import GateState
from shiftwork_coordinator.balancers.settings import read_settings
from shiftwork_coordinator.ports import Gates, Problem, Reading, Server, TrafficState

MARGIN = 1.0
"""Seconds between the last check that a balancer needs and what it then does."""


class GatePoint(msgspec.Struct, frozen=True):
    """Where an agent's gate listens for the balancer's checks: `port` on the target's address, and `path`."""

    port: int = 7071
    path: str = "/ready"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the balancer checks: `fails` refusals in a row take a server out, `passes` bring it back, one check each
    `interval` seconds of at most `timeout` seconds. `checkers`: how many addresses must have been asking.
    """

    fails: int
    passes: int
    interval: float
    timeout: float
    checkers: int = 1
    gate: GatePoint = GatePoint()


class Checks(msgspec.Struct, frozen=True):
    """What proves that balancers know: `refused` and `passed` answers in a row, and seconds since the gate moved."""

    refused: int
    passed: int
    closed_for: float
    open_for: float
    checkers: int = 1


def checks(fails: int, passes: int, interval: float, timeout: float, checkers: int = 1) -> Checks:
    return Checks(fails, passes, fails * interval + timeout, passes * interval + MARGIN, checkers)


def judged(gate: GateState | None, needed: Checks) -> tuple[TrafficState, str]:
    """How a balancer that checks this gate treats the server, and why."""
    if gate is None:
        return TrafficState.UNKNOWN, "the agent has not reported its gate yet"
    if gate.problem:
        return TrafficState.UNKNOWN, f"gate: {gate.problem}"
    if gate.checkers < needed.checkers:
        waiting = TrafficState.STARTING if gate.open else TrafficState.DRAINING
        return waiting, f"gate asked by {gate.checkers} of {needed.checkers} checkers"
    return _opened(gate, needed) if gate.open else _closed(gate, needed)


def _closed(gate: GateState, needed: Checks) -> tuple[TrafficState, str]:
    said = f"gate closed {gate.since:.1f} s of {needed.closed_for:.1f} s, refused {gate.refused} of {needed.refused}"
    proven = gate.refused >= needed.refused and gate.since >= needed.closed_for
    return (TrafficState.ABSENT if proven else TrafficState.DRAINING), said


def _opened(gate: GateState, needed: Checks) -> tuple[TrafficState, str]:
    said = f"gate open {gate.since:.1f} s of {needed.open_for:.1f} s, passed {gate.passed} of {needed.passed}"
    if gate.passed >= needed.passed and gate.since >= needed.open_for:
        return TrafficState.HEALTHY, said
    late = gate.since >= 3 * needed.open_for and gate.passed == 0
    return (TrafficState.UNHEALTHY if late else TrafficState.STARTING), said


class Gate:
    """The gate alone: out is proven by refusals, `in_flight` is None and the agent's view decides about quiet."""

    def __init__(self, wanted: Settings, gates: Gates) -> None:
        self.name = f"gate :{wanted.gate.port}{wanted.gate.path}"
        self._gates = gates
        self._needed = checks(wanted.fails, wanted.passes, wanted.interval, wanted.timeout, wanted.checkers)

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        """Gates that cannot listen. One that has not reported yet is no problem: it may not have been asked to."""
        return broken_gates(self._gates, servers)

    async def deregister(self, servers: Sequence[Server]) -> None:
        await move(self._gates, servers, open=False)

    async def register(self, servers: Sequence[Server]) -> None:
        await move(self._gates, servers, open=True)

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        return {server.instance: self._reading(server) for server in servers}

    def _reading(self, server: Server) -> Reading:
        state, detail = judged(self._gates.state(server.instance), self._needed)
        return Reading(state, detail=detail)

    async def close(self) -> None:
        """Nothing to close."""


async def move(gates: Gates, servers: Sequence[Server], *, open: bool) -> None:
    """Sets each gate that is not known to stand so; every agent is asked before the first error is raised.

    A gate that already stands as wanted is left alone: setting it again would begin its counting anew.
    """
    failed: list[Unavailable] = []
    for server in servers:
        stands = gates.state(server.instance)
        if stands is not None and stands.open is open:
            continue
        try:
            await gates.set(server.instance, open=open)
        except Unavailable as err:
            failed.append(err)
    if failed:
        raise failed[0]


def broken_gates(gates: Gates, servers: Sequence[Server]) -> list[Problem]:
    return [
        Problem(
            f"cannot use the gate of instance {server.instance}: {state.problem}; free the port or change `gate.port`",
            instance=server.instance,
        )
        for server in servers
        if (state := gates.state(server.instance)) is not None and state.problem
    ]


def connect(settings: Mapping[str, object], gates: Gates) -> Gate:
    """The driver for these settings. Raises InvalidRequest for settings it cannot use."""
    wanted = read_settings("gate", Settings, settings)
    check_point("gate", wanted.gate)
    for key in ("fails", "passes", "interval", "timeout", "checkers"):
        value = getattr(wanted, key)
        if value <= 0:
            raise InvalidRequest(
                f"cannot use load balancer `gate`: `{key}` is {value:g}; it must be above 0, as the balancer has it",
                code="INVALID_LOAD_BALANCER",
            )
    return Gate(wanted, gates)


def check_point(kind: str, point: GatePoint) -> None:
    if not 0 < point.port < 65536 or not point.path.startswith("/"):
        raise InvalidRequest(
            f"cannot use load balancer `{kind}`: gate {point.port}{point.path!r}; "
            "`gate.port` is 1-65535 and `gate.path` begins with /",
            code="INVALID_LOAD_BALANCER",
        )
