"""Finding and signalling the lab's processes: by what stands in their environment, never by name.

Everything the lab starts has HOME_MARK, the directory it belongs to, in its environment. What a hook starts has the
instance's install root there, because agents give that to hooks. Between the two stands the agent's shim, with an
empty environment: it is the agent's child, or, its agent dead, ends with its script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from shiftwork_contract.errors import Unavailable

HOME_MARK = "SHIFTWORK_LAB_HOME"
ROOT_MARK = "SHIFTWORK_INSTALL_ROOT"
KEEP_RUNNING = Path(__file__).with_name("scripts") / "keep-running"


def start(home: Path, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
    """Runs `command` in a session of its own, marked as belonging to `home`; its output goes to the end of `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {}), HOME_MARK: str(home)},
            cwd="/",
            check=True,
        )


def keep_running(
    home: Path, pid_file: Path, command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> None:
    """Like `start`, and starts it again a second after it ends; its process id is in `pid_file`."""
    start(home, ["sh", str(KEEP_RUNNING), str(pid_file), *command], log, environment)


def output(command: Sequence[str], within: float = 60.0) -> str:
    """What `command` prints. Raises Unavailable with its error output when it fails or takes too long."""
    name = " ".join([Path(command[0]).name, *command[1:3]])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    except subprocess.TimeoutExpired as err:
        raise Unavailable(f"cannot run {name}: not done after {within:g} s") from err
    if done.returncode != 0:
        raise Unavailable(f"cannot run {name}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def of(home: Path) -> list[psutil.Process]:
    """The living processes that belong to `home` or to a directory in it."""
    marked = [process for process in psutil.process_iter() if _belongs(process, home)]
    return list({p.pid: p for process in marked for p in (process, *_children(process))}.values())


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
        marks = [environment.get(HOME_MARK, ""), environment.get(ROOT_MARK, "")]
        return any(Path(mark).is_relative_to(home) for mark in marks if mark)
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or another user's


def send(home: Path, number: signal.Signals) -> int:
    """How many processes of `home` got the signal."""
    return sum(_sent(process, number) for process in of(home))


def _sent(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def end_all(home: Path) -> None:
    """Nothing of `home` runs afterwards: asked to end, given three seconds, killed. Raises Unavailable otherwise."""
    send(home, signal.SIGCONT)
    send(home, signal.SIGTERM)
    ended = _ended(home, within=3.0)
    for _ in range(5):  # what is killed may have started something since it was listed
        if ended:
            return
        send(home, signal.SIGKILL)
        ended = _ended(home, within=1.0)
    raise Unavailable(f"cannot end processes {[process.pid for process in of(home)]} of the lab in {home}")


def _ended(home: Path, within: float) -> bool:
    """Whether nothing of `home` is alive, now or soon. Zombies are not: their parent may never look."""
    end = time.monotonic() + within
    while of(home):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(pid_file: Path) -> psutil.Process | None:
    """The process named in `pid_file`, unless it ended."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
