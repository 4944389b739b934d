"""The one writer: everything that waits is committed together, each unit acknowledged or rejected alone.

One thread owns one connection. A group is first written as a whole, many rows of a table in one statement; when
anything in it is refused, the group is written again unit by unit, each in its own savepoint. When the database
itself fails (disk full, connection gone), nobody of the group is acknowledged: it may have ended the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from shiftwork_contract.errors import Conflict, ShiftworkError, Unavailable
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.store.audit import chain
from shiftwork_coordinator.store.changes import Change, Fenced, Guard, NoneActive, Operation, Statement, operations
from shiftwork_coordinator.store.tables import deployments, leases

T = TypeVar("T")
LEASE = "coordinator"
REFUSALS = (ShiftworkError, SQLAlchemyError, TypeError, ValueError, ArithmeticError)
"""What can be wrong with one unit alone: its guard, its fence, a constraint, a value that the driver cannot bind."""


class Unit(msgspec.Struct):
    """What must become durable together. `epoch`: only while the lease still has it."""

    operations: list[Operation]
    epoch: int | None
    done: asyncio.Future[None]


class Writer:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._waiting: list[Unit] = []
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def write(self, changes: Sequence[Change], epoch: int | None) -> None:
        """Returns after the commit. Raises what the unit alone was refused for."""
        unit = Unit(operations(changes), epoch, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        if not self._busy:
            self._start()
        await unit.done

    def _start(self) -> None:
        self._busy = True
        self._idle.clear()
        group, self._waiting = self._waiting, []
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, group)
        job.add_done_callback(lambda finished: self._finished(group, finished))

    def _finished(self, group: list[Unit], job: asyncio.Future[Any]) -> None:
        failure = job.exception()
        refused = {} if failure else job.result()
        for number, unit in enumerate(group):
            problem = failure or refused.get(number)
            if unit.done.done():
                continue
            if problem is None:
                unit.done.set_result(None)
            else:
                unit.done.set_exception(problem)
        self._busy = False
        if self._waiting:
            self._start()
        else:
            self._idle.set()

    async def run(self, job: Callable[[Connection], T]) -> T:
        """Raises Unavailable when it was the database that failed."""

        def alone() -> T:
            try:
                with self._engine.begin() as connection:
                    return job(connection)
            except IntegrityError as err:
                raise _refusal(err) from err
            except DBAPIError as err:
                raise _failed(err) from err

        return await asyncio.get_running_loop().run_in_executor(self._thread, alone)

    async def close(self) -> None:
        """Waits for what is being written."""
        await self._idle.wait()
        self._thread.shutdown()

    # In the writer's thread

    def _commit(self, group: list[Unit]) -> dict[int, Exception]:
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    for epoch in {unit.epoch for unit in group}:
                        check_fence(connection, epoch)
                    _execute(connection, [op for unit in group for op in unit.operations])
                return {}
            except OperationalError as err:
                raise _failed(err) from err
            except REFUSALS as err:
                if len(group) == 1:
                    return {0: _refusal(err)}
            try:
                with connection.begin():
                    return self._one_by_one(connection, group)
            except OperationalError as err:
                raise _failed(err) from err

    def _one_by_one(self, connection: Connection, group: list[Unit]) -> dict[int, Exception]:
        refused: dict[int, Exception] = {}
        for number, unit in enumerate(group):
            try:
                with connection.begin_nested():
                    check_fence(connection, unit.epoch)
                    _execute(connection, unit.operations)
            except OperationalError:
                raise
            except REFUSALS as err:
                refused[number] = _refusal(err)
        return refused


def _failed(err: DBAPIError) -> Unavailable:
    return Unavailable(f"cannot write to the database: {err.orig}; check its disk and its server, then try again")


def _refusal(err: Exception) -> Exception:
    if isinstance(err, IntegrityError):
        return Conflict(f"cannot write this beside what is stored: {err.orig}; look at what is there and try again")
    if type(err) is DatabaseError:  # none of its kinds: the file itself cannot be used
        return _failed(err)
    return err


def check_fence(connection: Connection, epoch: int | None) -> None:
    if epoch is None:
        return
    held = connection.execute(select(leases.c.epoch).where(leases.c.name == LEASE).with_for_update()).scalar()
    if held != epoch:
        raise Fenced(f"cannot write with epoch {epoch}: the lease has epoch {held}; another coordinator has taken over")


def _execute(connection: Connection, wanted: Sequence[Operation]) -> None:
    """In order within each table; a run of the same kind on one table goes as one statement."""
    together: dict[Table, tuple[str, list[dict[str, Any]]]] = {}
    for op in wanted:
        if not isinstance(op, Statement):
            _run_all(connection, together)
            _check(connection, op)
            continue
        if op.table in together and together[op.table][0] != op.kind:
            _run(connection, op.table, *together.pop(op.table))
        together.setdefault(op.table, (op.kind, []))[1].append(op.values)
    _run_all(connection, together)


def _run_all(connection: Connection, together: dict[Table, tuple[str, list[dict[str, Any]]]]) -> None:
    for table, (kind, values) in together.items():
        _run(connection, table, kind, values)
    together.clear()


def _run(connection: Connection, table: Table, kind: str, values: list[dict[str, Any]]) -> None:
    if kind == "put":
        connection.execute(_upsert(connection, table), _last_of_each(table, values))
    elif kind == "add":
        connection.execute(insert(table), values)
    elif kind == "audit":
        chain(connection, values)
    else:
        for keys in values:
            connection.execute(delete(table).where(*(table.c[k] == v for k, v in keys.items())))


def _last_of_each(table: Table, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    key = itemgetter(*(column.name for column in table.primary_key))
    return list({key(v): v for v in values}.values())


def _upsert(connection: Connection, table: Table) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def _check(connection: Connection, guard: Guard | NoneActive) -> None:
    if isinstance(guard, NoneActive):
        active = deployments.c.status.not_in([str(status) for status in ENDED])
        found = connection.execute(select(deployments.c.body).where(deployments.c.group_id == guard.group_id, active))
        if not all(msgspec.json.decode(body, type=Deployment).apart for body in found.scalars()):
            raise Conflict(guard.otherwise)
        return
    held = connection.execute(
        select(guard.table.c.body).where(*(guard.table.c[k] == v for k, v in guard.key.items()))
    ).scalar()
    # Compared as rows: a body written by an older version lacks the fields that have come since.
    if held is None or msgspec.json.decode(held, type=type(guard.row)) != guard.row:
        raise Conflict(guard.otherwise)
