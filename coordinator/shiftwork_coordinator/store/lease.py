"""Who may lead: a data directory has one process, a database one lease with an epoch that rises at each take-over."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from shiftwork_contract.errors import Conflict
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store.store import Store
from shiftwork_coordinator.store.tables import leases
from shiftwork_coordinator.store.writer import LEASE

TTL = 15.0
RENEW_EVERY = 3.0


class DataDirectory:
    """A directory that belongs to this process alone until `close`, proven by a lock that the kernel drops at death."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
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

    def __init__(self, store: Store, clock: Clock, epoch: int) -> None:
        self._store, self._clock = store, clock
        self.epoch = epoch
        self._good_until = clock.monotonic() + TTL

    @classmethod
    async def take(cls, store: Store, clock: Clock, holder: str) -> Lease:
        """Takes it over at once: the caller holds the data directory's lock, so its predecessor is dead."""
        epoch = await store.in_writer(lambda c: _take(c, holder, clock.now() + TTL))
        return cls(store, clock, epoch)

    async def renew(self) -> None:
        """Raises Conflict when another holder has taken it over."""
        asked_at = self._clock.monotonic()
        kept = await self._store.in_writer(lambda c: _renew(c, self.epoch, self._clock.now() + TTL))
        if not kept:
            raise Conflict(f"cannot go on: the lease of epoch {self.epoch} was taken over by another coordinator")
        self._good_until = asked_at + TTL

    def outlasts(self, limit: float) -> bool:
        """Whether an outward call of at most `limit` seconds ends while the lease is still held."""
        return self._clock.monotonic() + limit < self._good_until


def _take(connection: Connection, holder: str, expires_at: float) -> int:
    found = connection.execute(select(leases.c.epoch).where(leases.c.name == LEASE)).scalar()
    values = {"holder": holder, "epoch": (found or 0) + 1, "expires_at": expires_at}
    if found is None:
        connection.execute(insert(leases), {"name": LEASE, **values})
    else:
        connection.execute(update(leases).where(leases.c.name == LEASE).values(**values))
    return int(values["epoch"])


def _renew(connection: Connection, epoch: int, expires_at: float) -> bool:
    mine = update(leases).where(leases.c.name == LEASE, leases.c.epoch == epoch).values(expires_at=expires_at)
    return connection.execute(mine).rowcount == 1
