"""Getting a bundle to this host, from wherever its revision says it lies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypedDict
from urllib.parse import urlsplit

import aiohttp

from shiftwork_agent.fetch.coordinator import Coordinator, Shown
from shiftwork_agent.fetch.credentials import Chain
from shiftwork_agent.fetch.file import read
from shiftwork_agent.fetch.github import OwnGitHub
from shiftwork_agent.fetch.http import PARTS, Download
from shiftwork_agent.fetch.s3 import OwnS3
from shiftwork_agent.fetch.target import Origin, Sink, Target, Tls
from shiftwork_agent.sources import GitHubSettings, S3Settings
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.place import shown
from shiftwork_contract.revision import Revision

MAX_BYTES = 16 << 30
"""Of an archive whose size is not known beforehand."""
READ_AHEAD = 1 << 20
"""Bytes that a connection reads before it waits for us."""

SessionFactory = Callable[[], aiohttp.ClientSession]


def new_session() -> aiohttp.ClientSession:
    """Honours the proxies of the environment; gives up on a peer that is silent for a minute, never on a slow one."""
    timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
    return aiohttp.ClientSession(
        trust_env=True, timeout=timeout, auto_decompress=False, read_bufsize=READ_AHEAD,
        cookie_jar=aiohttp.DummyCookieJar(),
    )  # fmt: skip


class Own(TypedDict):
    """Ways of this host's own; None is by way of the coordinator."""

    s3: OwnS3 | None
    github: OwnGitHub | None


def own(s3: S3Settings, github: GitHubSettings, environment: Mapping[str, str], now: Callable[[], float]) -> Own:
    """By the settings."""
    chain = Chain(environment, now, s3.profile)
    return {
        "s3": OwnS3(s3, chain, environment, now) if s3.credentials == "own" else None,
        "github": OwnGitHub(github) if github.token_file else None,
    }


def _no_coordinator() -> str:
    raise Unavailable("cannot fetch from the coordinator: this agent has joined none")


class Fetcher:
    """Fetches by the scheme of a revision's URL: `coordinator:`, `s3:`, `github:`, `https:`, `file:`.

    `coordinator` gives its base URL and `tls` the context with the agent's certificate, both asked at each attempt.
    With `s3` or `github` this host goes there by itself instead of by way of the coordinator.
    """

    def __init__(
        self,
        session_factory: SessionFactory = new_session,
        *,
        coordinator: Callable[[], str] = _no_coordinator,
        tls: Callable[[], ssl.SSLContext | bool] = lambda: True,
        public_tls: Tls = True,
        max_bytes: int = MAX_BYTES,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        parts: int = PARTS,
        s3: OwnS3 | None = None,
        github: OwnGitHub | None = None,
    ) -> None:
        self._session_factory, self._coordinator = session_factory, Coordinator(coordinator, tls)
        self._public_tls, self._max_bytes, self._sleep, self._parts = public_tls, max_bytes, sleep, parts
        self._own: dict[str, OwnS3 | OwnGitHub] = ({"s3": s3} if s3 else {}) | ({"github": github} if github else {})

    async def fetch(self, revision: Revision, sink: Sink) -> None:
        """Hands the archive to `sink` as it comes; its digest is the sink's to check.

        Raises InvalidRequest or Denied for what will not change by itself, Unavailable when the tries are used up, and
        what the sink raises.
        """
        limit = revision.size or self._max_bytes
        if _scheme(revision.url) == "file":
            await read(revision.url, sink, limit)
            return
        async with self._session_factory() as session:
            origin, parts = self._origin(session, revision)
            await Download(session, origin, _name(revision), limit, self._sleep, parts).run(sink)

    async def fetch_path(self, path: str, name: str, limit: int, sink: Sink) -> None:
        """The same for something of at most `limit` bytes that lies at the coordinator under `path`."""

        async def kept(fresh: bool) -> Target:
            return self._coordinator.at(path, name)

        async with self._session_factory() as session:
            await Download(session, kept, name, limit, self._sleep).run(sink)

    def _origin(self, session: aiohttp.ClientSession, revision: Revision) -> tuple[Origin, int]:
        """Where to ask, and with how many requests at once."""
        scheme, url = _scheme(revision.url), revision.url
        parts = self._parts if scheme == "s3" else 1

        async def kept(fresh: bool) -> Target:
            return self._coordinator.target(revision)

        async def direct(fresh: bool) -> Target:
            return Target(url, _name(revision), self._public_tls, onward=self._public_tls)

        if scheme == "coordinator":
            return kept, 1
        if scheme in self._own:
            return partial(self._own[scheme].target, revision), parts
        if scheme in ("s3", "github"):
            return Shown(session, self._coordinator, revision, self._public_tls), parts
        if scheme == "https":
            return direct, self._parts
        if scheme == "http":
            raise InvalidRequest(f"cannot fetch {shown(url)}: http is not encrypted; use https")
        raise InvalidRequest(f"cannot fetch {shown(url)!r}: its scheme is none of coordinator, s3, github, https, file")


def _scheme(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as err:
        raise InvalidRequest(f"cannot fetch {shown(url)}: it is no address: {err}") from err
    return parts.scheme


def _name(revision: Revision) -> str:
    """For people: without what is secret in an address."""
    return f"{revision.identity} from the coordinator" if revision.url == "coordinator:" else shown(revision.url)
