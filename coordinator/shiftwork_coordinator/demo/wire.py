"""HTTP/1.1 as plain as it gets, so that every way in which a request can fail is seen and named."""

from __future__ import annotations

import asyncio
import select
from dataclasses import dataclass
from urllib.parse import urlsplit


class Failed(Exception):
    """A request that a client would have had to repeat; the text is the reason."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80)


class Connection:
    """One connection to the balancer, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: Address) -> Connection:
        return cls(*await asyncio.open_connection(address.host, address.port))

    @property
    def usable(self) -> bool:
        """False once the peer's close, or anything else that nobody asked for, has arrived in the kernel."""
        socket = self._writer.get_extra_info("socket")
        if self._writer.is_closing() or self._reader.at_eof() or socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def close(self) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes, *, keep: bool) -> Answer:
        """The complete answer. Raises Failed, or OSError, when there is none."""
        head = f"{method} {path} HTTP/1.1\r\nHost: demo\r\nContent-Length: {len(body)}\r\n"
        self._writer.write((head + ("" if keep else "Connection: close\r\n") + "\r\n").encode() + body)
        await self._writer.drain()
        return await self._answer()

    async def _answer(self) -> Answer:
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as err:
            raise Failed("connection closed in the headers" if err.partial else "connection closed, no answer") from err
        status, _, lines = head.partition("\r\n")
        headers = dict(_header(line) for line in lines.splitlines() if line)
        try:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        except asyncio.IncompleteReadError as err:
            raise Failed(f"body cut after {len(err.partial)} of {err.expected} bytes") from err
        return Answer(int(status.split()[1]), headers, body)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


async def one_answer(url: str, path: str = "/", within: float = 5.0) -> Answer:
    """The answer to a single GET. Raises Failed, OSError or TimeoutError."""
    async with asyncio.timeout(within):
        connection = await Connection.open(Address.of(url))
        try:
            return await connection.ask("GET", path, b"", keep=False)
        finally:
            connection.close()
