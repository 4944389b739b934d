"""In-memory twins of the ports: hosts that obey the orders, the way to them, and a coordinator. Shipped like those
of `shiftwork_coordinator.testing`, and accepted by the same suite as the real SSH.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shiftwork_contract.errors import Conflict
from shiftwork_coordinator.bootstrap.facts import Look
from shiftwork_coordinator.bootstrap.orders import PREFIX
from shiftwork_coordinator.bootstrap.packages import described, upstream
from shiftwork_coordinator.bootstrap.ports import HostProblem, Progress, Ran, Ticket
from shiftwork_coordinator.bootstrap.steps import Known
from shiftwork_coordinator.bootstrap.targets import Target

DEBIAN = Look(
    root=True,
    user="root",
    sudo="yes",
    machine="x86_64",
    hostname="host",
    address="10.0.0.1",
    distribution="Debian GNU/Linux 12 (bookworm)",
    ids=frozenset({"debian"}),
    glibc=(2, 36),
    systemd=True,
    tools=frozenset({"apt-get", "dpkg"}),
    free_opt=9_000_000_000,
    free_tmp=9_000_000_000,
)


@dataclass
class MemoryCoordinator:
    """`tokens` are those that could still be used; `made` all that there ever were, by the name they are for."""

    ca: str
    instances: dict[str, Known] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    made: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    slow: Callable[[str], asyncio.Event | None] = lambda what: None

    async def known(self, name: str) -> Known:
        await asyncio.sleep(0)
        return self.instances.get(name, Known())

    async def admit(self, name: str, tags: dict[str, str]) -> Ticket:
        self.made.append((name, tags))
        ticket = Ticket(secrets.token_hex(6), f"swj_{secrets.token_hex(6)}")
        self.tokens[ticket.text] = ticket.id
        if gate := self.slow("admit"):
            await gate.wait()
        return ticket

    async def withdraw(self, ticket: Ticket) -> None:
        self.tokens.pop(ticket.text, None)

    def join(self, token: str, name: str) -> None:
        if token not in self.tokens:
            raise Conflict("the token is unknown, used up, expired or revoked")
        del self.tokens[token]
        self.instances[name] = Known(exists=True)


@dataclass
class MemoryHost:
    """A host that knows the orders and nothing else. `files` lie under `root`, for whoever copies there.

    Faults: `fails` is the order that ends with 1 and the text; `hangs` the one that never ends; `mute`: its agent
    never connects; `full`: bytes after which a copy fails.
    """

    coordinator: MemoryCoordinator
    root: Path
    look: Look = DEBIAN
    sudo_password: str = ""
    version: str = ""
    instance: str = ""
    ca: str = ""
    active: bool = False
    fails: dict[str, str] = field(default_factory=dict)
    hangs: str = ""
    mute: bool = False
    full: int | None = None
    ran: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """Whole command lines, as a process list would show them."""

    async def run(self, command: str, stdin: bytes) -> Ran:
        self.commands.append(command)
        words = shlex.split(command)
        if words[0] == "sudo":
            refused, stdin = self._sudo(words, stdin)
            if refused:
                return Ran(1, refused)
        at = next(number for number, word in enumerate(words) if word.startswith(PREFIX))
        name, arguments = words[at].removeprefix(PREFIX), words[at + 1 :]
        if name not in ("look", "prepare", "discard") and words[0] != "sudo" and not self.look.root:
            return Ran(1, "permission denied")
        self.ran.append(name)
        if name == self.hangs:
            await asyncio.Event().wait()
        if name in self.fails:
            return Ran(1, self.fails[name])
        return self._obey(name, arguments, stdin)

    def _sudo(self, words: list[str], stdin: bytes) -> tuple[str, bytes]:
        if "-n" in words:
            return ("" if self.look.sudo == "yes" else "sudo: a password is required"), stdin
        given, _, rest = stdin.partition(b"\n")
        right = self.sudo_password and given.decode() == self.sudo_password
        return ("" if right else "sudo: no password was provided"), rest

    def _obey(self, name: str, arguments: list[str], stdin: bytes) -> Ran:
        match name:
            case "look":
                return Ran(0, "Welcome to this host!\n" + _looked(self.look))
            case "survey":
                return Ran(0, self._surveyed())
            case "prepare":
                made = self.root / f"shiftwork-bootstrap.{secrets.token_hex(3)}"
                made.mkdir()
                return Ran(0, f"@directory=/{made.name}\n")
            case "discard":
                self._drop(arguments[0])
            case "install":
                return self._install(*arguments)
            case "join":
                return self._join(arguments, stdin)
            case "start":
                self._start()
        return Ran(0, "")

    def _start(self) -> None:
        """Without an identity of this coordinator there is nobody to be heard."""
        self.active = bool(self.instance)
        if self.ca == self.coordinator.ca and not self.mute:
            heard = Known(exists=True, connected=True, version=upstream(self.version))
            self.coordinator.instances[self.instance] = heard

    def _surveyed(self) -> str:
        identity = json.dumps({"instance": self.instance}) if self.instance else ""
        pem = base64.b64encode(self.ca.encode()).decode()
        version = f"installed {self.version}" if self.version else ""
        state = "active" if self.active else "inactive"
        enabled = "enabled" if self.active else "disabled"
        return f"@version={version}\n@identity={identity}\n@ca={pem}\n@active={state}\n@enabled={enabled}\n"

    def _install(self, file: str, digest: str) -> Ran:
        path = self.root / file.lstrip("/")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        self._drop(str(Path(file).parent))
        if found != digest:
            return Ran(65, f"the copy has the SHA-256 {found}, the package {digest}")
        self.version = described(path).version
        self._start()
        return Ran(0, "Setting up shiftwork-agent ...")

    def _join(self, arguments: list[str], stdin: bytes) -> Ran:
        name = arguments[1]
        try:
            self.coordinator.join(stdin.decode().strip(), name)
        except Conflict as err:
            return Ran(3, f"shiftwork-agent: {err.message}")
        self.instance, self.ca, self.active = name, self.coordinator.ca, False
        return Ran(0, f"Joined as {name}.")

    def _drop(self, directory: str) -> None:
        there = self.root / directory.lstrip("/")
        for file in there.iterdir():
            file.unlink()
        there.rmdir()


def _looked(look: Look) -> str:
    said = {
        "uid": "0" if look.root else "1000",
        "user": look.user,
        "system": look.system,
        "machine": look.machine,
        "hostname": look.hostname,
        "ids": " ".join(look.ids),
        "distribution": look.distribution,
        "glibc": "glibc " + ".".join(map(str, look.glibc)) if look.glibc else "",
        "systemd": "yes" if look.systemd else "",
        "tools": " ".join(look.tools),
        "free_opt": str(look.free_opt // 1024),
        "free_tmp": str(look.free_tmp // 1024),
        "address": look.address,
        "sudo": look.sudo,
    }
    return "".join(f"@{key}={value}\n" for key, value in said.items())


@dataclass
class MemorySession:
    host: MemoryHost

    async def run(self, command: str, stdin: bytes = b"") -> Ran:
        await asyncio.sleep(0)
        return await self.host.run(command, stdin)

    async def copy(self, source: Path, to: str, progress: Progress) -> None:
        await asyncio.sleep(0)
        content = await asyncio.to_thread(source.read_bytes)
        place = self.host.root / to.lstrip("/")
        place.write_bytes(content[: self.host.full])
        if self.host.full is not None and self.host.full < len(content):
            raise HostProblem(f"cannot copy {source.name} to {to}: no space left", "make room there")
        if self.host.hangs == "copy":
            await asyncio.Event().wait()
        progress(len(content))


@dataclass
class MemoryDialer:
    """`hosts` by the name that a target dials; anything else is unreachable. `most` were open at once."""

    hosts: dict[str, MemoryHost]
    open: int = 0
    most: int = 0

    @asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator[MemorySession]:
        host = self.hosts.get(target.host)
        if host is None:
            raise HostProblem(f"cannot reach {target}: nobody answers", "check the address")
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield MemorySession(host)
        finally:
            self.open -= 1
