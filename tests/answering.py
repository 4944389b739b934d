"""Applications as small as they get: every request is answered with a status and X-Version; and tasks that are such."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shiftwork_coordinator.lab.aws.containers.task import Container, Running


class Answering:
    """`status` may be changed at any time, `health` too, which is for paths that begin with /health; other requests are
    counted as `served`."""

    def __init__(self, version: str) -> None:
        self.version, self.status, self.health, self.served, self.port = version, 200, 200, 0, 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            checked = head.startswith(b"GET /health")
            self.served += not checked
            status = self.health if checked else self.status
            told = f"HTTP/1.1 {status} Told\r\nX-Version: {self.version}\r\nConnection: close\r\n"
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


class AnsweringTask:
    """One in this process. Its container's environment says what is wrong with it: DEFECT, SICK or CRASHES."""

    def __init__(self, container: Container, address: str) -> None:
        self._container, self._address, self._stopped = container, address, asyncio.Event()

    async def ended(self) -> int:
        about = self._container.environment
        if "CRASHES" in about:
            return 1
        async with answering(self._container.version, self._address, self._container.port) as app:
            app.status = 500 if "DEFECT" in about else 200
            app.health = 500 if "SICK" in about else 200
            await self._stopped.wait()
        return 0

    def stop(self) -> None:
        self._stopped.set()


async def start(container: Container, address: str) -> Running:
    return AnsweringTask(container, address)
