"""A download that goes on where it was cut, and reads large things in several ranges at once.

Bytes that have come are asked for no second time where the server can tell by a strong validator that they still hold.
In memory are at most PARTS ranges of PART bytes and what the sink has not read.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from shiftwork_agent.fetch.answers import REDIRECTS, Changed, Cut, checked, strong_validator, told
from shiftwork_agent.fetch.target import Origin, Sink, Target
from shiftwork_agent.sources import is_safe
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.place import shown

ATTEMPTS = 5
"""In a row without a single new byte; and beginnings anew because something else lay there."""
LONGEST_PAUSE = 10.0
PARTS, PART = 4, 4 << 20
HOPS = 5
Take = Callable[[bytes], Awaitable[None]]


@dataclass
class _Span:
    """The bytes from `at` up to `end`, 0 for the last one; `at` moves as they come."""

    at: int
    end: int = 0

    def range(self) -> str:
        return f"bytes={self.at}-{self.end - 1 if self.end else ''}"


class Download:
    """One file, called `name` where people read of it. `parts` above 1 reads a server that honours ranges with so many
    requests at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        origin: Origin,
        name: str,
        max_bytes: int,
        sleep: Callable[[float], Awaitable[object]],
        parts: int = 1,
    ) -> None:
        self._session, self._origin, self._name = session, origin, name
        self._max_bytes, self._sleep, self._parts = max_bytes, sleep, parts
        self._validator, self._total = "", 0
        self._failed = self._proven = False

    async def run(self, sink: Sink) -> None:
        """Raises Unavailable after ATTEMPTS without progress, or for a certificate that is not trusted;
        InvalidRequest or Denied at once for what will not change."""
        for _ in range(ATTEMPTS):
            self._validator, self._total = "", 0
            await sink.begin()
            try:
                return await self._whole(sink)
            except Changed:
                continue
        raise Unavailable(f"cannot fetch {self._name}: something else lay there at each of {ATTEMPTS} tries")

    async def _whole(self, sink: Sink) -> None:
        first = _Span(0, PART if self._parts > 1 else 0)
        await self._patiently(first, sink.write)
        if not self._total or first.at >= self._total:
            return
        if not self._validator:  # ranges of what may change meanwhile do not make one file
            self._parts = 1
            raise Changed
        await self._in_parts(first.at, sink)

    async def _in_parts(self, begin: int, sink: Sink) -> None:
        waiting: deque[asyncio.Task[list[bytes]]] = deque()
        try:
            async with asyncio.TaskGroup() as tasks:
                for start in range(begin, self._total, PART):
                    waiting.append(tasks.create_task(self._part(start)))
                    if len(waiting) == self._parts:
                        await _hand_on(waiting.popleft(), sink)
                while waiting:
                    await _hand_on(waiting.popleft(), sink)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _part(self, start: int) -> list[bytes]:
        pieces: list[bytes] = []

        async def take(piece: bytes) -> None:
            pieces.append(piece)

        await self._patiently(_Span(start, min(start + PART, self._total)), take)
        return pieces

    async def _patiently(self, span: _Span, take: Take) -> None:
        """Until the span is there, over as many cuts as it takes while something comes."""
        failures = 0
        while True:
            before = span.at
            try:
                await self._attempt(await self._origin(self._failed), span, take)
                self._failed = False
                return
            except aiohttp.ClientConnectorCertificateError as err:
                raise Unavailable(f"cannot fetch {self._name}: {told(err)}") from err
            except (aiohttp.ClientError, TimeoutError, Cut) as err:
                self._failed = True
                failures = failures + 1 if span.at == before else 1
                if failures >= ATTEMPTS:
                    raise Unavailable(f"cannot fetch {self._name}: {told(err)}") from err
            await self._sleep(min(LONGEST_PAUSE, 0.5 * 2**failures))

    async def _attempt(self, target: Target, span: _Span, take: Take) -> None:
        if span.at and not self._validator:
            raise Changed
        headers = {"Accept-Encoding": "identity"}
        if span.at or span.end:
            headers["Range"] = span.range()
        if self._validator:
            headers["If-Range"] = self._validator
        async with self._answer(target, headers) as response:
            await checked(response, target, proven=self._proven)
            self._place(response, span)
            self._proven = True
            async for piece, _ in response.content.iter_chunks():
                self._count(span, len(piece))
                await take(piece)
        if span.end and span.at < span.end:
            raise Cut("the server sent less than it was asked for")

    def _place(self, response: aiohttp.ClientResponse, span: _Span) -> None:
        """A 206 begins where it was asked to; a 200 begins anew, and has all of it."""
        if response.status == 206:
            found = re.match(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != span.at:
                self._validator = ""
                raise Cut("the server went on at another place than asked")
            if self._validator and strong_validator(response) != self._validator:
                raise Changed
            self._total = int(found[3])
            span.end = min(span.end or self._total, self._total)
        elif span.at:
            raise Changed
        else:
            self._total = span.end = response.content_length or 0
        if self._total > self._max_bytes:
            raise self._too_large()
        self._validator = strong_validator(response)

    def _count(self, span: _Span, count: int) -> None:
        span.at += count
        if span.at > self._max_bytes:
            raise self._too_large()
        if span.end and span.at > span.end:
            raise Cut("the server sent more than it was asked for")

    def _too_large(self) -> InvalidRequest:
        return InvalidRequest(f"cannot fetch {self._name}: it is larger than the {self._max_bytes} bytes expected")

    @asynccontextmanager
    async def _answer(self, target: Target, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Redirects are followed here, so that a certificate and credentials stay with the server they are for."""
        here = target
        for _ in range(HOPS):
            async with self._session.get(
                _exact(here.url), headers=headers | dict(here.headers), ssl=here.tls, allow_redirects=False
            ) as response:
                if response.status not in REDIRECTS:
                    yield response
                    return
                here = _next(here, response)
        raise InvalidRequest(f"cannot fetch {self._name}: it redirects more than {HOPS} times")


async def _hand_on(part: asyncio.Task[list[bytes]], sink: Sink) -> None:
    for piece in await part:
        await sink.write(piece)


def _exact(url: str) -> URL:
    """As it was written: a signature holds for these very bytes."""
    try:
        return URL(url, encoded=url.isascii() and " " not in url)
    except ValueError as err:
        raise InvalidRequest(f"cannot fetch {shown(url)}: it is no address: {told(err)}") from err


def _next(here: Target, response: aiohttp.ClientResponse) -> Target:
    try:
        url = urljoin(here.url, response.headers.get("Location", ""))
        same_server = _same_server(url, here.url)
    except ValueError as err:
        raise InvalidRequest(f"cannot fetch {here.name}: it redirects to what is no address") from err
    if not is_safe(url, loopback=here.loopback) and not same_server:
        raise InvalidRequest(f"cannot fetch {here.name}: it redirects to http, which is not encrypted, or nowhere")
    if same_server:
        return replace(here, url=url)
    return replace(here, url=url, headers={}, tls=here.onward)


def _same_server(one: str, other: str) -> bool:
    return urlsplit(one)[:2] == urlsplit(other)[:2]
