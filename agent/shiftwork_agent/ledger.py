"""An append-only file of lines that survives a crash at any point.

Whatever waits to be written goes to the disk with one write and one fdatasync, so that the price of durability is paid
once for all that happened meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from shiftwork_agent.layout import sync_directory, write_atomically

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between two tries while the disk is full."""


class Ledger:
    """`compacted` gives the lines that still matter; it is asked whenever the file has passed `limit` bytes.

    `writing` is the number of the write that the disk has not answered yet, 0 when it owes none.
    """

    def __init__(self, path: Path, compacted: Callable[[], Iterable[bytes]] = tuple, limit: int = 4 << 20) -> None:
        self.path, self._compacted, self._limit = path, compacted, limit
        self._waiting: list[bytes] = []
        self._written = self._queued = 0
        self._work = asyncio.Event()
        self._progress = asyncio.Condition()
        self._descriptor = -1
        self.size = self.tries = self.writing = 0

    def open(self) -> list[bytes]:
        """The lines on disk. A last line that was torn by a crash was never promised to anyone: it is cut off."""
        created = not self.path.exists()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if created:
            sync_directory(self.path.parent)
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._descriptor, whole)
        self.size = whole
        return content[:whole].splitlines()

    def append(self, line: bytes) -> int:
        """Queues a line; the returned position is durable after `durable(position)`."""
        self._waiting.append(line + b"\n")
        self._queued += 1
        self._work.set()
        return self._queued

    def append_lazily(self, line: bytes) -> None:
        """Queues a line that goes to disk together with the next one that matters."""
        self._waiting.append(line + b"\n")
        self._queued += 1

    async def durable(self, position: int | None = None) -> None:
        """Returns when everything up to `position` (default: all queued so far) is on disk."""
        wanted = self._queued if position is None else position
        if self._written >= wanted:
            return
        self._work.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._written >= wanted)

    @property
    def written(self) -> int:
        return self._written

    async def run(self) -> None:
        """Writes until cancelled. It waits for room on a full disk; any other OSError ends it, and with it the agent:
        without a disk there is no promise."""
        while True:
            await self._work.wait()
            await self.flush()
            if self.size > self._limit:
                self._rewrite_or_grow()

    async def flush(self) -> None:
        self._work.clear()
        lines, self._waiting = self._waiting, []
        if lines:
            await self._write_when_there_is_room(b"".join(lines))
        async with self._progress:
            self._written += len(lines)
            self._progress.notify_all()

    async def _write_when_there_is_room(self, data: bytes) -> None:
        """Whoever waits for these lines waits longer: nothing is begun that could not be remembered."""
        while not await asyncio.shield(asyncio.to_thread(self._write, data)):
            log.error("cannot remember what is done: no room on disk", extra={"path": self.path})
            await asyncio.sleep(RETRY)

    def _write(self, data: bytes) -> bool:
        """False, with the file as it was, where the disk is full."""
        self.tries += 1
        self.writing = self.tries
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.ftruncate(self._descriptor, self.size)
            return False
        finally:
            self.writing = 0
        self.size += len(data)
        return True

    def _rewrite_or_grow(self) -> None:
        try:
            self.rewrite()
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._limit = 2 * self.size

    def rewrite(self) -> None:
        """Leaves only what still matters. Lines still queued are written again: readers ignore what they know."""
        data = b"".join(line + b"\n" for line in self._compacted())
        write_atomically(self.path, data)
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.size = len(data)
        self._limit = max(self._limit, 2 * self.size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
