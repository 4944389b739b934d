"""Who may lead: a lease counts from when it was asked for, and a shared one is not taken from the living."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shiftwork_contract.errors import Conflict, InvalidRequest, Unavailable
from shiftwork_coordinator.store import DataDirectory, Fenced, Lease, PutMeta, Store
from shiftwork_coordinator.store.lease import TTL


class HandClock:
    """Both times move by hand, and by `per_look` at each look at the wall clock, as if the database were slow."""

    def __init__(self) -> None:
        self.at, self.per_look = 1000.0, 0.0

    def now(self) -> float:
        self.at += self.per_look
        return self.at

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    store = await Store.open(database)
    yield store
    await store.close()


async def test_the_time_that_the_database_took_is_not_added_to_the_lease(store: Store, clock: HandClock) -> None:
    clock.per_look = 2.0
    lease = await Lease.take(store, clock, "one")
    assert not lease.outlasts(TTL - 2.0)
    clock.at += 1.0
    await lease.renew()
    assert not lease.outlasts(TTL - 2.0)


async def test_a_shared_lease_is_free_after_its_end_and_the_longest_call(store: Store, clock: HandClock) -> None:
    first = await Lease.take(store, clock, "one", shared=True, call_limit=5.0)
    for seconds in (1.0, TTL - 2.0, 5.5):
        clock.at += seconds
        with pytest.raises(Unavailable, match="one holds it"):
            await Lease.take(store, clock, "two", shared=True, call_limit=5.0)
    clock.at += 0.5
    second = await Lease.take(store, clock, "two", shared=True, call_limit=5.0)
    assert second.epoch == first.epoch + 1
    assert not first.outlasts(0.0)
    with pytest.raises(Fenced):
        await store.write(PutMeta("a", "x"), epoch=first.epoch)


async def test_a_renewed_lease_is_not_taken(store: Store, clock: HandClock) -> None:
    lease = await Lease.take(store, clock, "one", shared=True, call_limit=5.0)
    clock.at += TTL
    await lease.renew()
    clock.at += 5.0
    with pytest.raises(Unavailable):
        await Lease.take(store, clock, "two", shared=True, call_limit=5.0)


async def test_a_released_lease_is_free_at_once_and_allows_nothing(store: Store, clock: HandClock) -> None:
    lease = await Lease.take(store, clock, "one", shared=True)
    await lease.release()
    assert not lease.outlasts(0.0)
    assert (await Lease.take(store, clock, "two", shared=True)).epoch == lease.epoch + 1


async def test_a_late_release_does_not_take_the_lease_from_a_successor(store: Store, clock: HandClock) -> None:
    first = await Lease.take(store, clock, "one")
    second = await Lease.take(store, clock, "two")
    await first.release()
    with pytest.raises(Unavailable, match="two holds it"):
        await Lease.take(store, clock, "three", shared=True)
    await second.renew()


async def test_an_embedded_lease_is_taken_over_at_once(store: Store, clock: HandClock) -> None:
    first = await Lease.take(store, clock, "one")
    assert (await Lease.take(store, clock, "two")).epoch == first.epoch + 1


def test_a_data_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    with pytest.raises(Conflict):
        DataDirectory(tmp_path / "data")
    directory.close()


def test_a_data_directory_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(InvalidRequest, match=r"cannot use the data directory .*data: .*exists"):
        DataDirectory(tmp_path / "data")
