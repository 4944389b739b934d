"""Instances: who has joined, with which tags, and whether its agent is there."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec.structs import replace

from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.joining import amend
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit


class Tags(msgspec.Struct, frozen=True):
    """null takes a tag away."""

    tags: dict[str, str | None]


async def listed(request: web.Request) -> web.Response:
    home = services(request).home
    return reply({"instances": [view(home, row) for row in await home.store.instances()]})


async def tag(request: web.Request) -> web.Response:
    home, name = services(request).home, request.match_info["name"]
    asked = await body(request, Tags)

    def tagged(row: Instance) -> Instance:
        merged = {**row.tags, **asked.tags}
        return replace(row, tags={key: value for key, value in merged.items() if value is not None})

    audit = Audit(caller(request).who, "instance.tag", f"{name} {asked.tags}", home.clock.now())
    return reply(view(home, await amend(home.store, name, tagged, audit)))


async def revoke(request: web.Request) -> web.Response:
    """From now on its certificate opens nothing, and every link that is open is closed."""
    home, name = services(request).home, request.match_info["name"]

    def revoked(row: Instance) -> Instance:
        return replace(row, revoked_at=row.revoked_at or home.clock.now())

    await amend(home.store, name, revoked)
    home.agents.disconnect(name)
    services(request).links.end(name)
    # Once more, behind whatever the links just cut had given to the writer.
    audit = Audit(caller(request).who, "instance.revoke", name, home.clock.now())
    row = await amend(home.store, name, revoked, audit)
    return reply(view(home, row))


def view(home: Coordinator, row: Instance) -> dict[str, object]:
    seen = home.agents.seen(row.name)
    return {
        "instance": row.name,
        "address": row.address,
        "instanceId": row.cloud_id,
        "region": row.host.region,
        "zone": row.host.zone,
        "tags": row.tags,
        "connected": seen.connected,
        "lastSeen": seen.last_seen or row.last_seen,
        "connectedSince": seen.connected_at if seen.connected else None,
        "agentVersion": row.agent_version,
        "joinedAt": row.joined_at,
        "revokedAt": row.revoked_at,
        "readings": home.agents.heartbeat(row.name),
    }
