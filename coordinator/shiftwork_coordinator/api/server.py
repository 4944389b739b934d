"""The application: the table of routes behind admission, with what handlers need."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from shiftwork_coordinator.api.attempts import Attempts
from shiftwork_coordinator.api.codedeploy import json11
from shiftwork_coordinator.api.errors import errors
from shiftwork_coordinator.api.links import Links
from shiftwork_coordinator.api.routes import Route, table
from shiftwork_coordinator.auth import CALLER, Auth, Caller, admit
from shiftwork_coordinator.metrics import Metrics
from shiftwork_coordinator.nonces import Nonces
from shiftwork_coordinator.pki import Authority
from shiftwork_coordinator.sealing import Sealer
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Bundles, Lease
from shiftwork_coordinator.sts import Sts

T = TypeVar("T")
BODY_LIMIT = 1 << 20
"""Bytes of a JSON body; uploads are streamed and not bound by it."""


class Services(msgspec.Struct, frozen=True):
    """What handlers work with. `packages` are the agent's, kept as bundles are. `addresses`: URLs under which agents
    reach it, where they are configured. `joining` is held while a host joins."""

    home: Coordinator
    authority: Authority
    bundles: Bundles
    packages: Bundles
    metrics: Metrics
    lease: Lease
    addresses: tuple[str, ...] = ()
    links: Links = msgspec.field(default_factory=Links)
    joining: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    nonces: Nonces = msgspec.field(default_factory=Nonces)
    sts: Sts = msgspec.field(default_factory=Sts)
    sealer: Sealer = msgspec.field(default_factory=Sealer)
    attempts: Attempts = msgspec.field(default_factory=Attempts)


SERVICES = web.AppKey("services", Services)


def application(services: Services) -> web.Application:
    app = web.Application(middlewares=[errors], client_max_size=BODY_LIMIT)
    app[SERVICES] = services
    app.on_shutdown.append(_hang_up)
    for route in table():
        app.router.add_route(route.method, route.path, _guarded(route))
    return app


async def _hang_up(app: web.Application) -> None:
    """Whatever would never end by itself; agents and watchers come back to the next process."""
    app[SERVICES].links.end_all()


def _guarded(route: Route) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        found, home = request.app[SERVICES], request.app[SERVICES].home
        request[CALLER] = await admit(request, route.auth, home.store, home.clock, found.sealer)
        return await (_counted(request, route) if route.auth is Auth.JOIN else route.handler(request))

    async def in_aws_words(request: web.Request) -> web.StreamResponse:
        return await json11.spoken(request, lambda: handle(request))

    return in_aws_words if route.auth is Auth.AWS else handle


async def _counted(request: web.Request, route: Route) -> web.StreamResponse:
    """Only what came to nothing counts, or a fleet behind one address could not join at once."""
    found, remote = request.app[SERVICES], request.remote
    if not remote:  # the local socket
        return await route.handler(request)
    found.attempts.take(remote, found.home.clock.monotonic())
    answer = await route.handler(request)
    if answer.status == 200:
        found.attempts.give_back(remote)
    return answer


def services(request: web.Request) -> Services:
    return request.app[SERVICES]


def caller(request: web.Request) -> Caller:
    return request[CALLER]


async def body(request: web.Request, kind: type[T]) -> T:
    """The JSON body as `kind`; an empty one counts as {}. Raises msgspec's errors, which become 400."""
    return msgspec.json.decode(await request.read() or b"{}", type=kind)


def reply(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true", "yes")
