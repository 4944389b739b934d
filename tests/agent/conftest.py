"""An agent in the test's own event loop, linked to a fake coordinator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.daemon import Agent
from shiftwork_agent.identity import Credentials, Identity
from shiftwork_agent.layout import Layout
from shiftwork_agent.testing import FakeCoordinator, FakeInstaller
from shiftwork_contract.messages import Command, CommandEnded, RunCommand
from shiftwork_contract.revision import Revision


class TestClock(SystemClock):
    """The host's, and `later` seconds more."""

    __test__ = False
    later = 0.0

    def uptime(self) -> float:
        return super().uptime() + self.later


class _Over(Exception):
    pass


class Bench:
    """A coordinator, and agents that are started and stopped on one state directory."""

    def __init__(self, root: Path, coordinator: FakeCoordinator) -> None:
        self.layout = Layout(root / "state")
        self.installer = FakeInstaller(root)
        self.coordinator = coordinator
        self.clock = TestClock()
        self.sequence = 0

    @contextlib.asynccontextmanager
    async def agent(self, **settings: Any) -> AsyncIterator[Agent]:
        self.layout.create()
        config = Config((self.coordinator.url,), **settings)
        who = Credentials(Identity("i-1", "web-1", 2e9, 3e9), None)
        hellos = len(self.coordinator.hellos)
        try:
            async with asyncio.TaskGroup() as tasks:
                agent = Agent(self.layout, config, who, self.clock, tasks, self.installer)
                await agent.start()
                await self.coordinator.linked(hellos + 1)
                yield agent
                await agent.stop()
                raise _Over
        except* _Over:
            pass

    def command(self, *events: str, revision: str = "r1", **fields: Any) -> Command:
        self.sequence = fields.pop("sequence", self.sequence + 1)
        values: dict[str, Any] = {
            "id": f"c-{self.sequence}",
            "deployment_id": "d-1",
            "group_id": "g-1",
            "application": "web",
            "group": "production",
            "sequence": self.sequence,
            "revision": Revision(revision, "coordinator:"),
            "events": events,
        }
        return Command(**(values | fields))

    async def send(self, command: Command) -> None:
        await self.coordinator.send(RunCommand(self.coordinator.epoch, command))

    async def run(self, command: Command) -> CommandEnded:
        await self.send(command)
        return await self.coordinator.expect(CommandEnded, command_id=command.id)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FakeCoordinator() as coordinator:
        yield Bench(tmp_path, coordinator)


@pytest.fixture
def free_port(unused_tcp_port_factory: Callable[[], int]) -> int:
    return unused_tcp_port_factory()
