"""Statuses, in AWS's spelling, and which may follow which.

The tables are the only place that knows; `move` refuses the rest. docs/states.md is generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class DeploymentStatus(StrEnum):
    CREATED = "Created"
    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    BAKING = "Baking"
    READY = "Ready"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"


class TargetStatus(StrEnum):
    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    READY = "Ready"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    UNKNOWN = "Unknown"


class CommandStatus(StrEnum):
    """WANTED: to be delivered, again after each reconnect. ACCEPTED: in the agent's journal. The rest are ends.
    SKIPPED: cancelled before its next event. REFUSED: the agent will never run it."""

    WANTED = "Wanted"
    ACCEPTED = "Accepted"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    REFUSED = "Refused"


INSTANCE_STOPPED, INSTANCE_TERMINATED = "INSTANCE_STOPPED", "INSTANCE_TERMINATED"
"""The codes of a target whose instance does not run: for now, or for good."""
FOR_GOOD = frozenset({"shutting-down", "terminated", "missing"})
"""What EC2 says of an instance that does not come back; "missing" where it does not know it any more."""
D, T, C = DeploymentStatus, TargetStatus, CommandStatus

DEPLOYMENT_MOVES: Mapping[DeploymentStatus, frozenset[DeploymentStatus]] = {
    D.CREATED: frozenset({D.QUEUED, D.IN_PROGRESS, D.FAILED, D.STOPPED}),
    D.QUEUED: frozenset({D.CREATED, D.IN_PROGRESS, D.FAILED, D.STOPPED}),
    D.IN_PROGRESS: frozenset({D.BAKING, D.READY, D.SUCCEEDED, D.FAILED, D.STOPPED}),
    D.BAKING: frozenset({D.IN_PROGRESS, D.SUCCEEDED, D.FAILED, D.STOPPED}),
    D.READY: frozenset({D.IN_PROGRESS, D.FAILED, D.STOPPED}),
    D.SUCCEEDED: frozenset(),
    D.FAILED: frozenset(),
    D.STOPPED: frozenset(),
}
TARGET_MOVES: Mapping[TargetStatus, frozenset[TargetStatus]] = {
    T.PENDING: frozenset({T.IN_PROGRESS, T.FAILED, T.SKIPPED}),
    T.IN_PROGRESS: frozenset({T.READY, T.SUCCEEDED, T.FAILED, T.SKIPPED, T.UNKNOWN}),
    T.READY: frozenset({T.IN_PROGRESS, T.SUCCEEDED, T.FAILED, T.SKIPPED}),
    T.SUCCEEDED: frozenset({T.FAILED}),  # it left service before the deployment ended
    T.FAILED: frozenset(),
    T.SKIPPED: frozenset(),
    T.UNKNOWN: frozenset({T.FAILED, T.SUCCEEDED}),
}
COMMAND_MOVES: Mapping[CommandStatus, frozenset[CommandStatus]] = {
    C.WANTED: frozenset({C.ACCEPTED, C.SUCCEEDED, C.FAILED, C.SKIPPED, C.REFUSED}),
    C.ACCEPTED: frozenset({C.SUCCEEDED, C.FAILED, C.SKIPPED, C.REFUSED}),
    C.SUCCEEDED: frozenset(),
    C.FAILED: frozenset(),
    C.SKIPPED: frozenset(),
    C.REFUSED: frozenset(),
}

ENDED = frozenset(s for s, after in DEPLOYMENT_MOVES.items() if not after)
DECIDED = frozenset({T.SUCCEEDED, T.FAILED, T.SKIPPED})
"""Targets with nothing left to do."""
OPEN = frozenset(s for s, after in COMMAND_MOVES.items() if after)
"""Commands that may still report."""

S = TypeVar("S", bound=StrEnum)


def move(table: Mapping[S, frozenset[S]], before: S, after: S) -> S:
    """`after`, when the table allows it. Raises ValueError otherwise: that is a bug of ours, not bad input."""
    if after != before and after not in table[before]:
        raise ValueError(f"cannot move from {before} to {after}: allowed are {sorted(table[before]) or 'none'}")
    return after
