"""Joining by a role of AWS, and which roles may."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator import iam
from shiftwork_coordinator.api.join import joined
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.model.rows import TrustedRole


async def join(request: web.Request) -> web.Response:
    found, asked = services(request), await body(request, iam.Proof)
    store, clock = found.home.store, found.home.clock
    shown = await iam.identify(store, clock, found.nonces, found.sts, asked)
    async with found.joining:
        row, certificate = await iam.join(store, clock, found.authority, asked, shown)
    return joined(request, row.name, certificate)


async def add(request: web.Request) -> web.Response:
    home, asked = services(request).home, await body(request, iam.Trust)
    return reply(_view(await iam.trust(home.store, home.clock, asked, caller(request).who)), status=201)


async def listed(request: web.Request) -> web.Response:
    found = services(request)
    rows = [_view(row) for row in await found.home.store.trusted_roles()]
    return reply({"trusted": rows, "caFingerprint": f"sha256:{found.authority.fingerprint}"})


async def remove(request: web.Request) -> web.Response:
    home = services(request).home
    return reply(_view(await iam.distrust(home.store, home.clock, request.match_info["id"], caller(request).who)))


def _view(row: TrustedRole) -> dict[str, object]:
    return {
        "id": row.id,
        "account": row.account,
        "role": row.role,
        "tags": row.tags,
        "anyName": row.any_name,
        "createdAt": row.created_at,
        "createdBy": row.created_by,
    }
