"""`shiftwork-agent status` in one screen, with what only the disk knows; also where no agent runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shiftwork_agent.layout import Layout
from shiftwork_agent.status import LastCommand, Status, Usage
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import GateState
from shiftwork_contract.terminal import clean

SCARCE = 256 << 20
"""Bytes free below which the screen warns."""


class _Stored(msgspec.Struct):
    size: int = 0


def without_agent(layout: Layout) -> Status:
    """What the files say when nobody runs. Raises InvalidRequest when this state directory has not joined."""
    from importlib.metadata import version

    from shiftwork_agent import identity
    from shiftwork_agent.journal import Journal
    from shiftwork_agent.ledger import Ledger
    from shiftwork_agent.outbox import Outbox

    about = identity.load(layout)
    outbox = Outbox(Ledger(layout.ledger), lambda *_: b"")
    journal, problem = Journal(Ledger(layout.ledger), outbox), f"no agent runs on {layout.state}"
    try:
        content = layout.ledger.read_bytes() if layout.ledger.exists() else b""
        journal.restore(content[: content.rfind(b"\n") + 1].splitlines())
    except (InvalidRequest, OSError) as err:
        problem = f"{problem}, and none can: {err}"
    return Status(
        pid=0, version=version("shiftwork"), instance=about.instance, name=about.name, since=0.0, connected=False,
        problem=problem, waiting_reports=len(outbox.waiting()), epoch=journal.epoch, certificate_expires=about.expires,
        last=tuple(journal.last()),
    )  # fmt: skip


def usage(layout: Layout) -> Usage:
    """What lies in the state directory. Cheap: the store knows its sizes, and output files are few."""
    abouts = list((layout.state / "revisions").glob("*/about.json"))
    room = os.statvfs(layout.state)
    return Usage(
        revisions=len(abouts),
        revision_bytes=sum(map(_stored, abouts)),
        output_bytes=sum(map(_size, layout.commands.glob("*/*/output"))),
        journal_bytes=_size(layout.ledger),
        free_bytes=room.f_bavail * room.f_frsize,
    )


def _stored(about: Path) -> int:
    try:
        return msgspec.json.decode(about.read_bytes(), type=_Stored).size
    except (OSError, msgspec.MsgspecError):
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def describe(status: Status, now: float) -> str:
    """For people; whatever comes from elsewhere is made harmless."""
    rows = [("instance", f"{status.name} ({status.instance})"), ("agent", _agent(status, now))]
    rows += [("certificate", _certificate(status, now)), ("link", _link(status, now))]
    rows += [("reports", f"{status.waiting_reports} waiting for the coordinator")]
    running = [
        f"{c.group}: {c.event or 'preparing'} of {c.deployment_id}{_since(c.since, now)}" for c in status.running
    ]
    rows += [("running", line) for line in running or ["nothing"]]
    rows += [("last", _last(last)) for last in status.last]
    names = {last.group_id: last.group for last in status.last}
    rows += [("installed", f"{names.get(g.group_id, g.group_id)}: {g.installed or 'nothing'}") for g in status.groups]
    rows += [("gate", f"{group}: {_gate(gate)}") for group, gate in status.gates.items()]
    rows += [("disk", _disk(status))]
    rows += [("problem", line) for line in problems(status, now)]
    return "\n".join(f"{label:<11}  {clean(text).replace(chr(10), ' ')}" for label, text in rows)


def problems(status: Status, now: float) -> Iterator[str]:
    if not status.connected:
        yield status.problem or "not connected yet"
    if status.certificate_expires < now:
        yield f"the certificate expired at {_moment(status.certificate_expires)}, if this host's clock is right"
    yield from (gate.problem for gate in status.gates.values() if gate.problem)
    if status.usage.free_bytes < SCARCE:
        yield f"{_bytes(status.usage.free_bytes)} are left for the agent's state and journal"


def _agent(status: Status, now: float) -> str:
    running = f"process {status.pid}{_since(status.since, now)}" if status.pid else "not running"
    return f"{status.version}, {running}"


def _certificate(status: Status, now: float) -> str:
    return f"until {_moment(status.certificate_expires)} ({(status.certificate_expires - now) / 86400:.0f} days)"


def _link(status: Status, now: float) -> str:
    if status.connected:
        return f"connected to {status.coordinator}{_since(status.connected_since, now)}"
    return f"not connected{_since(status.offline_since, now)}: {status.problem or 'trying'}"


def _last(last: LastCommand) -> str:
    why = f": {last.message}" if last.message else ""
    has = f", with {last.revision} installed" if last.revision else ""
    return f"{last.group}: a command of {last.deployment_id} {last.status} at {_moment(last.at)}{has}{why}"


def _gate(gate: GateState) -> str:
    return gate.problem or ("open" if gate.open else "closed") + f", asked by {gate.checkers}"


def _disk(status: Status) -> str:
    used, limits = status.usage, status.limits
    most = f" of at most {limits.keep_revisions} and {_bytes(limits.keep_bytes)}" if limits else ""
    kept = f" of at most {_bytes(limits.output_keep_bytes)}" if limits else ""
    return (
        f"{used.revisions} revisions, {_bytes(used.revision_bytes)}{most}; output {_bytes(used.output_bytes)}{kept};"
        f" journal {_bytes(used.journal_bytes)}; {_bytes(used.free_bytes)} free"
    )


def _since(at: float, now: float) -> str:
    return f" since {_moment(at)} ({_duration(max(0.0, now - at))})" if at else ""


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
