"""Carries real requests from listeners to targets: each listener is a port of 127.0.0.1.

A request that was sent to a target is never sent again: a client sees 502 where the target broke it off, 503 where
there is none, as with AWS. What is in flight when its target leaves is finished.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from shiftwork_coordinator.lab.aws.balancing import forwarding
from shiftwork_coordinator.lab.aws.balancing.forwarding import Head, Rule
from shiftwork_coordinator.lab.aws.balancing.health import Target
from shiftwork_coordinator.lab.aws.moto import HOP

Place = tuple[str, int]
Taking = Callable[[str], Sequence[Target]]
"""Who of a target group gets requests now."""
Measure = Callable[[str, str, int], None]
"""Takes listener, target group and status of a request that a target has answered."""
MOST = 80 << 20


class Listener(NamedTuple):
    arn: str
    protocol: str
    rules: tuple[Rule, ...]

    @property
    def http(self) -> bool:
        return self.protocol in ("HTTP", "HTTPS")


class Router:
    """`address` tells where a target is reached by its id. TLS is left out: an HTTPS listener speaks HTTP."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        taking: Taking,
        address: Callable[[str], str],
        measure: Measure,
        seed: int | None = None,
    ) -> None:
        self._session, self._taking, self._address, self._measure = session, taking, address, measure
        self._random = Random(seed)
        self._listeners: dict[str, Listener] = {}
        self._open: dict[str, tuple[int, Any]] = {}
        self._turns: defaultdict[str, int] = defaultdict(int)
        self._writers: set[asyncio.StreamWriter] = set()
        self.used: frozenset[str] = frozenset()
        """The target groups that a listener or a rule names."""
        self.in_flight: Counter[Target] = Counter()
        """Requests, or connections of a network listener, by target."""

    @property
    def listeners(self) -> Iterable[Listener]:
        return self._listeners.values()

    def url(self, listener: str) -> str:
        """Where its requests go, once it is open."""
        kind = "http" if self._listeners[listener].http else "tcp"
        return f"{kind}://127.0.0.1:{self._open[listener][0]}"

    async def put(self, listener: Listener) -> None:
        """Opens it, or changes where it sends from the next request on."""
        if listener.arn not in self._open:
            opened = self._http(listener.arn) if listener.http else self._tcp(listener.arn)
            self._open[listener.arn] = await opened
        self._listeners[listener.arn] = listener
        self._count()

    async def remove(self, listener: str) -> None:
        self._listeners.pop(listener, None)
        self._count()
        if listener in self._open:
            _, close = self._open.pop(listener)
            await close()

    def _count(self) -> None:
        self.used = frozenset().union(*(forwarding.used(each.rules) for each in self._listeners.values()))

    async def close(self) -> None:
        for listener in list(self._open):
            await self.remove(listener)
        for writer in list(self._writers):
            writer.close()

    def send(self, group: str) -> Target | None:
        """Whose turn it is."""
        targets = self._taking(group)
        if not targets:
            return None
        self._turns[group] += 1
        return targets[self._turns[group] % len(targets)]

    def _chosen(self, listener: str, head: Head) -> tuple[Mapping[str, Any], str, Target | None]:
        action = forwarding.action(self._listeners[listener].rules, head)
        group = forwarding.drawn(forwarding.weights(action), self._random.random())
        return action, group, self.send(group) if group else None

    # HTTP

    async def _http(self, listener: str) -> tuple[int, Any]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer(listener, request)

        server = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.5)
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", 0).start()
        return int(server.addresses[0][1]), server.cleanup

    async def _answer(self, listener: str, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, _, query = request.raw_path.partition("?")
        action, group, target = self._chosen(listener, Head(request.method, path, query, headers))
        if target is not None:
            answered = await self._forwarded(request, target)
            self._measure(listener, group, answered.status)
            return answered
        if action.get("Type") == "fixed-response":
            fixed = action["FixedResponseConfig"]
            return web.Response(
                status=int(fixed["StatusCode"]), text=fixed.get("MessageBody", ""),
                content_type=fixed.get("ContentType", "text/plain"),
            )  # fmt: skip
        if action.get("Type") == "redirect":
            return web.Response(status=501, text="the lab's load balancer redirects nobody\n")
        return web.Response(status=503, text="no target takes requests\n")

    async def _forwarded(self, request: web.BaseRequest, target: Target) -> web.Response:
        kept = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        url = f"http://{self._address(target.id)}:{target.port}{request.raw_path}"
        self.in_flight[target] += 1
        try:
            body = await request.read()
            async with self._session.request(
                request.method, url, headers=kept, data=body or None, allow_redirects=False
            ) as got:
                told = {name: value for name, value in got.headers.items() if name.lower() not in HOP}
                return web.Response(status=got.status, body=await got.read(), headers=told)
        except (aiohttp.ClientError, OSError) as err:
            return web.Response(status=502, text=f"{target.id}:{target.port} broke off: {err}\n")
        finally:
            self.in_flight[target] -= 1

    # TCP

    async def _tcp(self, listener: str) -> tuple[int, Any]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, _, target = self._chosen(listener, Head())
            if target is not None:
                await self._joined(target, reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)

        async def close() -> None:
            server.close()

        return int(server.sockets[0].getsockname()[1]), close

    async def _joined(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side has ended."""
        try:
            there, back = await asyncio.open_connection(self._address(target.id), target.port)
        except OSError:
            return
        ends = {writer, back}
        self._writers |= ends
        self.in_flight[target] += 1
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self.in_flight[target] -= 1
            self._writers -= ends
            back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def session() -> aiohttp.ClientSession:
    """For requests to targets: a connection each, because one that is kept may be closed just as it is used again."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
