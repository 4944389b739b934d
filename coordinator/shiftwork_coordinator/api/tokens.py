"""Tokens: made, listed without their secrets, revoked."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator import aws_keys, tokens
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.model.rows import Token


async def create(request: web.Request) -> web.Response:
    found = services(request)
    asked = await body(request, tokens.NewToken)
    home = found.home
    if asked.kind == "aws":
        row, secret = await aws_keys.create(home.store, home.clock, found.sealer, asked, caller(request).who)
        return reply({**_view(row), "accessKeyId": row.id, "secretAccessKey": secret}, status=201)
    row, text = await tokens.create(home.store, home.clock, asked, caller(request).who, found.authority.fingerprint)
    return reply({**_view(row), "token": text}, status=201)


async def listed(request: web.Request) -> web.Response:
    return reply({"tokens": [_view(row) for row in await services(request).home.store.tokens()]})


async def revoke(request: web.Request) -> web.Response:
    home = services(request).home
    return reply(_view(await tokens.revoke(home.store, home.clock, request.match_info["id"], caller(request).who)))


def _view(row: Token) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "role": row.role,
        "name": row.name,
        "group": row.group,
        "tags": row.tags,
        "createdAt": row.created_at,
        "createdBy": row.created_by,
        "expiresAt": row.expires_at,
        "usesLeft": row.uses_left,
        "revokedAt": row.revoked_at,
    }
