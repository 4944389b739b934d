"""A bundle on its way into the store: written by a fetcher as it comes, unpacked and digested in a thread meanwhile.

Between the two lies a bounded pipe. Nothing is kept beside the unpacked copy, but for a zip archive, whose table of
contents is at its end: it lies on disk until it is unpacked.
"""

from __future__ import annotations

import asyncio
import io
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shiftwork_contract.errors import ShiftworkError

AHEAD = 8 << 20
"""Bytes that may lie between the fetcher and the unpacker."""
NOTICE = 1 << 20
"""The unpacker says what it has read once it is this much: each notice costs a wake-up."""


class _Abandoned(ShiftworkError):
    """Ends the unpacker of a bundle that comes no further."""


class Pipe(io.RawIOBase):
    """Bytes from the event loop to a thread, which reads them as a file and waits for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._pieces = loop, queue.SimpleQueue[bytes | None]()
        self._room = asyncio.Event()
        self._unread = self._unsaid = 0
        self._piece: bytes | memoryview = b""
        self._ended = self.abandoned = False

    async def put(self, piece: bytes) -> None:
        """Waits while more than AHEAD is unread."""
        self._unread += len(piece)
        self._pieces.put(piece)
        while self._unread > AHEAD and not self.abandoned:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        self._pieces.put(None)

    def abandon(self) -> None:
        """Neither side waits any longer: the reader gets an error with its next piece."""
        self.abandoned = True
        self._pieces.put(None)
        self._room.set()

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1, /) -> bytes:
        """The next piece or its beginning, whatever is there; empty at the end."""
        piece = self._piece or self._next()
        if 0 <= count < len(piece):
            view = memoryview(piece)
            piece, self._piece = view[:count], view[count:]
            return bytes(piece)
        self._piece = b""
        return bytes(piece)

    def _next(self) -> bytes:
        piece = None if self._ended else self._pieces.get()
        if self.abandoned:
            raise _Abandoned("the bundle comes no further")
        if piece is None:
            self._ended = True
            return b""
        self._unsaid += len(piece)
        if self._unsaid >= NOTICE:
            self._loop.call_soon_threadsafe(self._has_read, self._unsaid)
            self._unsaid = 0
        return piece

    def _has_read(self, count: int) -> None:
        self._unread -= count
        self._room.set()


class Arrival:
    """A fetcher's sink. `enter` reads the bundle and puts it into the store, in a thread of its own: one that waits for
    bytes must not be in the way of one that brings them. It may be begun anew. Whoever makes an Arrival closes it."""

    def __init__(self, enter: Callable[[Pipe], object]) -> None:
        self._enter = enter
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unpack")
        self._pipe: Pipe | None = None
        self._work: asyncio.Future[object] | None = None

    async def begin(self) -> None:
        await self._end()
        loop = asyncio.get_running_loop()
        pipe = self._pipe = Pipe(loop)
        self._work = loop.run_in_executor(self._thread, self._enter, pipe)
        self._work.add_done_callback(lambda work: pipe.abandon())

    async def write(self, piece: bytes) -> None:
        assert self._pipe is not None and self._work is not None, "begin comes first"
        if self._work.done():
            await self._work
        await self._pipe.put(piece)

    async def finish(self) -> None:
        """Until the bundle is in the store. Raises what is wrong with it."""
        assert self._pipe is not None and self._work is not None, "begin comes first"
        self._pipe.end()
        await asyncio.shield(self._work)

    async def close(self) -> None:
        """Afterwards no thread is at work, whatever it was doing."""
        await self._end()
        self._thread.shutdown()

    async def _end(self) -> None:
        if self._pipe is None or self._work is None:
            return
        self._pipe.abandon()
        await asyncio.wait([self._work])
        if not self._work.cancelled():
            self._work.exception()  # told already, or of no interest any more
        self._pipe = self._work = None
