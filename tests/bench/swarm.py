"""Many simulated agents in one process, which speak the real protocol over TLS with certificates of their own.

They run no scripts: `pace` is how long each event lasts, give or take half of it. Reports are numbered, sent again
after a reconnect and kept until they are acknowledged, as the agent does it.

`python -m tests.bench.swarm --agents N` deploys once to N of them through a real coordinator and prints what came.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shiftwork_contract.diagnostics import Diagnostics
from shiftwork_contract.errors import Unavailable
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    Acknowledge,
    Command,
    CommandEnded,
    EventEnded,
    EventStarted,
    FromCoordinator,
    GroupState,
    Heartbeat,
    Hello,
    Observed,
    Quiet,
    Report,
    RunCommand,
    Unwatch,
    Watch,
    Welcome,
    encode,
    from_coordinator,
)
from shiftwork_coordinator.clock import SystemClock

CLOCK = SystemClock()
AT_ONCE = 25
"""Agents that connect at the same time."""
RETRY = 0.05
"""Seconds between two tries to connect. Shorter than the agent's jitter: the coordinator's part is measured."""


class Moments:
    """When the last report of a command left, and when commands came: one clock for all agents.

    `released` counts the agents that were told that the deployment is over.
    """

    def __init__(self) -> None:
        self.ended: list[tuple[float, Command]] = []
        self.commands: list[tuple[float, Command]] = []
        self.released = 0

    def clear(self) -> None:
        self.ended.clear()
        self.commands.clear()
        self.released = 0


class SimulatedAgent:
    def __init__(self, name: str, url: str, context: ssl.SSLContext, moments: Moments, pace: float) -> None:
        self.name, self._url, self._context = name, url, context
        self._moments, self.pace = moments, pace
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reports: deque[Report] = deque()
        self._seq = 0
        self._known: set[str] = set()
        self._unfinished: set[str] = set()
        self._random = random.Random(name)
        self._installed: dict[str, GroupState] = {}
        self._watches: dict[str, Watch] = {}
        self.linked = asyncio.Event()

    async def run(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, tasks: asyncio.TaskGroup) -> None:
        """Until cancelled; a lost link is opened again. What runs goes on meanwhile, as `tasks`."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                await self._link(session, gate, tasks)
            self._socket = None
            self.linked.clear()
            await asyncio.sleep(RETRY)

    async def _link(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, tasks: asyncio.TaskGroup) -> None:
        async with gate, asyncio.timeout(15.0):
            socket = await session.ws_connect(f"{self._url}/v1/agent/link", ssl=self._context, compress=0)
            await socket.send_str(encode(self._hello()))
            frame = await socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            return
        welcome = from_coordinator(frame.data)
        assert isinstance(welcome, Welcome), f"{self.name} got {welcome}"
        await self._send_again(socket)
        readings = [tasks.create_task(self._beat(welcome.heartbeat)), tasks.create_task(self._repeat_readings())]
        try:
            async with socket:
                async for frame in socket:
                    await self._handle(from_coordinator(frame.data), tasks)
        finally:
            for task in readings:
                task.cancel()

    def _hello(self) -> Hello:
        groups, unfinished = tuple(self._installed.values()), tuple(self._unfinished)
        return Hello(1, 1, "bench", "boot", self._seq + 1, groups=groups, unfinished=unfinished)

    async def _send_again(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """What was not acknowledged, and what is reported meanwhile, in order."""
        sent = 0
        while sent < len(self._reports):
            await socket.send_str(encode(self._reports[sent]))
            sent += 1
        self._socket = socket
        self.linked.set()

    async def _handle(self, message: FromCoordinator, tasks: asyncio.TaskGroup) -> None:
        if isinstance(message, Acknowledge):
            while self._reports and self._reports[0].seq <= message.seq:
                self._reports.popleft()
        elif isinstance(message, RunCommand):
            self._moments.commands.append((time.monotonic(), message.command))
            if message.command.id not in self._known:
                self._known.add(message.command.id)
                self._unfinished.add(message.command.id)
                tasks.create_task(self._execute(message.command))
        elif isinstance(message, Watch):
            self._watches[message.group_id] = message
            await self._read(message)
        elif isinstance(message, Unwatch):
            self._watches.pop(message.group_id, None)
            self._moments.released += 1

    async def _beat(self, every: float) -> None:
        while True:
            await self._send(encode(Heartbeat(0.1, 20.0, 1 << 30, 30 << 20)))
            await asyncio.sleep(every)

    async def _repeat_readings(self) -> None:
        while True:
            await asyncio.sleep(min((w.every for w in self._watches.values()), default=5.0))
            for watch in tuple(self._watches.values()):
                await self._read(watch)

    async def _read(self, watch: Watch) -> None:
        still = Quiet(True) if watch.quiet else None
        await self._send(encode(Observed(watch.group_id, watch.asked, quiet=still)))

    async def _execute(self, command: Command) -> None:
        await self._tell(lambda seq: Accepted(seq, command.id))
        for event in command.events:
            began = CLOCK.now()
            await self._tell(lambda seq, e=event, at=began: EventStarted(seq, command.id, e, at))
            if self.pace:
                await asyncio.sleep(self.pace * self._random.uniform(0.5, 1.5))
            await self._tell(lambda seq, e=event, at=began: _ended(seq, command.id, e, at))
        if not command.prepare:
            state = GroupState(command.group_id, command.revision.identity, command.deployment_id, command.sequence)
            self._installed[command.group_id] = state
        group, ran = self._installed.get(command.group_id), command.events
        self._unfinished.discard(command.id)
        self._moments.ended.append((time.monotonic(), command))
        await self._tell(
            lambda seq: CommandEnded(seq, command.id, EventStatus.SUCCEEDED, CLOCK.now(), ran, group=group)
        )

    async def _tell(self, make: Callable[[int], Report]) -> None:
        self._seq += 1
        report = make(self._seq)
        self._reports.append(report)
        await self._send(encode(report))

    async def _send(self, text: str) -> None:
        """Lost when the link is down: reports are sent again, readings come again."""
        if self._socket is not None and not self._socket.closed:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._socket.send_str(text)


def _ended(seq: int, command_id: str, event: str, began: float) -> EventEnded:
    return EventEnded(seq, command_id, event, EventStatus.SUCCEEDED, CLOCK.now(), Diagnostics(), started_at=began)


class Swarm:
    def __init__(self, agents: list[SimulatedAgent], moments: Moments) -> None:
        self.agents, self.moments = agents, moments

    def set_pace(self, seconds: float) -> None:
        for agent in self.agents:
            agent.pace = seconds

    async def released(self) -> None:
        """Returns when every agent was told that the deployment is over; asks the coordinator nothing."""
        while self.moments.released < len(self.agents):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def swarm(
    url: str, ca: Path, token: str, count: int, pace: float = 0.0, names: Sequence[str] = ()
) -> AsyncIterator[Swarm]:
    """`count` agents that have joined with `token`, perhaps by these names, and are connected."""
    moments = Moments()
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=str(ca)))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout()) as session:
        called = names or [f"sim-{n}" for n in range(1, count + 1)]
        agents = [await _joined(session, url, ca, token, name, moments, pace) for name in called]
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(agent.run(session, gate, tasks)) for agent in agents]
            for agent in agents:
                await agent.linked.wait()
            yield Swarm(agents, moments)
            for task in running:
                task.cancel()


async def _joined(
    session: aiohttp.ClientSession, url: str, ca: Path, token: str, name: str, moments: Moments, pace: float
) -> SimulatedAgent:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    async with session.post(f"{url}/v1/join", json={"token": token, "name": name, "csr": pem}) as answer:
        if answer.status != 200:
            raise Unavailable(f"cannot join as {name}: {answer.status} {await answer.text()}")
        certificate = (await answer.json())["certificate"]
    return SimulatedAgent(name, url, _context(ca, certificate, key), moments, pace)


def _context(ca: Path, certificate: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """A context that presents this certificate; the ssl module takes it from a file only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(ca))
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(secret + certificate.encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def deploy_once(directory: Path, count: int) -> dict[str, object]:
    """One deployment, half at a time, to `count` agents: the coordinator's last view of it."""
    from tests.bench.bundles import trivial
    from tests.bench.serving import serving

    async with serving(directory) as coordinator:
        token = await coordinator.token(count)
        async with swarm(coordinator.url, coordinator.ca, token, count):
            await coordinator.apply("HalfAtATime")
            revision = await coordinator.push(trivial(directory / "bundle"))
            deployment = await coordinator.deploy(revision)
            await coordinator.ended(deployment)
            return await coordinator.view(deployment)


def main() -> None:
    import argparse
    import json

    parser = argparse.ArgumentParser(description="Deploy once to simulated agents and print the deployment.")
    parser.add_argument("--agents", type=int, default=5)
    count = parser.parse_args().agents
    with tempfile.TemporaryDirectory(prefix="shiftwork-swarm-") as name:
        print(json.dumps(asyncio.run(deploy_once(Path(name), count))))


if __name__ == "__main__":
    main()
