"""The one writer: what it acknowledged is there, in the order it was asked for, and refusals hit the right unit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from shiftwork_contract.errors import Conflict, Unavailable
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.config import PREDEFINED
from shiftwork_coordinator.model.rows import CommandRow, Deployment, Group, Target, Token
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.status import CommandStatus, DeploymentStatus
from shiftwork_coordinator.store import Audit, Delete, NoneActive, Put, PutMeta, Store, Unchanged

SETTINGS = GroupSettings(Instances(names=("web-1",)))


def deployment(id: str, serial: int) -> Deployment:
    revision = Revision("sha256:" + "a" * 64, "coordinator:")
    config = PREDEFINED["CodeDeployDefault.OneAtATime"]
    return Deployment(id, serial, "web", "production", "g-1", revision, config, SETTINGS, 1.0)


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    store = await Store.open(database)
    yield store
    await store.close()


async def in_one_group(store: Store, *writes: object) -> list[object]:
    """What each write came to. The first one occupies the writer, so the others wait for it and go together."""
    first = store.write(PutMeta("first", "x"))
    return (await asyncio.gather(first, *writes, return_exceptions=True))[1:]  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("together", [True, False])
async def test_put_and_delete_of_one_row_happen_in_order(store: Store, together: bool) -> None:
    before, after = Target("d-1", "web-1"), Target("d-1", "web-1", batch=2)
    changes = (Put(before), Delete(before), Put(after))
    if together:
        await in_one_group(store, *(store.write(change) for change in changes))
    else:
        await store.write(*changes)
    assert await store.targets("d-1") == {"web-1": after}


async def test_of_two_that_count_on_the_same_row_one_wins(store: Store) -> None:
    row = Token("t1", "agent", "hash", 1.0, uses_left=1)
    await store.write(Put(row))
    used = Token("t1", "agent", "hash", 1.0, uses_left=0)
    results = await in_one_group(store, *(store.write(Unchanged(row, "used up"), Put(used)) for _ in range(5)))
    assert [type(r) for r in results] == [type(None), *[Conflict] * 4]


async def test_a_row_of_an_older_version_still_counts_as_unchanged(store: Store) -> None:
    await store.write(Put(Token("t1", "agent", "hash", 1.0)))

    def without_a_field(connection: Connection) -> None:
        connection.exec_driver_sql("update tokens set body = json_remove(body, '$.revokedAt')")

    await store.in_writer(without_a_field)
    row = await store.token("t1")
    assert row is not None
    await store.write(Unchanged(row, "changed"), Put(row))


async def test_a_broken_constraint_is_a_conflict_of_that_unit_alone(store: Store) -> None:
    results = await in_one_group(store, *(store.write(Put(deployment(id, 1))) for id in ("d-1", "d-2")))
    assert [type(r) for r in results] == [type(None), Conflict]
    assert [d.id for d in await store.deployments()] == ["d-1"]


async def test_a_value_that_cannot_be_stored_refuses_that_unit_alone(store: Store) -> None:
    results = await in_one_group(store, store.write(PutMeta("a", "\ud800")), store.write(PutMeta("b", "x")))
    assert [type(r) for r in results] == [UnicodeEncodeError, type(None)]
    assert await store.meta("b") == "x"


async def test_an_application_has_one_group_of_a_name(store: Store) -> None:
    await store.write(Put(Group("g-1", "web", "production", SETTINGS)))
    with pytest.raises(Conflict):
        await store.write(Put(Group("g-2", "web", "production", SETTINGS)))


async def test_nothing_is_acknowledged_that_a_full_disk_took_away(store: Store) -> None:
    """SQLite ends the whole transaction by itself when it cannot spill a page: savepoints do not protect from that."""

    def nearly_full(connection: Connection) -> None:
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()
        connection.exec_driver_sql(f"pragma max_page_count={pages + 3}")
        connection.exec_driver_sql("pragma cache_size=2")

    await store.in_writer(nearly_full)
    huge = (PutMeta("huge", "x" * 200_000),)
    writes = (store.write(PutMeta(f"n{i}", "x"), *(huge if i == 3 else ())) for i in range(7))
    results = await in_one_group(store, *writes)
    assert isinstance(results[3], Unavailable)
    assert "full" in str(results[3])
    stored = [await store.meta(f"n{i}") for i in range(7)]
    assert [value is not None for value in stored] == [result is None for result in results]


async def test_the_store_goes_on_after_a_failure_of_the_database(store: Store) -> None:
    await store.in_writer(lambda c: c.exec_driver_sql("alter table meta rename to elsewhere"))
    with pytest.raises(Unavailable, match="cannot write to the database"):
        await store.write(PutMeta("a", "x"))
    await store.in_writer(lambda c: c.exec_driver_sql("alter table elsewhere rename to meta"))
    await store.write(PutMeta("a", "x"))
    assert await store.meta("a") == "x"


async def test_a_refused_unit_leaves_no_line_in_the_audit_log(store: Store) -> None:
    row = Token("t1", "agent", "hash", 1.0)
    results = await in_one_group(
        store,
        store.write(Audit("me", "one", "x", 1.0)),
        store.write(Unchanged(row, "gone"), Audit("me", "refused", "x", 2.0)),
        store.write(Audit("me", "two", "x", 3.0)),
    )
    assert isinstance(results[1], Conflict)
    assert [line.action for line in await store.audit()] == ["one", "two"]
    assert await store.audit_break() is None


async def test_a_caller_that_gives_up_does_not_disturb_the_others(store: Store) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        given_up = tasks.create_task(store.write(PutMeta("a", "x")))
        other = tasks.create_task(store.write(PutMeta("b", "x")))
        await asyncio.sleep(0)
        given_up.cancel()
        await other
        await store.write(PutMeta("c", "x"))
    assert [await store.meta(name) for name in "bc"] == ["x", "x"]


async def test_open_commands_are_those_an_agent_may_still_report_on(store: Store) -> None:
    revision = Revision("sha256:" + "a" * 64, "coordinator:")

    def row(id: str, stage: int, status: CommandStatus, instance: str = "web-1") -> CommandRow:
        command = Command(f"{id}.{instance}.{stage}", id, "g-1", "web", "production", 1, revision)
        return CommandRow(command, instance, stage, 1.0, status=status)

    wanted, accepted = row("d-1", 1, CommandStatus.WANTED), row("d-2", 1, CommandStatus.ACCEPTED)
    others = row("d-1", 2, CommandStatus.FAILED), row("d-1", 1, CommandStatus.WANTED, "web-2")
    await store.write(*(Put(r) for r in (wanted, accepted, *others)))
    assert {r.command.id for r in await store.open_commands("web-1")} == {wanted.command.id, accepted.command.id}


async def test_of_many_deployments_of_a_group_that_begin_at_once_one_does(store: Store) -> None:
    guard = NoneActive("g-1", "there is one already")
    writes = (store.write(guard, Put(deployment(f"d-{n}", n))) for n in range(1, 5))
    assert [type(r) for r in await in_one_group(store, *writes)] == [type(None), *[Conflict] * 3]
    await store.write(Put(replace(deployment("d-1", 1), status=DeploymentStatus.STOPPED)))
    await store.write(guard, Put(deployment("d-9", 9)))
    await store.write(NoneActive("g-2", "another group"), Put(replace(deployment("d-10", 10), group_id="g-2")))
