"""What this agent knows about commands, kept over every restart: delivered twice, a command runs once.

The journal is read back from the ledger. The last `keep` ended commands are remembered with their outcome, the rest
only as the highest sequence of their group, below which nothing new is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from shiftwork_agent.layout import safe_name
from shiftwork_agent.ledger import Ledger
from shiftwork_agent.outbox import Acked, Outbox, Reported, Written
from shiftwork_agent.status import LastCommand
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.lifecycle import EventStatus, LifecycleEvent
from shiftwork_contract.messages import (
    Accepted,
    Command,
    CommandEnded,
    EventEnded,
    EventStarted,
    Message,
    Output,
    Refused,
    Report,
    RunCommand,
)

R = TypeVar("R", bound=Message)

TRAFFIC = frozenset({LifecycleEvent.BLOCK_TRAFFIC, LifecycleEvent.ALLOW_TRAFFIC})


class Begun(Message, frozen=True, tag=True):
    """A command was accepted, `uptime` seconds after the boot named `boot_id`."""

    epoch: int
    boot_id: str
    uptime: float
    command: Command


class Cancelled(Message, frozen=True, tag=True):
    command_id: str
    now: bool
    why: str


class EpochSeen(Message, frozen=True, tag=True):
    epoch: int


class Highest(Message, frozen=True, tag=True):
    """The highest sequence accepted for a group."""

    group_id: str
    sequence: int


Record = (
    Begun | Cancelled | EpochSeen | Highest | Acked | Written | Reported
    | Accepted | Refused | EventStarted | EventEnded | Output | CommandEnded
)  # fmt: skip
_decoder = msgspec.json.Decoder(Record)


@dataclass
class Entry:
    """One command and what became of it. `cancel` is empty, `finish` or `now`; `why` says who wanted it."""

    begun: Begun
    reports: list[Report] = field(default_factory=list)
    cancel: str = ""
    why: str = ""

    @property
    def command(self) -> Command:
        return self.begun.command

    @property
    def ended(self) -> CommandEnded | None:
        return next((r for r in reversed(self.reports) if isinstance(r, CommandEnded)), None)

    def outcome(self, event: str) -> EventEnded | None:
        return next((r for r in self.reports if isinstance(r, EventEnded) and r.event == event), None)

    def has_started(self, event: str) -> bool:
        return any(isinstance(r, EventStarted) and r.event == event for r in self.reports)

    @property
    def ran(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.event for r in self.reports if isinstance(r, EventStarted)))


class Journal:
    def __init__(self, ledger: Ledger, outbox: Outbox, *, keep: int = 50) -> None:
        self._ledger, self._outbox, self._keep = ledger, outbox, keep
        self.entries: dict[str, Entry] = {}
        self.epoch = 0
        self.sequences: dict[str, int] = {}

    def restore(self, lines: Iterable[bytes]) -> None:
        """Raises InvalidRequest for a line that cannot be read: guessing could run a command twice."""
        for number, line in enumerate(lines, 1):
            try:
                record = _decoder.decode(line)
            except msgspec.MsgspecError as err:
                raise InvalidRequest(
                    f"cannot read line {number} of {self._ledger.path}: {err}; move the file away to start with an"
                    " empty memory, once the coordinator runs no deployment on this instance"
                ) from err
            self._take(record)

    def _take(self, record: Record) -> None:
        match record:
            case Begun():
                self._begin(record)
            case Cancelled():
                if entry := self.entries.get(record.command_id):
                    entry.cancel, entry.why = "now" if record.now else "finish", record.why
            case EpochSeen():
                self.epoch = max(self.epoch, record.epoch)
            case Highest():
                self._raise_sequence(record.group_id, record.sequence)
            case Acked() | Written() | Reported():
                self._outbox.restore(record)
            case _:
                self._take_report(record)

    def _take_report(self, report: Report) -> None:
        self._outbox.restore(report)
        entry = self.entries.get(report.command_id)
        if entry is not None and _content(report) not in map(_content, entry.reports):
            entry.reports.append(report)

    def _begin(self, begun: Begun) -> None:
        self.entries.setdefault(begun.command.id, Entry(begun))
        self._raise_sequence(begun.command.group_id, begun.command.sequence)

    def _raise_sequence(self, group_id: str, sequence: int) -> None:
        self.sequences[group_id] = max(sequence, self.sequences.get(group_id, 0))

    def see_epoch(self, epoch: int) -> bool:
        """Remembers the highest epoch. False for a lower one: its sender has been replaced."""
        if epoch > self.epoch:
            self.epoch = epoch
            self._ledger.append(msgspec.json.encode(EpochSeen(epoch)))
        return epoch == self.epoch

    def refusal(self, message: RunCommand) -> tuple[str, str] | None:
        """Why a command that is not known yet must not run, as (code, text); None when it may."""
        command = message.command
        highest = self.sequences.get(command.group_id, 0)
        if message.epoch < self.epoch:
            return "STALE_EPOCH", f"epoch {message.epoch} is over: a coordinator with epoch {self.epoch} has taken over"
        if command.sequence <= highest:
            text = f"sequence {command.sequence} is not above {highest}, the highest accepted for this group"
            return "STALE_SEQUENCE", text
        if traffic := [event for event in command.events if event in TRAFFIC]:
            return "UNSUPPORTED", f"{traffic[0]} is done by the coordinator, not by an agent"
        return _invalid(command)

    def begin(self, message: RunCommand, *, boot_id: str, uptime: float) -> Entry:
        """Accepts. Durable once the ledger has written what is queued; until then nothing may start."""
        begun = Begun(message.epoch, boot_id, uptime, message.command)
        self._ledger.append(msgspec.json.encode(begun))
        self._begin(begun)
        self.report(lambda seq: Accepted(seq, message.command.id))
        return self.entries[message.command.id]

    def cancel(self, entry: Entry, *, now: bool, why: str) -> None:
        if entry.ended or entry.cancel == "now" or (entry.cancel and not now):
            return
        entry.cancel, entry.why = "now" if now else "finish", why
        self._ledger.append(msgspec.json.encode(Cancelled(entry.command.id, now, why)))

    def report(self, make: Callable[[int], Report]) -> Report:
        report = self._outbox.post(make)
        assert not isinstance(report, Written)
        if entry := self.entries.get(report.command_id):
            entry.reports.append(report)
        return report

    def repeat(self, entry: Entry) -> None:
        """Reports again what is known of a command, unless that is on its way anyhow."""
        if self._outbox.holds(entry.command.id):
            return
        for report in entry.reports:
            again = report
            self._outbox.post(lambda seq, again=again: msgspec.structs.replace(again, seq=seq))  # type: ignore[misc]

    def unfinished(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if not entry.ended]

    def last(self) -> list[LastCommand]:
        """The last command of each group that ended, in the order in which they did."""
        by_group = {e.command.group_id: e for e in sorted(self.entries.values(), key=_sequence) if e.ended}
        told = [_last(entry, entry.ended) for entry in by_group.values() if entry.ended]
        return sorted(told, key=lambda last: last.at)

    def settled(self) -> list[str]:
        """The ids of ended commands of which the coordinator knows all, the oldest first."""
        held = {record.command_id for record in self._outbox.waiting()}
        return [id for id, entry in self.entries.items() if entry.ended and id not in held]

    def forget_old(self) -> list[str]:
        """Drops the oldest ended, fully acknowledged commands beyond the bound; returns their ids."""
        ended = self.settled()
        gone = ended[: max(0, len(ended) - self._keep)]
        for id in gone:
            del self.entries[id]
        return gone

    def compacted(self) -> Iterable[bytes]:
        """Every record that still matters, in an order that `restore` understands."""
        yield from map(msgspec.json.encode, self._compacted())

    def _compacted(self) -> Iterable[Record]:
        waiting = self._outbox.waiting()
        held = {record.seq for record in waiting}
        yield EpochSeen(self.epoch)
        yield from (Highest(group, sequence) for group, sequence in self.sequences.items())
        for entry in self.entries.values():
            yield entry.begun
            if entry.cancel:
                yield Cancelled(entry.command.id, entry.cancel == "now", entry.why)
        settled = [r for entry in self.entries.values() for r in entry.reports if r.seq not in held]
        yield from sorted(settled, key=lambda report: report.seq)
        yield from self._outbox.reported()
        yield Acked(self._outbox.acknowledged)
        yield from waiting


def _content(report: Report) -> Report:
    """A report repeated under another number says the same."""
    return msgspec.structs.replace(report, seq=0)


def _sequence(entry: Entry) -> int:
    return entry.command.sequence


def _last(entry: Entry, ended: CommandEnded) -> LastCommand:
    command, revision = entry.command, ended.group.installed if ended.group else entry.command.revision.identity
    return LastCommand(
        command.group_id, f"{command.application}/{command.group}", command.deployment_id, revision,
        str(ended.status), ended.at, ended.diagnostics.message if ended.status is not EventStatus.SUCCEEDED else "",
    )  # fmt: skip


def _invalid(command: Command) -> tuple[str, str] | None:
    try:
        for name in (command.id, command.group_id, command.deployment_id, *command.events):
            safe_name(name)
    except InvalidRequest as err:
        return "INVALID", err.message
    if len(set(command.events)) < len(command.events):
        return "INVALID", "an event is named twice"
    if not command.events and not command.prepare:
        return "INVALID", "it holds no event, and nothing to prepare"
    return None
