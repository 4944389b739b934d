"""What `serve` does beside serving: one bad round, or a database that fails for a moment, does not end it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from shiftwork_contract.errors import Conflict, InvalidRequest, Unavailable
from shiftwork_coordinator import main
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import DataDirectory, Lease, Store


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
    await asyncio.wait_for(main._until(through, main._keep_house(site.services)), 60)


async def test_what_a_database_raises_is_worth_a_retry(site: Any) -> None:
    store: Store = site.home.store
    with pytest.raises(Unavailable, match="no such table"):
        await store.in_writer(lambda connection: connection.exec_driver_sql("select 1 from nowhere"))
    with pytest.raises(Unavailable, match="no such table"):
        await store._read(lambda connection: connection.exec_driver_sql("select 1 from nowhere"))


class WornLease:
    """Renews until `outcomes` says otherwise; each try takes a second of `left`."""

    def __init__(self, *outcomes: Exception | None, left: float = 15.0) -> None:
        self.outcomes, self.left, self.tries = list(outcomes), left, 0

    async def renew(self) -> None:
        self.tries += 1
        self.left -= 1.0
        outcome = self.outcomes.pop(0) if self.outcomes else Conflict("taken over")
        if outcome is not None:
            raise outcome

    def outlasts(self, limit: float) -> bool:
        return limit < self.left


@pytest.mark.parametrize(
    ("lease", "ends_with", "tries"),
    [
        (WornLease(Unavailable("disk full"), None, Unavailable("locked"), None), Conflict, 5),
        (WornLease(*[Unavailable("disk full")] * 99), Unavailable, 15),
        (WornLease(Conflict("taken over")), Conflict, 1),
    ],
)
async def test_a_lease_that_cannot_be_renewed_is_tried_again_until_it_has_run_out(
    monkeypatch: pytest.MonkeyPatch, lease: WornLease, ends_with: type[Exception], tries: int
) -> None:
    monkeypatch.setattr(main, "RENEW_EVERY", 0.0)
    with pytest.raises(ends_with):
        await asyncio.wait_for(main._keep_lease(SimpleNamespace(lease=lease)), 60)  # type: ignore[arg-type]
    assert lease.tries == tries


async def test_a_lease_in_a_database_that_fails_is_not_taken_over(database: Path) -> None:
    store = await Store.open(database)
    lease = await Lease.take(store, SystemClock(), "one")
    await store.in_writer(lambda c: c.exec_driver_sql("alter table leases rename to elsewhere"))
    with pytest.raises(Unavailable):
        await lease.renew()
    await store.in_writer(lambda c: c.exec_driver_sql("alter table elsewhere rename to leases"))
    await lease.renew()
    await store.close()


async def test_the_socket_is_there_before_the_port_and_no_umask_is_held_meanwhile(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, bool]] = []
    path = tmp_path / main.SOCKET

    def watched(kind: Any) -> None:
        begin = kind.start

        async def start(self: Any) -> None:
            mask = os.umask(0o022)
            os.umask(mask)
            seen.append((kind.__name__, mask, path.exists()))
            await begin(self)

        monkeypatch.setattr(kind, "start", start)

    for kind in (web.TCPSite, web.UnixSite, web.SockSite):
        watched(kind)
    before = os.umask(0o022)
    try:
        async with main._listening(site.services, tmp_path, "127.0.0.1:0", ()):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert seen == [("SockSite", 0o022, True), ("TCPSite", 0o022, True)]
    assert not path.exists()


async def test_what_was_opened_is_closed_though_the_deployments_ended_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Coordinator.stop

    async def stop_badly(self: Coordinator) -> None:
        await stop(self)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Coordinator, "stop", stop_badly)
    with pytest.raises(RuntimeError, match="a bug"):
        async with main._opened(tmp_path / "data", None) as services:
            lease, store = services.lease, services.home.store
    assert not lease.outlasts(0.0)
    with pytest.raises(RuntimeError, match="shutdown"):
        await store.groups()
    DataDirectory(tmp_path / "data").close()
