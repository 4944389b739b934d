"""Runs commands: one at a time in each deployment group, groups beside each other, events in the order given.

Every step is in the journal before it is taken, so that an agent that was killed goes on where it was: a hook that is
still running is adopted, one that was cut by a restart of the host fails as interrupted, `DownloadBundle` and `Install`
are done again from their own records.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from shiftwork_agent import hooks
from shiftwork_agent.clock import Clock, boot_id
from shiftwork_agent.hooks import EventRun, Hook, Lost, Result, Shim
from shiftwork_agent.journal import Entry, Journal
from shiftwork_agent.layout import Layout
from shiftwork_agent.ledger import Ledger
from shiftwork_agent.outbox import PIECE, Outbox, Written
from shiftwork_agent.shim import GRACE
from shiftwork_agent.status import RunningCommand
from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.errors import ShiftworkError
from shiftwork_contract.lifecycle import RUNS_INSTALLED_REVISION, STOP_FAILURES, EventStatus, LifecycleEvent
from shiftwork_contract.messages import (
    CancelCommand,
    Command,
    CommandEnded,
    EventEnded,
    EventStarted,
    GroupState,
    Refused,
    RunCommand,
)
from shiftwork_contract.place import bundle_variables

log = logging.getLogger(__name__)


class Scripts(Protocol):
    """What the executor reads from an AppSpec."""

    @property
    def hooks(self) -> Mapping[str, Sequence[Hook]]: ...


class Installer(Protocol):
    """Puts revisions on this host. Everything may be called again after a crash at any point and then completes.

    Failures are `ShiftworkError`; their message is shown to people.
    """

    async def prepare(self, command: Command, *, serving: bool = False) -> None:
        """Fetches, verifies, unpacks; checks AppSpec and install plan. Changes nothing that serves; with `serving`
        that may be the very revision."""
        ...

    async def admit(self, command: Command, *, installed: bool = False) -> object:
        """Raises unless this host's owner lets the command's revision run here. What is installed was let in when it
        came: with `installed` only what the command gives its scripts is judged."""
        ...

    async def install(self, command: Command) -> None: ...

    def bundle_dir(self, identity: str) -> Path: ...

    def appspec(self, command: Command, *, installed: bool = False) -> Scripts: ...

    def installed(self, group_id: str) -> GroupState: ...


NO_DIAGNOSTICS = Diagnostics()


@dataclass(frozen=True)
class Outcome:
    status: EventStatus
    diagnostics: Diagnostics = NO_DIAGNOSTICS
    revision: str = ""


SUCCEEDED = Outcome(EventStatus.SUCCEEDED)


@dataclass
class Group:
    """Commands of one group queue up at `turn`; `shim` is the running one's, `event` says what it does."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    shim: Shim | None = None
    running: str = ""
    event: str = ""
    since: float = 0.0


@dataclass
class Executor:
    """`offline_for` says how many seconds ago the coordinator was heard, 0 while it is connected."""

    layout: Layout
    installer: Installer
    journal: Journal
    outbox: Outbox
    ledger: Ledger
    clock: Clock
    tasks: asyncio.TaskGroup
    offline_for: Callable[[], float]
    install_root: str = ""
    output_limit: int = 64 << 20
    output_keep_bytes: int = 1 << 30
    changed: Callable[[], None] = lambda: None
    groups: dict[str, Group] = field(default_factory=dict)

    def resume(self) -> None:
        """Goes on with what an earlier agent had accepted."""
        for entry in sorted(self.journal.unfinished(), key=lambda entry: entry.command.sequence):
            log.info("resuming a command", extra={"command": entry.command.id, "ran": ",".join(entry.ran)})
            self._queue(entry)

    def receive(self, message: RunCommand) -> None:
        """Accepts or refuses; what is known already is answered with what became of it."""
        if known := self.journal.entries.get(message.command.id):
            if message.epoch >= self.journal.epoch:
                self.journal.repeat(known)
            return
        if refusal := self.journal.refusal(message):
            code, text = refusal
            log.warning("command refused", extra={"command": message.command.id, "code": code})
            self.journal.report(lambda seq: Refused(seq, message.command.id, code, text))
            return
        self.journal.see_epoch(message.epoch)
        self._supersede(message.command)
        self._queue(self.journal.begin(message, boot_id=boot_id(), uptime=self.clock.uptime()))

    def _supersede(self, command: Command) -> None:
        for entry in self.journal.unfinished():
            if entry.command.group_id == command.group_id:
                self.journal.cancel(entry, now=False, why=f"sequence {command.sequence} of deployment"
                                    f" {command.deployment_id} replaced it")  # fmt: skip

    def cancel(self, message: CancelCommand) -> None:
        entry = self.journal.entries.get(message.command_id)
        if entry is None or entry.ended or message.epoch < self.journal.epoch:
            return
        self.journal.see_epoch(message.epoch)
        self.journal.cancel(entry, now=message.now, why="the coordinator asked for it")
        group = self._group(entry.command)
        if message.now and group.running == entry.command.id and group.shim is not None:
            group.shim.cancel()

    def state(self, group_id: str) -> GroupState:
        """What the group has, as far as its own notes can be read; a command for it then says what is wrong."""
        try:
            state = self.installer.installed(group_id)
        except (ShiftworkError, OSError) as err:
            log.error("cannot tell what is installed: %s", err, extra={"group_id": group_id})
            state = GroupState(group_id)
        return msgspec.structs.replace(state, last_sequence=self.journal.sequences.get(group_id, 0))

    def running(self) -> list[RunningCommand]:
        active = [
            (group, self.journal.entries[group.running].command) for group in self.groups.values() if group.running
        ]
        return [
            RunningCommand(c.id, c.deployment_id, f"{c.application}/{c.group}", group.event, group.since)
            for group, c in active
        ]

    def _group(self, command: Command) -> Group:
        return self.groups.setdefault(command.group_id, Group())

    def _queue(self, entry: Entry) -> None:
        self.tasks.create_task(self._run(entry), name=f"command {entry.command.id}")

    async def _run(self, entry: Entry) -> None:
        """Cancelled when the agent stops: what the shim was asked for goes on, and the next agent finds it."""
        group = self._group(entry.command)
        async with group.turn:
            group.running, group.since = entry.command.id, self.clock.wall()
            self.changed()
            status, diagnostics = await self._run_events(entry, group)
            self._end(entry, status, diagnostics)
            shim, group.shim, group.running, group.event = group.shim, None, "", ""
            self.changed()
        if shim is not None:
            await shim.close()

    def _end(self, entry: Entry, status: EventStatus, diagnostics: Diagnostics) -> None:
        command = entry.command
        state = self.state(command.group_id)
        at = self.clock.wall()
        self.journal.report(lambda seq: CommandEnded(seq, command.id, status, at, entry.ran, diagnostics, state))
        log.info("command ended", extra={"command": command.id, "deployment": command.deployment_id, "status": status})
        for gone in self.journal.forget_old():
            self.outbox.forget_output(gone)
            shutil.rmtree(self.layout.command(gone), ignore_errors=True)
        hooks.prune([self.layout.command(id) for id in self.journal.settled()], self.output_keep_bytes)

    async def _run_events(self, entry: Entry, group: Group) -> tuple[EventStatus, Diagnostics]:
        command = entry.command
        if command.prepare and (failed := await self._prepare(entry)):
            return failed
        for event in command.events:
            if entry.outcome(event) is None:
                if stopped := self._reason_to_stop(entry, event):
                    return stopped
                await self._run_event(entry, event, group)
            ended = entry.outcome(event)
            assert ended is not None
            if ended.status is EventStatus.FAILED and not (command.ignore_stop_failures and event in STOP_FAILURES):
                return EventStatus.FAILED, ended.diagnostics
        return EventStatus.SUCCEEDED, Diagnostics()

    async def _prepare(self, entry: Entry) -> tuple[EventStatus, Diagnostics] | None:
        if entry.has_started(LifecycleEvent.DOWNLOAD_BUNDLE):
            return None
        if stopped := self._reason_to_stop(entry, "prepare"):
            return stopped
        await self.ledger.durable()
        prefetch = functools.partial(self.installer.prepare, serving=True)
        outcome = await self._attempt(prefetch, entry.command, "preparing the revision")
        return None if outcome is SUCCEEDED else (outcome.status, outcome.diagnostics)

    def _reason_to_stop(self, entry: Entry, event: str) -> tuple[EventStatus, Diagnostics] | None:
        """Why no further event of this command starts. One that was started is gone on with."""
        if entry.has_started(event):
            return None
        command = entry.command
        if entry.cancel:
            return EventStatus.SKIPPED, _unknown(f"cancelled before {event}: {entry.why}")
        if not entry.ran and (late := self._too_late(entry)):
            return EventStatus.FAILED, _unknown(f"cannot start {event}: {late}")
        offline = self.offline_for()
        if offline > command.offline_for:
            text = f"the coordinator was not heard for {offline:.0f} s, the limit is {command.offline_for:g} s"
            return EventStatus.FAILED, _unknown(f"cannot start {event}: {text}")
        return None

    def _too_late(self, entry: Entry) -> str:
        if entry.begun.boot_id != boot_id():
            return "the host was restarted after the command had been received"
        waited = self.clock.uptime() - entry.begun.uptime
        limit = entry.command.start_within
        return f"the command was received {waited:.0f} s ago, the limit is {limit:g} s" if waited > limit else ""

    async def _run_event(self, entry: Entry, event: str, group: Group) -> None:
        command, group.event = entry.command, event
        resumed = entry.has_started(event)
        began = group.since = self.clock.wall()
        if not resumed:
            at = began
            limit = self._limit(command, event)
            self.journal.report(lambda seq: EventStarted(seq, command.id, event, at, limit))
        if event == LifecycleEvent.DOWNLOAD_BUNDLE:
            await self.ledger.durable()
            outcome = await self._attempt(self.installer.prepare, command, event)
        elif event == LifecycleEvent.INSTALL:
            await self.ledger.durable()
            outcome = await self._attempt(self.installer.install, command, event)
        else:
            try:
                outcome = await self._run_hooks(entry, event, group, resumed)
            except OSError as err:  # no process, no memory, no room: this event's trouble, not the agent's end
                outcome = Outcome(EventStatus.FAILED, _unknown(f"cannot run {event}: {err}"), "")
        at = self.clock.wall()
        self.journal.report(
            lambda seq: EventEnded(
                seq, command.id, event, outcome.status, at, outcome.diagnostics, outcome.revision, began
            )
        )
        self.changed()

    async def _attempt(self, verb: Callable[[Command], Awaitable[None]], command: Command, what: str) -> Outcome:
        try:
            async with asyncio.timeout(command.event_limit):
                await verb(command)
        except ShiftworkError as err:
            return Outcome(EventStatus.FAILED, _unknown(err.message), command.revision.identity)
        except TimeoutError:
            text = f"{what} took longer than its limit of {command.event_limit:g} s"
            return Outcome(EventStatus.FAILED, _unknown(text), command.revision.identity)
        except OSError as err:
            return Outcome(EventStatus.FAILED, _unknown(f"{what}: {err}"), command.revision.identity)
        return SUCCEEDED

    async def _run_hooks(self, entry: Entry, event: str, group: Group, resumed: bool) -> Outcome:
        command, revision = entry.command, ""
        try:
            revision = self._revision(command, event)
            scripts = self._scripts(command, revision, event)
            if not scripts:
                return SUCCEEDED
            run = self._event_run(command, event, revision, scripts)
            result = await self._run_or_adopt(entry, event, run, group, resumed)
        except ShiftworkError as err:
            return Outcome(EventStatus.FAILED, _unknown(f"{err.message} (revision {revision})"), revision)
        diagnostics = hooks.diagnose(result, run, revision)
        failed = diagnostics.error_code is not ErrorCode.SUCCESS
        return Outcome(EventStatus.FAILED if failed else EventStatus.SUCCEEDED, diagnostics, revision)

    def _revision(self, command: Command, event: str) -> str:
        """Whose scripts the event runs; empty where nothing is installed yet."""
        installed = event in RUNS_INSTALLED_REVISION
        return self.installer.installed(command.group_id).installed if installed else command.revision.identity

    def _scripts(self, command: Command, revision: str, event: str) -> Sequence[Hook]:
        if not revision:
            return ()
        appspec = self.installer.appspec(command, installed=event in RUNS_INSTALLED_REVISION)
        return appspec.hooks.get(event, ())

    def _limit(self, command: Command, event: str) -> float:
        """Seconds within which the event ends, whatever its scripts do; each may take hooks' grace to be killed."""
        if event in (LifecycleEvent.DOWNLOAD_BUNDLE, LifecycleEvent.INSTALL):
            return command.event_limit
        try:
            scripts = self._scripts(command, self._revision(command, event), event)
        except (ShiftworkError, OSError):
            return command.event_limit
        return min(command.event_limit + GRACE, sum(script.timeout + GRACE for script in scripts) + 1.0)

    def _event_run(self, command: Command, event: str, revision: str, scripts: Sequence[Hook]) -> EventRun:
        own = {
            "APPLICATION_NAME": command.application,
            "DEPLOYMENT_ID": command.deployment_id,
            "DEPLOYMENT_GROUP_NAME": command.group,
            "DEPLOYMENT_GROUP_ID": command.group_id,
            "LIFECYCLE_EVENT": event,
        } | bundle_variables(command.revision)
        if self.install_root:
            own["SHIFTWORK_INSTALL_ROOT"] = self.install_root
        environment = hooks.clean_environment(own | command.environment)
        directory = self.layout.event(command.id, event)
        bundle = self.installer.bundle_dir(revision)
        return EventRun(directory, bundle, scripts, environment, command.event_limit, self.output_limit)

    async def _run_or_adopt(
        self, entry: Entry, event: str, run: EventRun, group: Group, resumed: bool
    ) -> Result | Lost:
        wrote = self._output_reporter(entry.command.id, event)
        if resumed:
            result = await self._adopt(entry, run, group, wrote)
            if not isinstance(result, Lost) or result.begun or result.rebooted:
                return result
        await self.installer.admit(entry.command, installed=event in RUNS_INSTALLED_REVISION)
        run.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if group.shim is None:
            group.shim = Shim.start(run.directory.parent)
        await self.ledger.durable()
        if entry.cancel == "now":
            return Lost(begun=False, cancelled=True)
        group.shim.submit(run)
        return await hooks.follow(group.shim, run.directory, run.output_limit, wrote)

    async def _adopt(self, entry: Entry, run: EventRun, group: Group, wrote: Callable[[int], None]) -> Result | Lost:
        """What an earlier agent's shim made, or still makes, of this event."""
        shim = Shim.find(run.directory.parent)
        if shim is not None:
            log.info("adopting a running hook", extra={"command": entry.command.id})
            group.shim = shim
            if entry.cancel == "now":
                shim.cancel()
            result = await hooks.follow(shim, run.directory, run.output_limit, wrote)
            group.shim = None
            await shim.close()
            return result
        found = hooks.read_result(run.directory)
        size = found.size if found else min(hooks.output_size(run.directory), run.output_limit)
        wrote(size)
        return found or hooks.lost(run.directory, entry.begun.boot_id)

    def _output_reporter(self, command_id: str, event: str) -> Callable[[int], None]:
        """Reports output up to a size, in pieces, going on after what an earlier agent has reported."""
        reported = self.outbox.written.get((command_id, event), 0)

        def wrote(size: int) -> None:
            nonlocal reported
            while reported < size:
                self._report_output(command_id, event, reported, min(PIECE, size - reported))
                reported += min(PIECE, size - reported)

        return wrote

    def _report_output(self, command_id: str, event: str, offset: int, length: int) -> None:
        self.outbox.post(lambda seq: Written(seq, command_id, event, offset, length))


def _unknown(message: str) -> Diagnostics:
    return Diagnostics(ErrorCode.UNKNOWN_ERROR, "", message, "")
