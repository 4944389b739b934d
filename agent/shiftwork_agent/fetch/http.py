"""A download that goes on where it was cut."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import aiohttp

from shiftwork_contract.errors import Denied, InvalidRequest, Unavailable

ATTEMPTS = 5
"""In a row without a single new byte."""
LONGEST_PAUSE = 10.0
PIECE = 256 << 10
_FOR_NOW = {408, 425, 429}


class _Cut(Exception):
    pass


class Download:
    """One file over HTTPS. Bytes already there are asked for no second time if the server can say where to go on."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: Callable[[], str],
        tls: Callable[[], ssl.SSLContext | bool],
        max_bytes: int,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._session, self._url, self._tls = session, url, tls
        self._max_bytes, self._sleep = max_bytes, sleep
        self._validator = ""

    async def run(self, into: Path) -> None:
        """Raises Unavailable after ATTEMPTS without progress, or for a certificate that is not trusted;
        InvalidRequest or Denied at once for what will not change."""
        failures = 0
        with into.open("wb") as file:
            while True:
                before = file.tell()
                try:
                    return await self._attempt(file)
                except aiohttp.ClientConnectorCertificateError as err:
                    raise Unavailable(f"cannot fetch {self._url()}: {err}") from err
                except (aiohttp.ClientError, TimeoutError, _Cut) as err:
                    failures = failures + 1 if file.tell() == before else 1
                    if failures >= ATTEMPTS:
                        raise Unavailable(f"cannot fetch {self._url()}: {err or 'it timed out'}") from err
                await self._sleep(min(LONGEST_PAUSE, 0.5 * 2**failures))

    async def _attempt(self, file: BinaryIO) -> None:
        headers = {"Accept-Encoding": "identity"}
        if file.tell() and self._validator:
            headers |= {"Range": f"bytes={file.tell()}-", "If-Range": self._validator}
        url = self._url()
        async with self._session.get(url, headers=headers, ssl=self._tls()) as response:
            self._check(response, url)
            self._position(response, file)
            await self._receive(response, file, url)

    async def _receive(self, response: aiohttp.ClientResponse, file: BinaryIO, url: str) -> None:
        self._validator = _strong_validator(response)
        async for piece in response.content.iter_chunked(PIECE):
            if file.tell() + len(piece) > self._max_bytes:
                raise InvalidRequest(f"cannot fetch {url}: it is larger than the {self._max_bytes} bytes expected")
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)

    def _position(self, response: aiohttp.ClientResponse, file: BinaryIO) -> None:
        """A 206 goes on at the end of what is there; a 200 starts again."""
        if response.status == 206:
            start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if not start or int(start[1]) != file.tell():
                self._validator = ""
                raise _Cut("the server went on at another place than asked")
            return
        file.seek(0)
        file.truncate()

    def _check(self, response: aiohttp.ClientResponse, url: str) -> None:
        if any(hop.url.scheme != "https" for hop in (*response.history, response)) and url.startswith("https:"):
            raise InvalidRequest(f"cannot fetch {url}: it redirects to http, which is not encrypted")
        status = response.status
        if status in (200, 206):
            return
        if status == 416:
            self._validator = ""
        if status >= 500 or status in _FOR_NOW or status == 416:
            raise _Cut(f"the server answered {status} {response.reason}")
        problem = f"cannot fetch {url}: the server answered {status} {response.reason}"
        if status in (401, 403):
            raise Denied(problem)
        raise InvalidRequest(problem)


def _strong_validator(response: aiohttp.ClientResponse) -> str:
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""
