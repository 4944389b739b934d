"""The gate: a health URL that says 503 while the engine keeps its target out of traffic.

Balancers ask it as their health check, so no balancer has to be configured anew, and what they were answered is
counted here: proof that they know. Nothing runs while nobody asks. Groups may share an address; the path tells them
apart. State is kept over restarts of the agent, counts are not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shiftwork_agent import health
from shiftwork_agent.clock import Clock
from shiftwork_agent.layout import write_atomically
from shiftwork_contract.messages import GateState, HealthCheck, Probe, SetGate

ASKED_LATELY = 60.0
REQUEST_LIMIT = 5.0
MANY_CHECKERS = 1000
"""From here on those that have not asked lately are forgotten: anybody may ask, from many addresses."""

log = logging.getLogger(__name__)


@dataclass
class Checker:
    """One address that asks: consecutive answers of each kind since the gate changed, and when it asked last."""

    refused: int = 0
    passed: int = 0
    asked_at: float = 0.0


@dataclass
class Gate:
    wanted: SetGate
    since: float
    checkers: dict[str, Checker] = field(default_factory=dict)
    problem: str = ""
    probed: Probe | None = None
    probed_at: float = 0.0
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, address: str, passed: bool, now: float) -> None:
        if len(self.checkers) >= MANY_CHECKERS and address not in self.checkers:
            self.checkers = {name: one for name, one in self.checkers.items() if now - one.asked_at <= ASKED_LATELY}
        checker = self.checkers.setdefault(address, Checker())
        checker.asked_at = now
        checker.passed, checker.refused = (checker.passed + 1, 0) if passed else (0, checker.refused + 1)

    def change(self, wanted: SetGate, now: float) -> None:
        if wanted.open != self.wanted.open:
            self.since = now
            self.checkers.clear()
        if wanted.health != self.wanted.health:
            self.probed = None
        self.wanted = wanted

    def state(self, now: float) -> GateState:
        lately = [c for c in self.checkers.values() if now - c.asked_at <= ASKED_LATELY]
        is_open = self.wanted.open
        return GateState(
            open=is_open,
            since=round(now - self.since, 3),
            refused=0 if is_open else min((c.refused for c in lately), default=0),
            passed=min((c.passed for c in lately), default=0) if is_open else 0,
            checkers=len(lately),
            problem=self.problem,
        )


class Gates:
    """`changed(group_id)` is called whenever an answer may have changed what `state` says."""

    def __init__(self, path: Path, clock: Clock, changed: Callable[[str], None], address: str = "") -> None:
        self._path, self._clock, self._changed, self._address = path, clock, changed, address
        self._gates: dict[str, Gate] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._setting = asyncio.Lock()  # two at once would both try to bind, and the second would call it a problem

    async def restore(self) -> None:
        """Opens and closes what was open and closed when the agent stopped."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[SetGate])
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as err:  # the coordinator says again what it wants of every gate it needs
            log.warning("cannot read the gates of before: %s", err, extra={"file": str(self._path)})
            return
        for wanted in kept:
            self._gates[wanted.group_id] = Gate(wanted, self._clock.uptime())
        await self._listen()

    async def set(self, wanted: SetGate) -> None:
        """Returns once the new answer is in force; a gate that cannot listen says so in its state."""
        async with self._setting:
            gate = self._gates.get(wanted.group_id)
            if not wanted.listen:
                self._gates.pop(wanted.group_id, None)
            elif gate is None:
                self._gates[wanted.group_id] = Gate(wanted, self._clock.uptime())
            else:
                gate.change(wanted, self._clock.uptime())
            kept = [gate.wanted for gate in self._gates.values()]
            try:
                await asyncio.to_thread(write_atomically, self._path, msgspec.json.encode(kept))
            except OSError as err:  # in force nevertheless; after a restart the coordinator says it again
                log.error("cannot remember the gates: %s", err, extra={"file": str(self._path)})
            await self._listen()
        self._changed(wanted.group_id)

    def state(self, group_id: str) -> GateState | None:
        gate = self._gates.get(group_id)
        return gate.state(self._clock.uptime()) if gate else None

    def states(self) -> dict[str, GateState]:
        return {group_id: gate.state(self._clock.uptime()) for group_id, gate in self._gates.items()}

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    async def _listen(self) -> None:
        wanted = {gate.wanted.listen for gate in self._gates.values()}
        for listen in self._servers.keys() - wanted:
            self._servers.pop(listen).close()
        for listen in wanted:
            problem = "" if listen in self._servers else await self._bind(listen)
            for gate in self._gates.values():
                if gate.wanted.listen == listen:
                    gate.problem = problem

    async def _bind(self, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not port.isdigit():
            return f"cannot listen on {listen!r}: write host:port"
        host = host.strip("[]") or self._address or "0.0.0.0"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(listen, reader, writer)

        try:
            self._servers[listen] = await asyncio.start_server(answer, host, int(port), limit=8192)
        except OSError as err:
            return f"cannot listen on {host}:{port}: {err.strerror or err}"
        except (OverflowError, ValueError) as err:
            return f"cannot listen on {host}:{port}: {err}"
        return ""

    async def _serve(self, listen: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection: a health check keeps none."""
        try:
            async with asyncio.timeout(REQUEST_LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
                peer = str(writer.get_extra_info("peername", ("",))[0])
                method, path, *_ = *head.split(b" ", 2), b"", b""
                status, reason = await self._answer(listen, method, path.partition(b"?")[0].decode("latin-1"), peer)
                writer.write(_response(status, reason, body=method != b"HEAD"))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, listen: str, method: bytes, path: str, peer: str) -> tuple[str, str]:
        gates = (g for g in self._gates.values() if g.wanted.listen == listen and g.wanted.path == path)
        gate = next(gates, None)
        if gate is None:
            return "404 Not Found", f"no gate is at {path[:100]}"
        if method not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", "ask with GET or HEAD"
        reason = await self._refusal(gate)
        gate.count(peer, not reason, self._clock.uptime())
        self._changed(gate.wanted.group_id)
        return ("503 Service Unavailable", reason) if reason else ("200 OK", "open")

    async def _refusal(self, gate: Gate) -> str:
        if not gate.wanted.open:
            return "closed: this instance is being kept out of traffic"
        check = gate.wanted.health
        if check is None:
            return ""
        answer = await self._probe(gate, check)
        still_open = gate.wanted.open
        if not still_open:
            return "closed: this instance is being kept out of traffic"
        return "" if answer.healthy else f"health check failed: {answer.detail}"

    async def _probe(self, gate: Gate, check: HealthCheck) -> Probe:
        """The check's answer, at most its interval old; many who ask at once share one."""
        async with gate.probing:
            now = self._clock.uptime()
            if gate.probed is None or now - gate.probed_at >= check.interval:
                gate.probed = await health.probe(check)
                gate.probed_at = now
            return gate.probed


def _response(status: str, reason: str, *, body: bool) -> bytes:
    text = f"{reason}\n".encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (text if body else b"")
