"""Proxies: bundles and the link go through one where it is named, and around it where it is not wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.agent.conftest import Bench

from shiftwork_agent.fetch import Fetcher
from shiftwork_agent.sources import proxy_environment
from shiftwork_agent.testing import FakeCoordinator
from shiftwork_contract.errors import Unavailable
from shiftwork_contract.revision import Revision


class Proxy:
    """Does CONNECT and nothing else. `refuses`: whoever shows no credentials."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, where, _ = head.partition("\r\n")[0].split(" ")
        self.asked.append(f"{method} {where}")
        if self.refuses and "Proxy-Authorization" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = where.rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pump(reader, there[1]))
            tasks.create_task(_pump(there[0], writer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(1 << 16):
            target.write(piece)
            await target.drain()
    target.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Proxy, str]]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.fixture
async def origin(authority: Any) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    async def show(request: web.Request) -> web.Response:
        return web.Response(body=b"bundle")

    app = web.Application()
    app.router.add_get("/b.tgz", show)
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=authority.server_context())
    yield str(server.make_url("/b.tgz")), ssl.create_default_context(cadata=authority.ca)
    await server.close()


class Kept:
    body = b""

    async def begin(self) -> None:
        self.body = b""

    async def write(self, piece: bytes) -> None:
        self.body += piece


async def fetched(url: str, trust: ssl.SSLContext) -> bytes:
    sink = Kept()
    await Fetcher(public_tls=trust, sleep=_at_once).fetch(Revision("sha256:" + "1" * 64, url), sink)
    return sink.body


async def _at_once(seconds: float) -> None: ...


async def test_a_bundle_comes_through_the_proxy_of_the_environment(
    proxy: tuple[Proxy, str], origin: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, where = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"http://{where}")
    assert await fetched(*origin) == b"bundle"
    assert twin.asked == ["CONNECT " + origin[0].split("/")[2]]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert await fetched(*origin) == b"bundle" and len(twin.asked) == 1


async def test_the_agent_s_own_setting_wins_and_its_password_is_not_told(
    proxy: tuple[Proxy, str], origin: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, where = proxy
    twin.refuses = True
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for name, value in proxy_environment(f"http://{where}", ("example.com",)).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable, match="407"):
        await fetched(*origin)
    monkeypatch.setenv("https_proxy", f"http://me:s3cret@{where}")
    assert await fetched(*origin) == b"bundle"
    monkeypatch.setenv("https_proxy", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(Unavailable) as err:
        await fetched(*origin)
    assert "s3cret" not in err.value.message
    monkeypatch.setenv("no_proxy", ",".join(proxy_environment("", ("127.0.0.1",)).values()))
    assert await fetched(*origin) == b"bundle"


async def test_the_link_goes_through_it_too(
    proxy: tuple[Proxy, str], secure: FakeCoordinator, authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, where = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"http://{where}")
    bench, trust = Bench(tmp_path, secure), ssl.create_default_context(cadata=authority.ca)
    async with bench.agent(context=trust):
        pass  # it has said hello
    assert twin.asked == ["CONNECT " + secure.url.split("/")[2]]
