"""Who may lead: a data directory has one process, a database one lease with an epoch that rises at each take-over."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update

from shiftwork_contract.errors import Conflict, InvalidRequest, Unavailable
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store.store import Store
from shiftwork_coordinator.store.tables import leases
from shiftwork_coordinator.store.writer import LEASE

TTL = 15.0
RENEW_EVERY = 3.0
AFTERMATH = 10.0
"""Seconds for which an outward call that was begun under a lease may go on after its end; twice the shell's limit."""


class DataDirectory:
    """A directory that belongs to this process alone until `close`, proven by a lock that the kernel drops at death."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise InvalidRequest(
                f"cannot use the data directory {path}: {err.strerror}; give one that this user may write to"
            ) from err
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            pid = os.read(self._file, 32).decode().strip() or "unknown"
            os.close(self._file)
            raise Conflict(
                f"cannot use the data directory {path}: process {pid} uses it; stop that one or give another --data"
            ) from err
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        os.close(self._file)


class Lease:
    """The right to act, for TTL seconds from the last renewal. `epoch` goes into every write and every command."""

    def __init__(self, store: Store, clock: Clock, epoch: int, asked_at: float) -> None:
        self._store, self._clock = store, clock
        self.epoch = epoch
        self._good_until = asked_at + TTL

    @classmethod
    async def take(
        cls, store: Store, clock: Clock, holder: str, *, shared: bool | None = None, call_limit: float = AFTERMATH
    ) -> Lease:
        """Takes over an embedded database at once: the caller holds its directory's lock, so the predecessor is dead.

        On a shared one (default: what the store says) raises Unavailable until the predecessor's lease has run out
        and `call_limit` seconds more have passed.
        """
        wait = call_limit if (store.shared if shared is None else shared) else None
        asked_at = clock.monotonic()
        epoch = await store.in_writer(lambda c: _take_when_free(c, holder, _now(c, clock), wait))
        return cls(store, clock, epoch, asked_at)

    async def renew(self) -> None:
        """Raises Conflict when another holder has taken it over."""
        asked_at = self._clock.monotonic()
        kept = await self._store.in_writer(lambda c: _renew(c, self.epoch, _now(c, self._clock) + TTL))
        if not kept:
            raise Conflict(f"cannot go on: the lease of epoch {self.epoch} was taken over by another coordinator")
        self._good_until = asked_at + TTL

    async def release(self) -> None:
        """Lets a successor take over without waiting. Call it when nothing is under way any more."""
        self._good_until = self._clock.monotonic()
        await self._store.in_writer(lambda c: _renew(c, self.epoch, 0.0))

    def outlasts(self, limit: float) -> bool:
        """Whether an outward call of at most `limit` seconds ends while the lease is still held."""
        return self._clock.monotonic() + limit < self._good_until


def _now(connection: Connection, clock: Clock) -> float:
    """Coordinators on one PostgreSQL agree on its time, whatever their own clocks say."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
    return clock.now()


def _take_when_free(connection: Connection, holder: str, now: float, wait: float | None) -> int:
    found = connection.execute(select(leases.c.holder, leases.c.expires_at).where(leases.c.name == LEASE)).first()
    if wait is not None and found is not None and found.expires_at + wait > now:
        raise Unavailable(
            f"cannot take the lease: {found.holder} holds it or may still be acting for"
            f" {found.expires_at + wait - now:.0f} s; it is free when that one has been silent for that long"
        )
    return _take(connection, holder, now + TTL)


def _take(connection: Connection, holder: str, expires_at: float) -> int:
    found = connection.execute(select(leases.c.epoch).where(leases.c.name == LEASE).with_for_update()).scalar()
    values = {"holder": holder, "epoch": (found or 0) + 1, "expires_at": expires_at}
    if found is None:
        connection.execute(insert(leases), {"name": LEASE, **values})
    else:
        connection.execute(update(leases).where(leases.c.name == LEASE).values(**values))
    return int(values["epoch"])


def _renew(connection: Connection, epoch: int, expires_at: float) -> bool:
    mine = update(leases).where(leases.c.name == LEASE, leases.c.epoch == epoch).values(expires_at=expires_at)
    return connection.execute(mine).rowcount == 1
