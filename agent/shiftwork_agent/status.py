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


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """`offline_since` and `since` are Unix time; `waiting_reports` are not yet acknowledged by the coordinator."""

    pid: int
    version: str
    instance: str
    name: str
    since: float
    connected: bool
    coordinator: str = ""
    problem: str = ""
    offline_since: float = 0.0
    waiting_reports: int = 0
    epoch: int = 0
    certificate_expires: float = 0.0
    groups: tuple[GroupState, ...] = ()
    running: tuple[RunningCommand, ...] = ()
    gates: dict[str, GateState] = {}


def write(layout: Layout, status: Status) -> None:
    """Whole or not at all, but not durable: after a crash it would be stale anyhow."""
    temporary = layout.status.with_name(".status.json")
    temporary.write_bytes(msgspec.json.encode(status))
    temporary.rename(layout.status)


def read(layout: Layout) -> Status | None:
    """What the daemon wrote last; None when no daemon runs on this state directory."""
    if not _is_locked(layout.lock):
        return None
    try:
        return msgspec.json.decode(layout.status.read_bytes(), type=Status)
    except FileNotFoundError:
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


def describe(status: Status) -> str:
    """One screen for people."""
    link = f"connected to {status.coordinator}" if status.connected else f"not connected: {status.problem or 'trying'}"
    lines = [
        f"instance   {status.name} ({status.instance})",
        f"agent      {status.version}, process {status.pid}",
        f"link       {link}",
        f"reports    {status.waiting_reports} waiting for the coordinator",
    ]
    lines += [f"running    {c.group}: {c.event or 'preparing'} of {c.deployment_id}" for c in status.running]
    lines += [f"installed  {group.group_id}: {group.installed or 'nothing'}" for group in status.groups]
    lines += [f"gate       {group}: {_gate(gate)}" for group, gate in status.gates.items()]
    return "\n".join(lines)


def _gate(gate: GateState) -> str:
    return gate.problem or ("open" if gate.open else "closed")
