"""Instances: who has joined, with which tags, and whether its agent is there."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit, Put


class Tags(msgspec.Struct, frozen=True):
    """null takes a tag away."""

    tags: dict[str, str | None]


async def listed(request: web.Request) -> web.Response:
    home = services(request).home
    return reply({"instances": [_view(home, row) for row in await home.store.instances()]})


async def tag(request: web.Request) -> web.Response:
    home, row = services(request).home, await _known(request)
    asked = await body(request, Tags)
    merged = {**row.tags, **asked.tags}
    row = replace(row, tags={key: value for key, value in merged.items() if value is not None})
    audit = Audit(caller(request).who, "instance.tag", f"{row.name} {asked.tags}", home.clock.now())
    await home.store.write(Put(row), audit)
    return reply(_view(home, row))


async def revoke(request: web.Request) -> web.Response:
    """From now on its certificate opens nothing, and the link that is open is closed."""
    home, row = services(request).home, await _known(request)
    row = replace(row, revoked_at=row.revoked_at or home.clock.now())
    await home.store.write(Put(row), Audit(caller(request).who, "instance.revoke", row.name, home.clock.now()))
    home.agents.disconnect(row.name)
    return reply(_view(home, row))


async def _known(request: web.Request) -> Instance:
    name = request.match_info["name"]
    row = await services(request).home.store.instance(name)
    if row is None:
        raise InvalidRequest(
            f"cannot find the instance {name[:80]!r}; `shiftwork instances` shows them", code="NotFound"
        )
    return row


def _view(home: Coordinator, row: Instance) -> dict[str, object]:
    seen = home.agents.seen(row.name)
    return {
        "instance": row.name,
        "address": row.address,
        "tags": row.tags,
        "connected": seen.connected,
        "lastSeen": seen.last_seen or row.last_seen,
        "agentVersion": row.agent_version,
        "joinedAt": row.joined_at,
        "revokedAt": row.revoked_at,
        "readings": home.agents.heartbeat(row.name),
    }
