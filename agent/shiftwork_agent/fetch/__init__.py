"""Getting a bundle to this host, from wherever its revision says it lies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp

from shiftwork_agent.fetch.file import copy
from shiftwork_agent.fetch.http import Download
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.revision import Revision

MAX_BYTES = 16 << 30
"""Of an archive whose size is not known beforehand."""

SessionFactory = Callable[[], aiohttp.ClientSession]


def new_session() -> aiohttp.ClientSession:
    """Honours the proxies of the environment; gives up on a peer that is silent for a minute, never on a slow one."""
    timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
    return aiohttp.ClientSession(trust_env=True, timeout=timeout, auto_decompress=False)


def _no_coordinator() -> str:
    raise Unavailable("cannot fetch from the coordinator: this agent has joined none")


class Fetcher:
    """Fetches by the scheme of a revision's URL: `coordinator:`, `https:`, `file:`.

    `coordinator` gives its base URL and `tls` the context with the agent's certificate, both asked at each attempt.
    """

    def __init__(
        self,
        session_factory: SessionFactory = new_session,
        *,
        coordinator: Callable[[], str] = _no_coordinator,
        tls: Callable[[], ssl.SSLContext | bool] = lambda: True,
        public_tls: ssl.SSLContext | bool = True,
        max_bytes: int = MAX_BYTES,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._session_factory, self._coordinator, self._tls = session_factory, coordinator, tls
        self._public_tls, self._max_bytes, self._sleep = public_tls, max_bytes, sleep

    async def fetch(self, revision: Revision, into: Path) -> None:
        """Afterwards `into` holds the archive as it lies there; its digest is the caller's to check.

        Raises InvalidRequest or Denied for what will not change by itself, Unavailable when the tries are used up.
        """
        scheme = urlsplit(revision.url).scheme
        if scheme == "coordinator":
            path = f"/v1/agent/bundles/{quote(revision.identity, safe=':')}"
            await self._download(lambda: self._coordinator().rstrip("/") + path, self._tls, revision, into)
        elif scheme == "https":
            await self._download(lambda: revision.url, lambda: self._public_tls, revision, into)
        elif scheme == "file":
            await asyncio.to_thread(copy, revision.url, into, revision.size or self._max_bytes)
        elif scheme == "http":
            raise InvalidRequest(f"cannot fetch {revision.url}: http is not encrypted; use https")
        else:
            raise InvalidRequest(f"cannot fetch {revision.url!r}: its scheme is none of coordinator, https, file")

    async def _download(
        self,
        url: Callable[[], str],
        tls: Callable[[], ssl.SSLContext | bool],
        revision: Revision,
        into: Path,
    ) -> None:
        async with self._session_factory() as session:
            download = Download(session, url, tls, revision.size or self._max_bytes, self._sleep)
            await download.run(into)
