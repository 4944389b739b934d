"""What `serve` does beside serving: one bad round, or a database that fails for a moment, does not end it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator import main
from shiftwork_coordinator.store import Store


async def test_a_round_of_housekeeping_that_fails_leaves_it_to_the_next(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failures come one per round; after the last of them a round goes through."""
    failures: list[Exception] = [InvalidRequest("a name"), Unavailable("the database"), PermissionError("a directory")]
    through = asyncio.Event()

    async def prune(*_: Any, **__: Any) -> None:
        if failures:
            raise failures.pop(0)
        through.set()

    monkeypatch.setattr(main, "prune", prune)
    monkeypatch.setattr(main, "HOUSE_EVERY", 0.0)
    await asyncio.wait_for(main._until(through, main._keep_house(site.services)), 10)


async def test_what_a_database_raises_is_worth_a_retry(site: Any) -> None:
    store: Store = site.home.store
    with pytest.raises(Unavailable, match="no such table"):
        await store.in_writer(lambda connection: connection.exec_driver_sql("select 1 from nowhere"))
    with pytest.raises(Unavailable, match="no such table"):
        await store._read(lambda connection: connection.exec_driver_sql("select 1 from nowhere"))
