"""What can be written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from sqlalchemy import Table

from shiftwork_contract.errors import Conflict
from shiftwork_coordinator.model.rows import History, LifecycleEventRow, Row
from shiftwork_coordinator.store import tables
from shiftwork_coordinator.store.tables import STORED

_encode = msgspec.json.Encoder().encode


class Fenced(Conflict):
    """Another coordinator holds the lease now: nothing of this process may be written any more."""

    code = "Fenced"


class Put(msgspec.Struct, frozen=True):
    """The row as it is from now on."""

    row: Row


class Delete(msgspec.Struct, frozen=True):
    row: Row


class Add(msgspec.Struct, frozen=True):
    """One more line of a deployment's history."""

    row: History


class PutEvent(msgspec.Struct, frozen=True):
    deployment_id: str
    instance: str
    position: int
    row: LifecycleEventRow


class Unchanged(msgspec.Struct, frozen=True):
    """Rejects the unit unless the stored row still equals this one."""

    row: Row
    otherwise: str


class NoneActive(msgspec.Struct, frozen=True):
    """Rejects the unit when a deployment of the group has not ended, but for those that run beside the others. It comes
    before the Put of a new one."""

    group_id: str
    otherwise: str


class PutMeta(msgspec.Struct, frozen=True):
    name: str
    value: str


class Audit(msgspec.Struct, frozen=True):
    """Who did what, for the hash-chained audit log; commits with the thing it is about."""

    who: str
    action: str
    what: str
    at: float = 0.0


Change = Put | Delete | Add | PutEvent | Unchanged | NoneActive | PutMeta | Audit


class Statement(msgspec.Struct, frozen=True):
    kind: Literal["put", "add", "delete", "audit"]
    table: Table
    values: dict[str, Any]


class Guard(msgspec.Struct, frozen=True):
    table: Table
    key: dict[str, Any]
    row: Row
    otherwise: str


Operation = Statement | Guard | NoneActive


def operations(changes: Iterable[Change]) -> list[Operation]:
    return [_operation(change) for change in changes]


def body(row: Any) -> str:
    return _encode(row).decode()


def _operation(change: Change) -> Operation:
    if isinstance(change, Put):
        stored = STORED[type(change.row)]
        return Statement("put", stored.table, {**stored.columns(change.row), "body": body(change.row)})
    if isinstance(change, PutEvent):
        return Statement("put", tables.lifecycle_events, _event(change))
    if isinstance(change, Add):
        values = {"deployment_id": change.row.deployment_id, "body": body(change.row)}
        return Statement("add", tables.history, values)
    if isinstance(change, Audit):
        return Statement("audit", tables.audit, msgspec.structs.asdict(change))
    if isinstance(change, PutMeta):
        return Statement("put", tables.meta, {"name": change.name, "value": change.value})
    if isinstance(change, NoneActive):
        return change
    return _about(change)


def _about(change: Delete | Unchanged) -> Operation:
    stored = STORED[type(change.row)]
    columns = stored.columns(change.row)
    key = {c.name: columns[c.name] for c in stored.table.primary_key}
    if isinstance(change, Delete):
        return Statement("delete", stored.table, key)
    return Guard(stored.table, key, change.row, change.otherwise)


def _event(change: PutEvent) -> dict[str, Any]:
    return {
        "deployment_id": change.deployment_id,
        "instance": change.instance,
        "event": change.row.event,
        "position": change.position,
        "body": body(change.row),
    }
