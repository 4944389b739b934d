"""Requests to join: asked by anybody, decided by an admin."""

from __future__ import annotations

import structlog
from aiohttp import web

from shiftwork_coordinator import approving
from shiftwork_coordinator.api.instances import view
from shiftwork_coordinator.api.join import joined
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.model.rows import JoinRequest

log = structlog.get_logger()


async def ask(request: web.Request) -> web.Response:
    """202 while it waits, then what a join with a token answers."""
    found, remote = services(request), request.remote or "local"
    asked = await body(request, approving.Ask)
    async with found.joining:
        row = await approving.ask(found.home.store, found.home.clock, asked, remote)
    if row.state == "approved":
        return joined(request, row.name, row.certificate)
    if row.asked_at == row.heard_at:
        log.info("a host asks to join", instance=row.name, remote=remote, fingerprint=f"sha256:{row.fingerprint}")
    return reply({"state": row.state, "fingerprint": f"sha256:{row.fingerprint}"}, status=202)


async def listed(request: web.Request) -> web.Response:
    home, fingerprint = services(request).home, services(request).authority.fingerprint
    waiting = [_view(row) for row in await approving.pending(home.store, home.clock)]
    return reply({"requests": waiting, "caFingerprint": f"sha256:{fingerprint}"})


async def approve(request: web.Request) -> web.Response:
    found = services(request)
    approval = await body(request, approving.Approval)
    async with found.joining:
        row = await approving.approve(
            found.home.store, found.home.clock, found.authority, _fingerprint(request), approval, caller(request).who
        )
    return reply(view(found.home, row))


async def deny(request: web.Request) -> web.Response:
    found = services(request)
    async with found.joining:
        row = await approving.deny(found.home.store, found.home.clock, _fingerprint(request), caller(request).who)
    return reply(_view(row))


def _fingerprint(request: web.Request) -> str:
    return request.match_info["fingerprint"].removeprefix("sha256:")


def _view(row: JoinRequest) -> dict[str, object]:
    return {
        "fingerprint": f"sha256:{row.fingerprint}",
        "instance": row.name,
        "address": row.address,
        "remote": row.remote,
        "state": row.state,
        "askedAt": row.asked_at,
        "heardAt": row.heard_at,
    }
