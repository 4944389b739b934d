"""An agent as the contract describes it: a journal, sequences, epochs, limits; its hooks outlive it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    CancelCommand,
    Command,
    CommandEnded,
    EventEnded,
    EventStarted,
    GroupState,
    Observed,
    Probe,
    Refused,
    Report,
    RunCommand,
    Watch,
)

if TYPE_CHECKING:
    from simulation.world import World

S = EventStatus


@dataclass
class Entry:
    command: Command
    received: float
    ran: list[str] = field(default_factory=list)
    running: str = ""
    outcome: str = ""
    cancel: bool = False
    ended: bool = False


class Agent:
    """`forgetful` and `trusting` are planted bugs: it runs what it ran before, it heeds a stale coordinator."""

    def __init__(self, world: World, name: str, installed: str) -> None:
        self.world, self.name = world, name
        self.installed, self.app, self.app_from = installed, installed, 0.0
        self.up, self.partitioned, self.connected = True, False, False
        self.forgetful = self.trusting = False
        self.heard_at = 0.0
        self.epoch_seen = self.sequence = self.seq = 0
        self.journal: dict[str, Entry] = {}
        self.outbox: list[Report] = []
        self._watch: Watch | None = None
        self._passes = self._fails = 0
        self._result: bool | None = None

    def serves(self) -> bool:
        return bool(self.app) and self.world.now >= self.app_from

    # Weather

    def kill(self) -> None:
        self.up, self._watch = False, None
        self.disconnect()

    def restart(self) -> None:
        self.up = True
        for entry in self.journal.values():
            self._adopt(entry)

    def disconnect(self) -> None:
        if self.connected:
            self.connected, self.heard_at = False, self.world.now

    def reachable(self) -> bool:
        return self.up and not self.partitioned

    # Messages

    def receive(self, message: RunCommand | CancelCommand | Watch) -> None:
        if message.epoch < self.epoch_seen and not self.trusting:
            return
        stale = message.epoch < self.epoch_seen
        self.epoch_seen = max(self.epoch_seen, message.epoch)
        self.heard_at = self.world.now
        if isinstance(message, RunCommand):
            self.world.history.add(self.world.now, "obeyed", self.name, epoch=message.epoch, stale=stale)
            self._run(message.command)
        elif isinstance(message, CancelCommand):
            self._cancel(message)
        else:
            self._watched(message)

    def _run(self, command: Command) -> None:
        if command.id in self.journal and not self.forgetful:
            return
        if command.sequence < self.sequence:
            self._report(Refused(self._next(), command.id, "STALE_SEQUENCE", "an older command"))
            return
        self.sequence = command.sequence
        for entry in self.journal.values():
            entry.cancel = entry.cancel or not entry.ended
        self.journal[command.id] = entry = Entry(command, self.world.now)
        self._report(Accepted(self._next(), command.id))
        self._go(entry)

    def _cancel(self, message: CancelCommand) -> None:
        entry = self.journal.get(message.command_id)
        if entry is None or entry.ended:
            return
        entry.cancel = True
        if message.now and entry.running:
            entry.outcome = "fail"
            self._adopt(entry)

    # Work

    def _go(self, entry: Entry) -> None:
        if not self.up or entry.ended or entry.running:
            return
        command = entry.command
        todo = ("prepare",) if command.prepare else command.events
        if len(entry.ran) == len(todo):
            self._end(entry, S.SUCCEEDED)
        elif entry.cancel:
            self._end(entry, S.SKIPPED)
        elif why := self._too_late(entry):
            self._end(entry, S.FAILED, why)
        else:
            self._begin(entry, todo[len(entry.ran)])

    def _too_late(self, entry: Entry) -> str:
        now, command = self.world.now, entry.command
        if not self.connected and now - self.heard_at > command.offline_for:
            return "cut off for too long"
        return "received too long ago" if not entry.ran and now - entry.received > command.start_within else ""

    def _begin(self, entry: Entry, event: str) -> None:
        entry.ran.append(event)
        entry.running, entry.outcome = event, ""
        command = entry.command
        if not command.prepare:
            self.world.began(self.name, command.deployment_id, event)
            at = self.world.now
            self._report(EventStarted(self._next(), command.id, event, at, command.event_limit))
        seconds, outcome = self.world.faults.hook(self.name, event)
        if seconds > command.event_limit:
            seconds, outcome = command.event_limit, "fail"
        self.world.later(seconds, lambda: self._finished(entry, event, outcome))

    def _finished(self, entry: Entry, event: str, outcome: str) -> None:
        if entry.running == event:
            entry.outcome = entry.outcome or outcome
            self._adopt(entry)

    def _adopt(self, entry: Entry) -> None:
        """Goes on with a command; a hook that ended while the agent was down is found by what it left on disk."""
        if not self.up or not entry.running or not entry.outcome:
            self._go(entry)
            return
        event, ok = entry.running, entry.outcome == "ok"
        entry.running = ""
        if ok:
            self._effect(event, entry.command.revision.identity)
        status = S.SUCCEEDED if ok else S.FAILED
        why = Diagnostics() if ok else Diagnostics(ErrorCode.SCRIPT_FAILED, "s.sh", "exit status 1")
        if not entry.command.prepare:
            self._report(EventEnded(self._next(), entry.command.id, event, status, self.world.now, why))
        if ok:
            self._go(entry)
        else:
            self._end(entry, S.FAILED, f"{event} failed")

    def _effect(self, event: str, revision: str) -> None:
        if event == "ApplicationStop":
            self.app = ""
        elif event == "Install":
            self.installed = revision
        elif event == "ApplicationStart":
            self.app, self.app_from = self.installed, self.world.now + self.world.faults.boot

    def _end(self, entry: Entry, status: EventStatus, why: str = "") -> None:
        entry.ended = True
        ran = () if entry.command.prepare else tuple(entry.ran)
        found = Diagnostics(ErrorCode.UNKNOWN_ERROR, "", why) if why else Diagnostics()
        group = GroupState("g", self.installed)
        self._report(CommandEnded(self._next(), entry.command.id, status, self.world.now, ran, found, group))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _report(self, report: Report) -> None:
        self.outbox.append(report)
        self.world.to_coordinator(self, report)

    # Health

    def _watched(self, watch: Watch) -> None:
        if self._watch is None or watch.asked != self._watch.asked:
            self._passes = self._fails = 0
            self._result = None
        self._watch = watch

    def look(self) -> None:
        """One run of the health check, and what the agent tells of it."""
        if not self.up or self._watch is None:
            return
        passed = self.serves()
        self._passes, self._fails = (self._passes + 1, 0) if passed else (0, self._fails + 1)
        if self._passes >= 2 or self._fails >= 2:
            self._result = passed
        probe = None if self._result is None else Probe(self._result)
        self.world.to_coordinator(self, Observed("g", self._watch.asked, probe))
