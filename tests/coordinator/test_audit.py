"""The audit log: any change to what is written shows, and where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from shiftwork_coordinator.store import Audit, Store


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    store = await Store.open(database)
    for number in range(1, 5):
        await store.write(Audit("ann", f"action {number}", "thing", float(number)))
    yield store
    await store.close()


async def test_lines_tell_who_did_what_and_when(store: Store) -> None:
    lines = await store.audit(limit=2)
    assert [(line.at, line.who, line.action, line.what) for line in lines] == [
        (3.0, "ann", "action 3", "thing"),
        (4.0, "ann", "action 4", "thing"),
    ]
    assert await store.audit_break() is None


async def test_the_chain_goes_on_after_the_store_was_closed(store: Store, tmp_path: Path) -> None:
    again = await Store.open(tmp_path / "shiftwork.db")
    await again.write(Audit("bob", "more", "thing", 5.0), Audit("bob", "and more", "thing", 5.0))
    assert await again.audit_break() is None
    assert [line.number for line in await again.audit()] == [1, 2, 3, 4, 5, 6]
    await again.close()


@pytest.mark.parametrize(
    ("tampering", "first"),
    [
        ("update audit set body = replace(body, 'ann', 'bob') where number = 2", 2),
        ("update audit set hash = '00' where number = 3", 3),
        ("delete from audit where number = 1", 2),
        ("delete from audit where number = 3", 4),
        ("update audit set number = 9 where number = 2", 3),
        ("insert into audit (number, hash, body) values (9, '00', '{}')", 9),
    ],
)
async def test_tampering_shows_at_the_line_where_the_chain_breaks(store: Store, tampering: str, first: int) -> None:
    def tamper(connection: Connection) -> None:
        connection.exec_driver_sql(tampering)

    await store.in_writer(tamper)
    assert await store.audit_break() == first
