"""The signed statements that this host has accepted, so that a signature once good cannot bring back what is over."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import msgspec

from shiftwork_agent.layout import write_atomically
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.statement import Statement, text

FORMAT = 1
KEPT = 100
"""Statements remembered of each application, at least."""
SKEW = 300.0
"""Seconds by which the signer's clock may be ahead of this host's."""
GRACE = 86400.0
"""Seconds after its expiry in which what was accepted in time may still finish its deployment, or be gone back to."""


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """`statement` is the sha256 of its text, `revision` the tree that it is about."""

    statement: str
    revision: str
    sequence: int
    signer: str
    at: float


class Memory(msgspec.Struct, frozen=True):
    """`accepted.json`: by application, the highest sequence first."""

    format: int = FORMAT
    applications: dict[str, tuple[Accepted, ...]] = {}

    def of(self, application: str) -> tuple[Accepted, ...]:
        return self.applications.get(application, ())


def load(path: Path) -> Memory:
    """Raises InvalidRequest for a file that cannot be read: what is not known cannot be judged."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory()
    except (OSError, msgspec.MsgspecError) as err:
        raise _unusable(path, str(err)) from err
    if found.format > FORMAT:
        raise _unusable(path, f"its format is {found.format}, this agent knows {FORMAT}")
    return found


def save(path: Path, memory: Memory) -> None:
    write_atomically(path, msgspec.json.encode(memory))


def judge(
    statement: Statement, former: tuple[Accepted, ...], installed: Collection[str], window: int, now: float
) -> str:
    """Why the statement is not to be followed now; empty when it is.

    A sequence below the highest is one that this host has accepted before, and either among the `window` highest or
    about a tree that is installed (`installed`): a rollback needs no new signature, a replay finds nothing.
    """
    name = digest(statement)
    known = any(one.statement == name for one in former)
    if now < statement.signed_at.timestamp() - SKEW:
        return f"it is dated {statement.signed_at:%Y-%m-%d %H:%M} UTC, which is to come; correct this host's clock"
    if now >= statement.expires.timestamp() + (GRACE if known else 0.0):
        return f"it expired at {statement.expires:%Y-%m-%d %H:%M} UTC"
    highest = max((one.sequence for one in former), default=0)
    if not known and statement.sequence <= highest:
        return f"its sequence {statement.sequence} is not above {highest}, which this host has accepted already"
    near = {one.statement for one in former[:window]}
    if known and name not in near and statement.revision not in installed:
        return f"its sequence {statement.sequence} is not among the {window} highest that this host has accepted"
    return ""


def noted(memory: Memory, statement: Statement, signer: str, installed: Collection[str], now: float) -> Memory:
    """`memory` with this statement. Beyond KEPT only what is installed stays."""
    name, former = digest(statement), memory.of(statement.application)
    if any(one.statement == name for one in former):
        return memory
    new = Accepted(name, statement.revision, statement.sequence, signer, now)
    ordered = sorted((new, *former), key=lambda one: one.sequence, reverse=True)
    kept = tuple(one for place, one in enumerate(ordered) if place < KEPT or one.revision in installed)
    return Memory(FORMAT, memory.applications | {statement.application: kept})


def digest(statement: Statement) -> str:
    return hashlib.sha256(text(statement).encode()).hexdigest()


def _unusable(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot tell which signed revisions this host has accepted: {path}: {why}; put the file back, or remove it to"
        " begin anew (then only expiry keeps old revisions out)",
        code="InvalidState",
    )
