"""The status file: what the running daemon says of itself, for `shiftwork-agent status` and for people."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from shiftwork_agent.layout import Layout
from shiftwork_contract.errors import Conflict
from shiftwork_contract.messages import GateState, GroupState


class RunningCommand(msgspec.Struct, frozen=True, rename="camel"):
    command_id: str
    deployment_id: str
    group: str
    event: str
    since: float = 0.0


class LastCommand(msgspec.Struct, frozen=True, rename="camel"):
    """The last command of a group that ended. `group` is its application and name."""

    group_id: str
    group: str
    deployment_id: str
    revision: str
    status: str
    at: float
    message: str = ""


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """The settings that bound what the agent keeps on disk."""

    keep_revisions: int
    keep_bytes: int
    output_limit: int
    keep_commands: int
    output_keep_bytes: int


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """What the agent keeps on disk. Not in the file: whoever asks looks."""

    revisions: int = 0
    revision_bytes: int = 0
    output_bytes: int = 0
    journal_bytes: int = 0
    free_bytes: int = 0


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """All `since` are Unix time; `waiting_reports` are not yet acknowledged by the coordinator. `pid` 0: none runs."""

    pid: int
    version: str
    instance: str
    name: str
    since: float
    connected: bool
    coordinator: str = ""
    problem: str = ""
    connected_since: float = 0.0
    offline_since: float = 0.0
    waiting_reports: int = 0
    epoch: int = 0
    certificate_expires: float = 0.0
    groups: tuple[GroupState, ...] = ()
    running: tuple[RunningCommand, ...] = ()
    gates: dict[str, GateState] = {}
    last: tuple[LastCommand, ...] = ()
    limits: Limits | None = None
    usage: Usage = Usage()


def write(layout: Layout, status: Status) -> None:
    """Whole or not at all, but not durable: after a crash it would be stale anyhow."""
    temporary = layout.status.with_name(".status.json")
    temporary.write_bytes(msgspec.json.encode(status))
    temporary.rename(layout.status)


def read(layout: Layout) -> Status | None:
    """What the daemon wrote last; None when no daemon runs on this state directory, or what it wrote is damaged."""
    if not _is_locked(layout.lock):
        return None
    try:
        return msgspec.json.decode(layout.status.read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def lock(layout: Layout) -> int:
    """Held until the process ends. Raises Conflict when another agent has this state directory."""
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"cannot run on {layout.state}: another agent does; stop it, or give this one another --state"
        ) from None
    return descriptor


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
