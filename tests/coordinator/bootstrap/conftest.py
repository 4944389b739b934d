"""A fleet of hosts that obey the orders, reached in memory or through a real SSH server, and their coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from shiftwork_coordinator.bootstrap import packages
from shiftwork_coordinator.bootstrap.facts import fingerprint
from shiftwork_coordinator.bootstrap.fleet import Pace, Result, Run
from shiftwork_coordinator.bootstrap.ports import Dialer
from shiftwork_coordinator.bootstrap.ssh import Access, SshDialer
from shiftwork_coordinator.bootstrap.steps import Wish
from shiftwork_coordinator.bootstrap.targets import Target
from shiftwork_coordinator.bootstrap.testing import DEBIAN, MemoryCoordinator, MemoryDialer, MemoryHost
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.pki import Authority

URL = "https://coordinator.example.com:7070"


class Notes:
    """A watcher that writes down what it hears."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.hear: Callable[[Target, str], None] = lambda target, stage: None

    def told(self, target: Target, instance: str, stage: str) -> None:
        self.stages.append((str(target), stage))
        self.hear(target, stage)

    def ended(self, result: Result) -> None: ...


@dataclass
class Fleet:
    """Hosts by the name that a test gives them; `wish`, `pace` and `password` are for the next run."""

    kind: str
    directory: Path
    coordinator: MemoryCoordinator
    wish: Wish
    stack: AsyncExitStack
    pace: Pace = field(default_factory=lambda: Pace(timeout=60.0, heard_within=60.0))
    password: str = ""
    hosts: dict[str, MemoryHost] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    run: Run | None = None

    async def add(self, name: str, *, look: dict[str, Any] | None = None, **changes: Any) -> MemoryHost:
        root = self.directory / name
        root.mkdir()
        seen = replace(DEBIAN, **{"hostname": name, **(look or {})})
        self.hosts[name] = MemoryHost(self.coordinator, root, seen, **changes)
        port = await self._listen(name) if self.kind == "ssh" else 0
        self.targets[name] = Target("127.0.0.1", "operator", port) if port else Target(name)
        return self.hosts[name]

    async def bootstrap(self, *names: str) -> dict[str, Result]:
        """Results by the tests' names of all hosts, or of those named."""
        self.run = Run(self.dialer(), self.coordinator, self.wish, SystemClock(), self.notes, self.pace, self.password)
        wanted = {name: self.targets[name] for name in names or self.targets}
        await self.run.over(list(wanted.values()))
        found = {result.target: result for result in self.run.results}
        return {name: found[target] for name, target in wanted.items()}

    def dialer(self, **access: Any) -> Dialer:
        if self.kind == "memory":
            return MemoryDialer(self.hosts)
        known = {"identities": (self.directory / "key",), "known_hosts": self.directory / "known_hosts"}
        (self.directory / "config").touch()
        return SshDialer(Access(**{**known, "config": self.directory / "config", **access}))

    def left(self) -> list[Path]:
        """Whatever still lies on the hosts."""
        return [file for host in self.hosts.values() for file in host.root.iterdir()]

    async def _listen(self, name: str) -> int:
        host = self.hosts[name]

        async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
            ran = await host.run(process.command or "", await process.stdin.read())
            process.stdout.write(ran.output.encode())
            process.exit(ran.code)

        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.key(f"{name}-host")],
            authorized_client_keys=str(self._public("key")),
            process_factory=handle,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(host.root).encode()),
            encoding=None,
        )
        self.stack.push_async_callback(server.wait_closed)
        self.stack.callback(server.close)
        port = server.get_port()
        self.know(port, self.key(f"{name}-host"))
        return int(port)

    def know(self, port: int, key: asyncssh.SSHKey) -> None:
        with (self.directory / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")

    def key(self, name: str) -> asyncssh.SSHKey:
        file = self.directory / name
        if not file.exists():
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(file)
        return asyncssh.read_private_key(file)

    def _public(self, name: str) -> Path:
        file = self.directory / f"{name}.pub"
        self.key(name).write_public_key(file)
        return file


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Authority(tmp_path_factory.mktemp("ca"), SystemClock()).pem


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], packages.Package]:
    def made(name: str) -> packages.Package:
        file = tmp_path / name
        file.write_bytes(name.encode() * 5000)
        return packages.load([file])[0]

    return made


@pytest.fixture
async def make_fleet(tmp_path: Path, ca: str, package: Any) -> Any:
    async with AsyncExitStack() as stack:

        def made(kind: str) -> Fleet:
            wish = Wish(packages=(package("shiftwork-agent_0.2.0_amd64.deb"),), url=URL, ca=fingerprint(ca))
            return Fleet(kind, tmp_path, MemoryCoordinator(ca), wish, stack)

        yield made


@pytest.fixture(params=["memory", "ssh"])
def fleet(request: pytest.FixtureRequest, make_fleet: Callable[[str], Fleet]) -> Iterator[Fleet]:
    yield make_fleet(request.param)


@pytest.fixture
def ssh_fleet(make_fleet: Callable[[str], Fleet]) -> Fleet:
    return make_fleet("ssh")
