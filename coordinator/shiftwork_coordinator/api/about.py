"""The coordinator itself: alive, its CA, its numbers, its audit log."""

from __future__ import annotations

from aiohttp import web

from shiftwork_contract import __version__
from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.api.server import reply, services


async def health(request: web.Request) -> web.Response:
    if not services(request).lease.outlasts(0):
        raise Unavailable("cannot act now: the lease has run out; the coordinator's log says why")
    return reply({"status": "ok", "version": __version__})


async def ca(request: web.Request) -> web.Response:
    return web.Response(text=services(request).authority.pem, content_type="application/x-pem-file")


async def metrics(request: web.Request) -> web.Response:
    found = services(request)
    return web.Response(body=await found.metrics.text(found.home), content_type="text/plain")


async def audit(request: web.Request) -> web.Response:
    store = services(request).home.store
    return reply({"audit": await store.audit(limit=1000), "firstBreak": await store.audit_break()})
