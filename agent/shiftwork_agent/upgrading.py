"""This agent's own upgrade: brought here and checked by the agent, done by a script outside it, reported by whichever
agent runs afterwards.

The script (upgrade.sh) is started in a transient unit, because the package manager restarts the agent. Both talk by
files in one directory: `plan` to the script, `outcome` from it, and `connected` while this agent is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from shiftwork_agent.layout import safe_name, write_atomically
from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.messages import HostFacts, Message, Package, Upgrade, Upgraded

log = logging.getLogger(__name__)

FEATURE = "upgrade"
SCRIPT = Path(__file__).with_name("upgrade.sh")
HOLD = 5
"""Seconds for which the new agent must stay connected before the script lets it be."""
LOOK_EVERY = 1.0
START_AGAIN_AFTER = 60
"""Looks for an outcome after which the script is started again, in case that it was killed; else that does nothing."""
MOST_BYTES = 1 << 30
"""Of one package."""
PATH = re.compile(r"/v1/agent/packages/sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}")


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What was asked and how it stands: upgrade.json. `format` is of this file."""

    upgrade: Upgrade
    state: Upgraded
    format: int = 1


class Fetch(Protocol):
    def __call__(self, package: Package, into: Path) -> Awaitable[None]:
        """Afterwards `into` holds the package, whole and checked."""


class Upgrades:
    """`problem` is why this agent cannot be upgraded by itself; empty when it can. Nothing is begun or taken up again
    while there is one: an earlier agent may have said yes before `require_signed` was set."""

    def __init__(
        self,
        directory: Path,
        version: str,
        facts: HostFacts,
        problem: str,
        send: Callable[[Message], None],
        fetch: Fetch,
        tasks: asyncio.TaskGroup,
        hold: int = HOLD,
    ) -> None:
        self._directory, self._version, self.facts, self.problem = directory, version, facts, problem
        self._send, self._fetch, self._tasks, self._hold = send, fetch, tasks, hold
        self._record: Record | None = None
        self._working = False

    def start(self) -> None:
        """Reads back what an earlier agent was at. Before the first link."""
        self._connected.unlink(missing_ok=True)
        try:
            self._record = msgspec.json.decode(self._file.read_bytes(), type=Record)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as err:  # it is for reports alone: the agent is what it is
            log.warning("cannot read %s: %s", self._file, err)
            return
        if self._state == "installing":
            self._work(self._resume)

    def connected(self) -> None:
        """A link is up: says how the last upgrade stands, and lets the script know."""
        if self._record is None:
            return
        upgrade = self._record.upgrade
        if self._state == "installing":
            self._show_connected()
        if self._state == "fetching" and self.problem:
            self._give_up(upgrade)
        elif self._state in ("fetching", "installing") and not self._working:
            self._work(self._resume if self._state == "installing" else partial(self._begin, upgrade))
        self._send(self._record.state)

    def _give_up(self, upgrade: Upgrade) -> None:
        self._record = Record(upgrade, Upgraded(upgrade.id, "refused", self.problem))
        with contextlib.suppress(OSError):  # the next agent gives it up as well
            write_atomically(self._file, msgspec.json.encode(self._record))

    def _show_connected(self) -> None:
        try:
            write_atomically(self._connected, self._version.encode() + b"\n")
        except OSError as err:  # the script takes this agent for one that does not work, and goes back
            log.error("cannot let the installation know of the link: %s", err)

    def disconnected(self) -> None:
        self._connected.unlink(missing_ok=True)

    def refuse(self, upgrade: Upgrade, why: str) -> None:
        log.warning("upgrade refused", extra={"upgrade": upgrade.id, "why": why})
        self._send(Upgraded(upgrade.id, "refused", why))

    def receive(self, upgrade: Upgrade) -> None:
        """Begins it, or says why not; one that is known is answered with how it stands."""
        if self._record is not None and self._record.upgrade.id == upgrade.id:
            self._send(self._record.state)
        elif why := self._refusal(upgrade):
            self.refuse(upgrade, why)
        else:
            try:
                self._accept(upgrade)
            except OSError as err:
                self.refuse(upgrade, f"cannot remember the upgrade: {err}")

    def _accept(self, upgrade: Upgrade) -> None:
        if upgrade.package.version == self._version:
            self._keep(upgrade, Upgraded(upgrade.id, "done", "it was this version already"))
        else:
            self._keep(upgrade, Upgraded(upgrade.id, "fetching"))
            self._work(partial(self._begin, upgrade))

    def _refusal(self, upgrade: Upgrade) -> str:
        if self.problem:
            return self.problem
        if self._record is not None and self._state in ("fetching", "installing"):
            return f"upgrade {self._record.upgrade.id} to {self._record.upgrade.package.version} is under way"
        return next(filter(None, map(_wrong, filter(None, (upgrade.package, upgrade.previous)))), _wrong_id(upgrade.id))

    @property
    def _state(self) -> str:
        return self._record.state.state if self._record else ""

    @property
    def _file(self) -> Path:
        return self._directory / "upgrade.json"

    @property
    def _connected(self) -> Path:
        return self._directory / "connected"

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.{self.facts.package}"

    def _keep(self, upgrade: Upgrade, state: Upgraded) -> None:
        """Durable before it is told."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        record = Record(upgrade, state)
        write_atomically(self._file, msgspec.json.encode(record))
        self._record = record
        log.info("upgrade", extra={"upgrade": upgrade.id, "state": state.state, "why": state.message})
        self._send(state)

    def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        self._working = True
        self._tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """A disk without room, a host without processes: the next link tries again, and the agent goes on meanwhile."""
        try:
            await work()
        except OSError as err:
            log.error("the upgrade cannot go on now: %s", err)
        finally:
            self._working = False

    # The work

    async def _begin(self, upgrade: Upgrade) -> None:
        try:
            self._clear()
            await self._fetch(upgrade.package, self._path("new"))
            if upgrade.previous is not None:
                await self._fetch(upgrade.previous, self._path("previous"))
            self._keep(upgrade, Upgraded(upgrade.id, "installing"))
            await self._install(upgrade)
        except (ShiftworkError, OSError) as err:
            self._clear()
            why = err.message if isinstance(err, ShiftworkError) else str(err)
            self._keep(upgrade, Upgraded(upgrade.id, "refused", why))
        else:
            await self._await_outcome(upgrade)

    async def _install(self, upgrade: Upgrade) -> None:
        """Once `plan` is there, it will be done, whatever is killed or loses power."""
        write_atomically(self._directory / SCRIPT.name, SCRIPT.read_bytes())
        wanted = (self.facts.package, upgrade.package.version, f"{upgrade.connect_within:.0f}", str(self._hold))
        write_atomically(self._directory / "plan", "".join(f"{line}\n" for line in wanted).encode())
        code, said = await self._start_unit(upgrade)
        if code:
            raise Unavailable(f"cannot start the installation: systemd-run exited {code}: {said}")

    async def _start_unit(self, upgrade: Upgrade) -> tuple[int, str]:
        argv = ["systemd-run", "--quiet", "--collect", f"--unit=shiftwork-agent-upgrade-{upgrade.id}"]
        argv += ["/bin/sh", str(self._directory / SCRIPT.name), str(self._directory)]
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=null, stderr=pipe)
        except OSError as err:
            return err.errno or 1, str(err)
        _, said = await process.communicate()
        return process.returncode or 0, said.decode(errors="replace").strip()[-500:]

    async def _resume(self) -> None:
        """After a restart, most likely by the script itself: while that runs, systemd starts no second one."""
        assert self._record is not None
        upgrade = self._record.upgrade
        if not self._outcome.exists() and not self.problem:
            try:
                if not (self._directory / "plan").exists():
                    await self._install(upgrade)
                else:
                    await self._start_unit(upgrade)
            except (ShiftworkError, OSError) as err:
                log.info("the installation was not started again: %s", err)
        await self._await_outcome(upgrade)

    @property
    def _outcome(self) -> Path:
        return self._directory / "outcome"

    async def _await_outcome(self, upgrade: Upgrade) -> None:
        """What this agent is decides what is reported; the script says why."""
        looks = 0
        while not self._outcome.exists():
            await asyncio.sleep(LOOK_EVERY)
            looks += 1
            if looks % START_AGAIN_AFTER == 0 and not self.problem:
                await self._start_unit(upgrade)
        _, _, why = self._outcome.read_text(errors="replace").partition("\n")
        works = self._version == upgrade.package.version
        self._keep(upgrade, Upgraded(upgrade.id, "done" if works else "returned", why.strip()[:2000]))
        self._clear()

    def _clear(self) -> None:
        """Takes away all but the record."""
        for path in self._directory.iterdir():
            if path.name not in (self._file.name, "lock", "log"):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def _wrong(package: Package) -> str:
    if not PATH.fullmatch(package.path) or not VERSION.fullmatch(package.version):
        return f"cannot fetch the package of {package.version[:64]!r}: {package.path[:120]!r} is no place for one"
    if not 0 < package.size <= MOST_BYTES:
        return (
            f"cannot fetch the package of {package.version}: {package.size} bytes are more than {MOST_BYTES}, or none"
        )
    return ""


def _wrong_id(id: str) -> str:
    try:
        safe_name(id)
    except InvalidRequest as err:
        return err.message
    return ""


def why_not(facts: HostFacts, *, systemd: bool, require_signed: bool) -> str:
    """Why an agent on such a host takes no upgrade from the coordinator; empty when it does."""
    if not facts.package:
        return "it was not installed from a .deb or .rpm package; upgrade it in the way it was installed"
    if not systemd:
        return "systemd does not run this host; install the new package with its package manager"
    if require_signed:
        return "this host runs only what is signed, and packages are not; install the new one with its package manager"
    return ""


class CheckedFile:
    """A fetch's sink: a file whose size and digest must be the package's."""

    def __init__(self, package: Package, file: BinaryIO) -> None:
        self._package, self._file, self._digest = package, file, hashlib.sha256()

    async def begin(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()

    async def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        await asyncio.to_thread(self._file.write, piece)

    def check(self) -> None:
        """Raises InvalidRequest."""
        found, wanted = (self._file.tell(), self._digest.hexdigest()), (self._package.size, self._package.sha256)
        if found != wanted:
            raise InvalidRequest(
                f"cannot use the package of {self._package.version}: it has {found[0]} bytes and sha256 {found[1]},"
                f" not {wanted[0]} and {wanted[1]}"
            )
