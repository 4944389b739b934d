"""Running the scripts of one lifecycle event through the shim, and finding a running shim again.

The agent only asks and watches: which script has started, what it wrote and how it ended stands in the event's
directory, written by the shim (see shim.py). So an agent that was killed reads on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import marshal
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from shiftwork_agent.clock import boot_id
from shiftwork_agent.shim import start_time
from shiftwork_contract.diagnostics import LOG_TAIL_LIMIT, Diagnostics, ErrorCode, tail

SLACK = 4 << 20
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Hook(Protocol):
    """One entry of an AppSpec's `hooks`: a script of the bundle. `timeout` is in seconds."""

    @property
    def location(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def runas(self) -> str: ...
    @property
    def sudo(self) -> bool: ...


@dataclass(frozen=True)
class EventRun:
    """The scripts of one event. `directory` is the event's own, `limit` bounds all scripts together."""

    directory: Path
    bundle: Path
    scripts: Sequence[Hook]
    environment: Mapping[str, str]
    limit: float
    output_limit: int


class Result(msgspec.Struct, frozen=True):
    """What the shim wrote down: the index of the last script, how it ended, an exit code, signal or errno, and the
    size of the output then."""

    script: int
    outcome: Literal[
        "succeeded", "failed", "signalled", "timed_out", "cancelled", "missing", "link", "not_executable",
        "no_user", "user_denied", "not_started", "interrupted",
    ]  # fmt: skip
    number: int
    size: int


class Lost(msgspec.Struct, frozen=True):
    """The shim is gone and left no result. `begun` tells whether any script had been started."""

    begun: bool
    rebooted: bool = False
    cancelled: bool = False


class Whereabouts(msgspec.Struct, frozen=True):
    """Which process the shim of a command is: a pid means something only with its boot and start time."""

    boot_id: str
    pid: int
    start_time: str


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a hook finds in its environment: nothing of the agent's own, then `extra`."""
    account = pwd.getpwuid(os.geteuid())
    fixed = {
        "PATH": SEARCH_PATH,
        "LANG": "C.UTF-8",
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
    }
    return fixed | dict(extra)


class Shim:
    """The shim of one command: started by this agent, or by one before it and found again.

    Not an asyncio subprocess: those are killed when the event loop closes, and a shim has to survive the agent.
    """

    def __init__(self, news: int, pidfd: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self._news, self._pidfd, self._process = news, pidfd, process

    @classmethod
    def start(cls, directory: Path) -> Shim:
        source = str(Path(__file__).parent.parent)
        program = f"import sys; sys.path[:0] = [{source!r}]; from shiftwork_agent.shim import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True, cwd="/", env={},
        )  # fmt: skip
        assert process.stdout is not None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Whereabouts(boot_id(), process.pid, start_time(process.pid).decode())
        (directory / "shim").write_bytes(msgspec.json.encode(place))
        return cls(process.stdout.fileno(), os.pidfd_open(process.pid), process)

    @classmethod
    def find(cls, directory: Path) -> Shim | None:
        """The shim that an earlier agent started for this command, if it still runs."""
        place = _whereabouts(directory)
        if place is None or place.boot_id != boot_id():
            return None
        try:
            pidfd = os.pidfd_open(place.pid)
        except OSError:
            return None
        if start_time(place.pid).decode() != place.start_time:
            os.close(pidfd)
            return None
        return cls(pidfd, pidfd)

    def submit(self, run: EventRun) -> None:
        """Asks for an event. From here it is run even if this agent dies."""
        assert self._process is not None and self._process.stdin is not None
        scripts = [(hook.location, float(hook.timeout), hook.runas or "", bool(hook.sudo)) for hook in run.scripts]
        request = {
            "directory": str(run.directory),
            "cwd": str(run.bundle),
            "limit": run.limit,
            "output_limit": run.output_limit,
            "environment": dict(run.environment),
            "scripts": scripts,
        }
        body = marshal.dumps(request)
        with contextlib.suppress(BrokenPipeError):  # it died: `wait` will tell
            self._process.stdin.write(len(body).to_bytes(4, "big") + body)

    async def wait(self, timeout: float) -> bool:
        """Until there is news, at most `timeout` seconds. False once the shim has ended."""
        try:
            async with asyncio.timeout(timeout):
                await _readable(self._news)
        except TimeoutError:
            return True
        return self._process is not None and bool(os.read(self._news, 64))

    def cancel(self) -> None:
        """Ends the running script: TERM, grace, KILL; the shim does it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGUSR1)

    async def close(self) -> None:
        """Lets the shim end, after what it was asked for."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await _readable(self._pidfd)
            self._process.stdout.close()
            self._process.poll()
        os.close(self._pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, note)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _whereabouts(directory: Path) -> Whereabouts | None:
    try:
        return msgspec.json.decode((directory / "shim").read_bytes(), type=Whereabouts)
    except (OSError, msgspec.MsgspecError):
        return None


def read_result(directory: Path) -> Result | None:
    try:
        return msgspec.json.decode((directory / "result").read_bytes(), type=Result)
    except (FileNotFoundError, msgspec.MsgspecError):  # a damaged disk: what the hook did is unknown then
        return None


async def follow(shim: Shim, directory: Path, limit: int, wrote: Callable[[int], None]) -> Result | Lost:
    """Waits for the event's result; meanwhile tells `wrote` how many bytes of output are there."""
    pause, told = 0.05, 0
    while True:
        alive = await shim.wait(pause)
        result = read_result(directory)
        if result is not None:
            wrote(result.size)
            return result
        if not alive:
            return lost(directory)
        size = min(output_size(directory), limit)
        if size > told:
            wrote(size)
            told = size
        pause = min(1.0, pause * 1.1)


def lost(directory: Path, boot: str = "") -> Lost:
    """What can be said of an event whose shim is gone. Ends a script that it left running.

    `boot` is the one in which the command was accepted. It counts where the directory says nothing: what was in there
    may have been lost with the power, and a script that may have run is not started again.
    """
    claims = sorted(directory.glob("claim.*"))
    place = _whereabouts(directory.parent)
    rebooted = (place.boot_id if place else boot or boot_id()) != boot_id()
    if claims and not rebooted:
        _end_left_over(claims[-1])
    return Lost(begun=bool(claims), rebooted=rebooted)


def _end_left_over(claim: Path) -> None:
    pid, _, started = claim.read_bytes().partition(b" ")
    if pid.isdigit() and started != b"0" and start_time(int(pid)) == started:
        os.killpg(int(pid), signal.SIGKILL)


def output_size(directory: Path) -> int:
    try:
        return (directory / "output").stat().st_size
    except FileNotFoundError:
        return 0


def read_output(directory: Path, offset: int, length: int) -> bytes:
    """Less than `length` bytes where the file is shorter by now or has been removed."""
    try:
        with (directory / "output").open("rb") as file:
            return os.pread(file.fileno(), length, offset)
    except FileNotFoundError:
        return b""


def trim(commands: Path) -> None:
    """Cuts what programs that hooks left behind have written after their event's end, once it is more than SLACK."""
    for found in commands.glob("*/*/result"):
        result = read_result(found.parent)
        if result is not None and output_size(found.parent) > result.size + SLACK:
            os.truncate(found.parent / "output", result.size)


def prune(commands: Sequence[Path], keep: int) -> None:
    """Removes output, the oldest command's first, until `keep` bytes at most are left of `commands`."""
    found = [(path, path.stat().st_size) for command in commands for path in sorted(command.glob("*/output"))]
    total = sum(size for _, size in found)
    for path, size in found:
        if total <= keep:
            return
        path.unlink(missing_ok=True)
        total -= size


_CODES = {
    "succeeded": ErrorCode.SUCCESS,
    "failed": ErrorCode.SCRIPT_FAILED,
    "signalled": ErrorCode.SCRIPT_FAILED,
    "timed_out": ErrorCode.SCRIPT_TIMED_OUT,
    "missing": ErrorCode.SCRIPT_MISSING,
    "link": ErrorCode.SCRIPT_MISSING,
    "not_executable": ErrorCode.SCRIPT_NOT_EXECUTABLE,
    "no_user": ErrorCode.SCRIPT_FAILED,
}


def diagnose(result: Result | Lost, run: EventRun, revision: str) -> Diagnostics:
    """The outcome in CodeDeploy's words, with the end of the output."""
    if isinstance(result, Lost):
        return Diagnostics(ErrorCode.UNKNOWN_ERROR, "", _lost_text(result), _log_tail(run.directory, 1 << 62))
    hook = run.scripts[result.script] if result.script >= 0 else None
    location = hook.location if hook else ""
    log = _log_tail(run.directory, result.size)
    if result.outcome == "succeeded" or hook is None:
        return Diagnostics(ErrorCode.SUCCESS, location, "", log)
    text = f"{_text(result, hook, run)} (script of revision {revision})"
    return Diagnostics(_CODES.get(result.outcome, ErrorCode.UNKNOWN_ERROR), location, text, log)


def _log_tail(directory: Path, size: int) -> str:
    size = min(size, output_size(directory))
    start = max(0, size - 4 * LOG_TAIL_LIMIT - 1)
    return tail(read_output(directory, start, size - start))


def _lost_text(result: Lost) -> str:
    if result.cancelled:
        return "cancelled before its first script"
    if result.rebooted:
        return "interrupted: the host was restarted while the hook ran; what it had done is unknown"
    return (
        "interrupted: the process that watched the hook was killed, so the hook was ended; what it had done is unknown"
    )


def _text(result: Result, hook: Hook, run: EventRun) -> str:
    script, number = hook.location, result.number
    signalled = signal.Signals(number).name if result.outcome == "signalled" else ""
    texts = {
        "failed": f"{script} failed: it exited with code {number}",
        "signalled": f"{script} was ended by {signalled}",
        "timed_out": f"{script} failed to complete in {min(hook.timeout, run.limit):g} seconds (timeout) and was ended",
        "cancelled": f"{script} was ended on request",
        "missing": f"cannot run {script}: the script does not exist in the bundle",
        "link": f"cannot run {script}: its path leads through a symbolic link or upwards",
        "not_executable": f"cannot make {script} executable",
        "no_user": f"cannot run {script} as {hook.runas!r}: this host has no such user; create it, or change runas",
        "user_denied": f"cannot run {script} as {hook.runas!r}: the agent does not run as root; add sudo: true",
        "not_started": f"cannot start {script}: {_not_started(number)}",
        "interrupted": f"{script} had been started before and is not started twice",
    }
    return texts[result.outcome]


def _not_started(number: int) -> str:
    """The script itself was there a moment ago, so what the system does not find is what its first line names."""
    said = os.strerror(number)
    if number != errno.ENOENT:
        return said
    return f"{said}: this host lacks the program of its first line (#!), or lines end in \\r\\n; save it with \\n"
