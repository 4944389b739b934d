"""The process between the agent and a hook: it outlives the agent, enforces the time limits and writes down the end.

One per command, started with `python -I -S`. It reads requests (one lifecycle event each) from standard input, runs
the event's scripts one after the other, and ends at end of file. The agent may be killed at any time: what was
requested is still run to its end, its output goes to a file, and the result is renamed into place.

It starts with every command and stays as long as the hooks run, so it is kept cheap: it imports built-in modules and
`os`, nothing else, and the hook writes to its output file directly. That also lets a daemon which a hook leaves behind
keep its standard output without holding the event.

Files in an event's directory: `claim.N` (made with O_EXCL before script N may start: it starts at most once; holds its
pid and start time), `output`, `result`. SIGUSR1 ends the running script, as a time limit does.
"""

# pathlib and contextlib would triple the time to start.
# ruff: noqa: PTH101, PTH104, PTH208, SIM105, UP031

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself brings enum: two milliseconds
import marshal
import os
from time import monotonic

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL to the script's process group."""
LAST = 4096
"""Bytes of the end of an output that was cut."""

_WAIT = (signal.SIGCHLD, signal.SIGUSR1)
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAIT)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while request := _read_request():
        _run_event(request)
        try:
            os.write(1, b"\n")
        except OSError:
            pass  # the agent is gone; the result is on disk
    os._exit(0)  # nothing to tidy up: saves a millisecond or two


def _read_request() -> dict | None:  # type: ignore[type-arg]
    head = _read_exactly(4)
    body = _read_exactly(int.from_bytes(head, "big")) if len(head) == 4 else b""
    return marshal.loads(body) if body else None


def _read_exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            break
        data += piece
    return data


def _run_event(request: dict) -> None:  # type: ignore[type-arg]
    directory = request["directory"]
    output = os.open(directory + "/output", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    ends = monotonic() + request["limit"]
    bound = Bound(output, request["output_limit"])
    outcome, number, index = "succeeded", 0, -1
    for index, script in enumerate(request["scripts"]):
        outcome, number = _run_script(request, index, script, bound, ends)
        if outcome != "succeeded":
            break
    bound.finish()
    result = '{"script":%d,"outcome":"%s","number":%d,"size":%d}' % (index, outcome, number, os.fstat(output).st_size)
    os.close(output)
    _rename_into_place(directory, "result", result.encode())


def _rename_into_place(directory: str, name: str, data: bytes) -> None:
    temporary = f"{directory}/.{name}"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(file, data)
    os.fdatasync(file)
    os.close(file)
    os.rename(temporary, f"{directory}/{name}")


def _run_script(request: dict, index: int, script: tuple, bound: Bound, ends: float) -> tuple[str, int]:  # type: ignore[type-arg]
    path, timeout, user, sudo = script
    ends = min(ends, monotonic() + timeout)
    try:
        claim = os.open(
            f"{request['directory']}/claim.{index}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
    except FileExistsError:
        return "interrupted", 0
    try:
        problem = _problem(request["cwd"], path)
        if problem:
            return problem, 0
        try:
            argv, environment, account = _identity(request, path, user, sudo)
        except KeyError:
            return "no_user", 0
        except PermissionError:
            return "user_denied", 0
        return _spawn_and_wait(request, argv, environment, account, claim, bound, ends)
    finally:
        os.close(claim)


def _problem(bundle: str, path: str) -> str:
    """A script is a regular file reached without any link: nothing is run through one."""
    place = bundle
    for part in path.split("/"):
        if part in ("", "."):
            continue
        place += "/" + part
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            return "missing"
        if part == ".." or mode & 0o170000 == 0o120000:
            return "link"
    if mode & 0o170000 != 0o100000:
        return "missing"
    if not mode & 0o100:
        try:
            os.chmod(place, mode & 0o7777 | 0o111)
        except OSError:
            return "not_executable"
    return ""


def _identity(request: dict, path: str, user: str, sudo: bool) -> tuple[list[str], dict[str, str], object]:  # type: ignore[type-arg]
    """What to execute, with which environment, and the account to become or None.

    Raises KeyError for an unknown user, PermissionError where this process may not become it.
    """
    script = request["cwd"] + "/" + path
    environment = dict(request["environment"])
    account = None
    if user:
        import pwd

        account = pwd.getpwnam(user)
        names = {"HOME": account.pw_dir, "USER": user, "LOGNAME": user, "SHELL": account.pw_shell or "/bin/sh"}
        environment.update(names)
    if os.geteuid() == 0:
        return [script], environment, account
    if account is not None and account.pw_uid != os.geteuid():
        if not sudo:
            raise PermissionError(user)
        return ["/usr/bin/sudo", "-n", "-u", user, "--", script], environment, None
    return (["/usr/bin/sudo", "-n", "--", script] if sudo else [script]), environment, None


def _spawn_and_wait(request, argv, environment, account, claim, bound, ends) -> tuple[str, int]:  # type: ignore[no-untyped-def]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_hook(request["cwd"], argv, environment, account, bound.file, writing)
    os.close(writing)
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass
    os.write(claim, b"%d %s" % (pid, start_time(pid)))
    failed = os.read(reading, 4)
    os.close(reading)
    if failed:
        os.waitpid(pid, 0)
        return "not_started", int.from_bytes(failed, "big")
    return _wait(pid, bound, ends)


def _become_hook(cwd, argv, environment, account, output, writing) -> None:  # type: ignore[no-untyped-def]
    """Never returns. Before the exec an error's number goes through the pipe, which the exec closes."""
    try:
        os.setpgid(0, 0)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.umask(0o022)
        os.chdir(cwd)
        if account is not None:
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            os.execve(argv[0], argv, environment)
        except OSError as err:
            if err.errno != 8:  # ENOEXEC: no interpreter line, so it is for sh, as from a shell
                raise
            os.execve("/bin/sh", ["/bin/sh", *argv], environment)
    except OSError as err:
        os.write(writing, (err.errno or 1).to_bytes(4, "big"))
    finally:
        os._exit(127)


def start_time(pid: int) -> bytes:
    """Field 22 of /proc/PID/stat; with the boot id it tells a process from a later one of the same number."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else b"0"


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on; empty when there is no such process."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:
        return []
    finally:
        os.close(file)


def _wait(pid: int, bound: Bound, ends: float) -> tuple[str, int]:
    """Until the script itself ended, not until those it left behind did."""
    pause = 0.02
    while True:
        got = signal.sigtimedwait(_WAIT, max(0.0, min(pause, ends - monotonic())))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return _ended(status)
        if got is not None and got.si_signo == signal.SIGUSR1:
            return "cancelled", _end_group(pid)
        if monotonic() >= ends:
            return "timed_out", _end_group(pid)
        pause = 0.02 if bound.check() else min(0.5, pause * 1.5)


def _ended(status: int) -> tuple[str, int]:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return "signalled", -code
    return ("failed", code) if code else ("succeeded", 0)


def _end_group(pid: int) -> int:
    """TERM, GRACE seconds, KILL. Returns the signal that was needed."""
    _kill(pid, signal.SIGTERM)
    ends = monotonic() + GRACE
    running = True
    while monotonic() < ends:
        if running and os.waitpid(pid, os.WNOHANG)[0]:
            running = False
        if not running and not _lives(pid):
            return int(signal.SIGTERM)
        signal.sigtimedwait((signal.SIGCHLD,), 0.05)
    _kill(pid, signal.SIGKILL)
    if running:
        os.waitpid(pid, 0)
    return int(signal.SIGKILL)


def _kill(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def _lives(group: int) -> bool:
    """Whether a process of the group still runs; one that ended and was not collected by its parent does not."""
    if not _kill(group, 0):
        return False
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if len(fields) > 2 and fields[2] == b"%d" % group and fields[0] not in (b"Z", b"X"):
                return True
    return False


class Bound:
    """Keeps an output file within its limit: its beginning, a line that says how much was cut, and its end."""

    def __init__(self, file: int, limit: int) -> None:
        self.file, self.limit = file, limit
        self._slack = min(limit, 4 << 20)
        self._seen = self._cut = 0
        self._last = b""

    def check(self) -> bool:
        """Cuts when the limit is passed by far. Says whether the file grows fast enough to be looked at often."""
        size = os.fstat(self.file).st_size
        fast = size - self._seen > 1 << 16
        self._seen = size
        if size > self.limit + self._slack:
            self._drop(size)
        return fast

    def _drop(self, size: int) -> None:
        piece = os.pread(self.file, LAST, max(self.limit, size - LAST))
        self._last = (self._last + piece)[-LAST:]
        self._cut += size - self.limit
        os.ftruncate(self.file, self.limit)
        self._seen = self.limit

    def finish(self) -> None:
        size = os.fstat(self.file).st_size
        if size > self.limit:
            self._drop(size)
        if self._cut:
            cut = max(0, self._cut - len(self._last))
            os.write(self.file, b"\n[%d bytes of output cut here]\n" % cut + self._last)


if __name__ == "__main__":
    main()
