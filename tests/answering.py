"""Applications as small as they get: every request is answered with a status and X-Version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Answering:
    """`status` may be changed at any time; `served` counts requests other than health checks, which ask /health."""

    def __init__(self, version: str) -> None:
        self.version, self.status, self.served, self.port = version, 200, 0, 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.served += b"GET /health " not in head
            told = f"HTTP/1.1 {self.status} Told\r\nX-Version: {self.version}\r\nConnection: close\r\n"
            writer.write(f"{told}Content-Length: {len(self.version)}\r\n\r\n{self.version}".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(version: str, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Answering]:
    found = Answering(version)
    async with await asyncio.start_server(found.answer, address, port) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found
