"""A coordinator without HTTP, agents that obey, and a balancer in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    CancelCommand,
    Command,
    CommandEnded,
    EventEnded,
    EventStarted,
    FromCoordinator,
    GateState,
    GroupState,
    Hello,
    HostFacts,
    Observed,
    Probe,
    RunCommand,
    SetGate,
    Watch,
)
from shiftwork_contract.revision import Revision
from shiftwork_coordinator import balancers
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.rows import Deployment, Group, Instance, StoredRevision
from shiftwork_coordinator.model.settings import GroupSettings, Instances, Limits
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Fenced, Outputs, Put, Store
from shiftwork_coordinator.testing import MemoryBalancer

V1, V2, V3 = (f"sha256:{digit * 64}" for digit in "123")


class Agent:
    """Speaks the protocol; `fails(command, event)` decides which events fail; `holds` keeps hooks from ending."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.ran: list[tuple[str, str]] = []
        self.commands: list[Command] = []
        self.installed = ""
        self.host = HostFacts()
        self.alive = True
        self.seq = 0
        self.cancelled: set[str] = set()
        self.asked, self.probing = 0, True
        self.gate: GateState | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.inbox: asyncio.Queue[FromCoordinator] = asyncio.Queue()

    def send(self, message: FromCoordinator) -> None:
        if isinstance(message, CancelCommand):
            self.cancelled.add(message.command_id)
        elif self.alive:
            self.inbox.put_nowait(message)

    def close(self, reason: str) -> None:
        self.alive = False

    async def connect(self) -> None:
        self.alive = True
        hello = Hello(1, 1, "test", "boot", self.seq + 1, host=self.host)
        await self.world.home.connected(self.name, hello, self)

    async def serve(self) -> None:
        while True:
            message = await self.inbox.get()
            if isinstance(message, Watch):
                self.asked = max(self.asked, message.asked)  # an agent never takes back what it has handled
                if self.probing:
                    reading = Observed(message.group_id, self.asked, probe=Probe(True), gate=self.gate)
                    self.world.home.reading(self.name, reading)
            elif isinstance(message, SetGate):
                self.gate = GateState(message.open, 60.0, refused=9, passed=9, checkers=1)
                self.world.home.reading(self.name, Observed(message.group_id, self.asked, gate=self.gate))
            elif isinstance(message, RunCommand) and message.command.id not in {c.id for c in self.commands}:
                self.commands.append(message.command)
                await self.run(message.command)

    async def run(self, command: Command) -> None:
        status, why, ran = EventStatus.SUCCEEDED, Diagnostics(), []
        await self.tell(lambda seq: Accepted(seq, command.id))
        for event in command.events:
            if command.id in self.cancelled:
                status = EventStatus.SKIPPED
                break
            ran.append(event)
            self.ran.append((command.deployment_id, event))
            await self.tell(lambda seq, e=event: EventStarted(seq, command.id, e, 0.0))
            await self.release.wait()
            if event == "Install":
                self.installed = command.revision.identity
            if self.world.fails(self.name, command, event):
                status, why = EventStatus.FAILED, Diagnostics(ErrorCode.SCRIPT_FAILED, "x.sh", f"{event} exited 1")
            await self.tell(lambda seq, e=event, s=status, w=why: EventEnded(seq, command.id, e, s, 0.0, w))
            if status is EventStatus.FAILED:
                break
        state = GroupState(command.group_id, self.installed, command.deployment_id)
        await self.tell(lambda seq: CommandEnded(seq, command.id, status, 0.0, tuple(ran), why, state))

    async def tell(self, report: Callable[[int], object]) -> None:
        self.seq += 1
        while self.alive:
            try:
                return await self.world.home.report(self.name, report(self.seq))  # type: ignore[arg-type]
            except Fenced:  # the process it spoke to was replaced: a real agent sends it again to the next one
                await asyncio.sleep(0.01)
        return None


class World:
    """`fails` may be replaced by a test. `restart` is what a killed and restarted coordinator process sees."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store, self.data = store, data
        self.epoch = 0
        self.home: Coordinator
        self.agents: dict[str, Agent] = {}
        self.fails: Callable[[str, Command, str], bool] = lambda agent, command, event: False

    async def start(self) -> None:
        self.epoch += 1
        await self.store.in_writer(lambda c: _set_epoch(c, self.epoch))
        self.home = Coordinator(self.store, Outputs(self.data / "output"), SystemClock(), self.epoch)
        await self.home.start()

    async def restart(self) -> None:
        await self.home.stop()
        await self.start()
        for agent in self.agents.values():
            await agent.connect()

    async def ended(self, deployment_id: str) -> Deployment:
        async with asyncio.timeout(60):
            while True:
                async for _ in self.home.changes(deployment_id):
                    pass
                row = await self.store.deployment(deployment_id)
                if row is not None and row.status in ENDED:
                    return row
                await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)


def _set_epoch(connection, epoch: int) -> None:  # type: ignore[no-untyped-def]
    from shiftwork_coordinator.store.lease import _take

    assert _take(connection, "test", 0.0) == epoch


@pytest.fixture
async def world(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    store = await Store.open(database)
    world = World(store, tmp_path)
    names = [f"web-{n}" for n in range(1, 5)]
    memory = MemoryBalancer(names)
    world.balancer = memory  # type: ignore[attr-defined]
    monkeypatch.setitem(balancers.BUILT_IN, "memory", lambda settings, gates: memory)  # type: ignore[arg-type]
    settings = GroupSettings(
        Instances(names=tuple(names)),
        config="HalfAtATime",
        load_balancers=({"memory": {}},),
        rollback=("failure",),
        limits=Limits(block_within=60, allow_within=60, healthy_wait=60),
    )
    group = Group("g-1", "web", "production", settings)
    revisions = [StoredRevision("web", Revision(v, "coordinator:"), 1, 1, 0.0) for v in (V1, V2, V3)]
    instances = [Instance(name) for name in names]
    await store.write(Put(group), *(Put(r) for r in [*revisions, *instances]))
    await world.start()
    async with asyncio.TaskGroup() as tasks:
        serving = []
        for name in names:
            agent = world.agents[name] = Agent(name, world)
            serving.append(tasks.create_task(agent.serve()))
            await agent.connect()
        yield world
        for task in serving:
            task.cancel()
    await world.home.stop()
    await store.close()
