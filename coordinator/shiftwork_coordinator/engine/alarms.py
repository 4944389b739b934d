"""Alarms: whether one forbids the start, or stops what runs. Rollbacks heed none: they are the way out.

Source of the rules: CodeDeploy's documentation. A red alarm stops, also one that was red before the start; one that
lacks data does not; one that cannot be read does, unless the group says otherwise.
"""

from __future__ import annotations

import msgspec

from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.model.snapshot import AlarmSeen

ALARM_ACTIVE, ALARM_UNREADABLE = "ALARM_ACTIVE", "ALARM_UNREADABLE"
UNREAD_FOR = 30.0
"""Seconds without an answer after which an alarm counts as unreadable: longer than a moment's throttling."""


class Halt(msgspec.Struct, frozen=True):
    code: str
    message: str


def watched(draft: Draft) -> tuple[str, ...]:
    return () if draft.deployment.rollback_of else draft.deployment.settings.alarms.cloudwatch


def heed(draft: Draft) -> Halt | None:
    """Why to stop, or not to start; None to go on. Notes how long answers have been missing."""
    return _red(draft) or _unreadable(draft)


def clear(draft: Draft) -> bool:
    """Whether it may start now: every alarm was read, or did not have to be."""
    return draft.deployment.alarms_unread_since is None


def _red(draft: Draft) -> Halt | None:
    for name in watched(draft):
        seen = draft.snapshot.alarms.get(name)
        if seen is not None and seen.state == "ALARM" and _counts(draft, seen):
            return Halt(ALARM_ACTIVE, f"alarm {name} is red: {seen.reason or 'it gives no reason'}")
    return None


def _counts(draft: Draft, seen: AlarmSeen) -> bool:
    if not draft.deployment.settings.alarms.only_transitions or seen.changed_at is None:
        return True
    began = draft.deployment.started_at
    return began is not None and seen.changed_at >= began


def _unreadable(draft: Draft) -> Halt | None:
    missing = _unread(draft)
    since = draft.deployment.alarms_unread_since
    if not missing:
        if since is not None:
            draft.update(alarms_unread_since=None)
        return None
    if since is None:
        draft.update(alarms_unread_since=(since := draft.now))
    name, why = missing
    if draft.now < since + UNREAD_FOR:
        draft.wait("ALARM", f"alarm {name}: {why}", since=since, until=since + UNREAD_FOR)
        return None
    if draft.deployment.settings.alarms.ignore_unreadable:
        draft.update(alarms_unread_since=None)
        return None
    return Halt(ALARM_UNREADABLE, f"alarm {name} cannot be read for {UNREAD_FOR:g} s: {why}")


def _unread(draft: Draft) -> tuple[str, str] | None:
    """The first alarm without an answer and why; with `ignore_unreadable` an answer that says so is one."""
    for name in watched(draft):
        seen = draft.snapshot.alarms.get(name)
        if seen is None:
            return name, "not read yet"
        if seen.state == "UNREADABLE" and not draft.deployment.settings.alarms.ignore_unreadable:
            return name, seen.reason
    return None
