"""The audit log: append-only, each line carrying the hash of the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from shiftwork_coordinator.store.changes import Audit
from shiftwork_coordinator.store.tables import audit

__all__ = ["Audit", "AuditLine", "chain", "first_break"]

START = "0" * 64


class AuditLine(msgspec.Struct, frozen=True):
    """`hash` = sha256 over the previous line's hash and this line's canonical JSON."""

    number: int
    at: float
    who: str
    action: str
    what: str
    hash: str


def chain(connection: Connection, lines: Sequence[dict[str, Any]]) -> None:
    """Appends within the caller's transaction; the one writer makes the order certain."""
    last = connection.execute(select(audit.c.hash).order_by(audit.c.number.desc()).limit(1)).scalar() or START
    for line in lines:
        body = canonical(line)
        last = link(last, body)
        connection.execute(insert(audit), {"hash": last, "body": body})


def canonical(line: dict[str, Any]) -> str:
    return msgspec.json.encode(dict(sorted(line.items())), order="sorted").decode()


def link(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def first_break(lines: Sequence[tuple[int, str, str]]) -> int | None:
    """The number of the first line that does not follow from the one before; lines are (number, hash, body)."""
    last = START
    for number, found, body in lines:
        last = link(last, body)
        if found != last:
            return number
    return None
