"""What agents report, as row changes. A report told twice changes nothing the second time."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    CommandEnded,
    EventEnded,
    EventStarted,
    GroupState,
    Output,
    Refused,
    Report,
)
from shiftwork_coordinator.model.rows import CommandRow, History, Installed, LifecycleEventRow
from shiftwork_coordinator.model.status import OPEN, CommandStatus
from shiftwork_coordinator.store import Add, Change, Put, PutEvent

GRACE = 60.0
"""Seconds beyond a command's own limit of an event that an agent may claim for it."""
ENDS = {
    EventStatus.SUCCEEDED: CommandStatus.SUCCEEDED,
    EventStatus.FAILED: CommandStatus.FAILED,
    EventStatus.SKIPPED: CommandStatus.SKIPPED,
}


def command_after(row: CommandRow, report: Report, now: float) -> CommandRow:
    """The command's row once this report is known; the row itself when it changes nothing."""
    if row.status not in OPEN or isinstance(report, Output):
        return row
    if isinstance(report, Accepted):
        return row if row.accepted_at else replace(row, status=CommandStatus.ACCEPTED, accepted_at=now)
    if isinstance(report, Refused):
        why = Diagnostics(ErrorCode.UNKNOWN_ERROR, message=f"{report.code}: {report.message}")
        return replace(row, status=CommandStatus.REFUSED, ended_at=now, diagnostics=why)
    if isinstance(report, EventStarted):
        limit = min(report.limit, row.command.event_limit + GRACE)
        ran = (*row.ran, report.event)
        told = report.event in row.ran
        return row if told else replace(row, running=report.event, running_since=now, running_limit=limit, ran=ran)
    if isinstance(report, EventEnded):
        if row.running != report.event:
            return row
        return replace(row, running="", running_since=now, running_limit=row.command.event_limit)
    return _ended(row, report, now)


def _ended(row: CommandRow, report: CommandEnded, now: float) -> CommandRow:
    return replace(
        row,
        status=ENDS.get(report.status, CommandStatus.FAILED),
        ended_at=now,
        running="",
        ran=report.ran or row.ran,
        diagnostics=report.diagnostics,
    )


class Told:
    """Reports on one command, taken in order. `row` is the command's row after them, `order` the events' places."""

    def __init__(self, row: CommandRow, order: Mapping[str, int]) -> None:
        self._before, self.row, self._order = row, row, order
        self._events: list[Change] = []
        self.installed: Installed | None = None
        self.ended = False

    def take(self, report: Report, now: float) -> None:
        after = command_after(self.row, report, now)
        event = _event_row(report)
        if event is not None and after is not self.row:
            command, instance = after.command, after.instance
            place = self._order.get(event.event, len(self._order))
            self._events.append(PutEvent(command.deployment_id, instance, place, event))
            self._events.append(Add(History(command.deployment_id, now, "event", instance, _told(event))))
        if isinstance(report, CommandEnded) and report.group is not None:
            self.installed = installed(after.instance, report.group)
        self.ended = self.ended or isinstance(report, CommandEnded | Refused)
        self.row = after

    def changes(self) -> list[Change]:
        """What to write, besides output: of the command's row only the last one."""
        changes: list[Change] = [] if self.row is self._before else [Put(self.row)]
        changes += self._events
        return changes if self.installed is None else [*changes, Put(self.installed)]


def installed(instance: str, state: GroupState) -> Installed:
    return Installed(state.group_id, instance, state.installed, state.installed_by)


def _event_row(report: Report) -> LifecycleEventRow | None:
    if isinstance(report, EventStarted):
        return LifecycleEventRow(report.event, EventStatus.IN_PROGRESS, started_at=report.at)
    if isinstance(report, EventEnded):
        return LifecycleEventRow(
            report.event,
            report.status,
            started_at=report.started_at or None,
            ended_at=report.at,
            diagnostics=report.diagnostics,
            revision=report.revision,
        )
    return None


def _told(event: LifecycleEventRow) -> dict[str, object]:
    return {"event": event.event, "status": str(event.status), "message": event.diagnostics.message}
