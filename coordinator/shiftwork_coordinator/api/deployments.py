"""Deployments: create, look, steer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator import operations, planning
from shiftwork_coordinator.api import views
from shiftwork_coordinator.api.links import WATCHED
from shiftwork_coordinator.api.server import body, caller, flag, reply, services
from shiftwork_coordinator.auth import NotAllowed
from shiftwork_coordinator.drafting import OUTSIDE, CreateDeployment
from shiftwork_coordinator.model.rows import Deployment, Target
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.shell.coordinator import ACTIVE, Coordinator

LUMP = 0.2
"""Seconds between two views of the same deployment to one watcher."""
_DIGITS = re.compile(r"[0-9]{1,18}")


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    now: bool = False
    rollback: bool | None = None


class Continue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either way the wait or bake that it is in ends now."""

    now: bool = False


async def create(request: web.Request) -> web.Response:
    home = services(request).home
    asked = await body(request, CreateDeployment)
    row = await operations.create_deployment(home, asked, caller(request).who)
    return reply(await view(home, row.id), status=201)


async def plan(request: web.Request) -> web.Response:
    asked = await body(request, CreateDeployment)
    if caller(request).role == "viewer" and asked.revision.startswith(OUTSIDE):
        raise NotAllowed(
            f"cannot look up {asked.revision[:200]!r} as viewer: the coordinator reads it with its own credentials, and"
            " all of it; that takes the role deployer or higher"
        )
    return reply(await planning.plan(services(request).home, asked))


async def listed(request: web.Request) -> web.Response:
    home, query = services(request).home, request.query
    rows = await home.store.deployments(
        application=query.get("application"),
        group=query.get("group"),
        statuses=ACTIVE if flag(query, "active") else None,
        limit=_limit(query.get("limit", "50")),
    )
    return reply({"deployments": [views.deployment(row, await home.store.targets(row.id)) for row in rows]})


def _limit(text: str) -> int:
    found = _number(text)
    if found is None or not 1 <= found <= 500:
        raise InvalidRequest(f"cannot list {text[:80]!r} deployments: the limit is 1 to 500")
    return found


def _number(text: str) -> int | None:
    """None for what is no plain decimal number, or is more than the database could count."""
    return int(text) if _DIGITS.fullmatch(text) else None


async def show(request: web.Request) -> web.Response:
    return reply(await view(services(request).home, request.match_info["id"]))


async def why(request: web.Request) -> web.Response:
    home, id = services(request).home, request.match_info["id"]
    await view(home, id)
    return reply({"waiting": home.reasons_now(id)})


async def stop(request: web.Request) -> web.Response:
    home, id = services(request).home, request.match_info["id"]
    asked = await body(request, Stop)
    await operations.stop_deployment(home, id, now=asked.now, rollback=asked.rollback, who=caller(request).who)
    return reply(await view(home, id))


async def proceed(request: web.Request) -> web.Response:
    home, id = services(request).home, request.match_info["id"]
    await body(request, Continue)
    await operations.continue_deployment(home, id, who=caller(request).who)
    return reply(await view(home, id))


async def rollback(request: web.Request) -> web.Response:
    home = services(request).home
    row = await operations.rollback_deployment(home, request.match_info["id"], who=caller(request).who)
    return reply(await view(home, row.id), status=201)


async def view(home: Coordinator, id: str) -> views.View:
    """The deployment with its targets, as it is now. Raises InvalidRequest (404) for an unknown one."""
    row, targets = await rows(home, id)
    shifts = row.platform != "Server" or row.settings.weights is not None
    seen = views.Seen(
        reasons=home.reasons(id),
        in_service=home.in_service(id),
        agents={name: home.agents.seen(name, row.group_id) for name in targets},
        told=[line for _, line in await home.store.history(id)] if shifts else (),
    )
    events = await home.store.events(id)
    return {**views.deployment(row, targets, seen), "targets": views.targets(row, targets, events, seen)}


async def rows(home: Coordinator, id: str) -> tuple[Deployment, dict[str, Target]]:
    run = home.runs.get(id)
    if run is not None:
        return run.image.deployment, run.image.targets
    row = await home.store.deployment(id)
    if row is None:
        raise InvalidRequest(
            f"cannot find the deployment {id[:80]!r}; `shiftwork list` shows them",
            code="DeploymentDoesNotExistException",
        )
    return row, await home.store.targets(id)


# Server-sent events


async def events(request: web.Request) -> web.StreamResponse:
    """History lines and views until the deployment has ended; the last view is the final one."""
    home, id = services(request).home, request.match_info["id"]
    await rows(home, id)
    text = request.headers.get("Last-Event-ID") or request.query.get("after", "0")
    after = _number(text)
    if after is None:
        raise InvalidRequest(f"cannot go on after event {text[:80]!r}: give the number of an event")
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    with services(request).links.held(WATCHED):
        async with aclosing(_stream(home, id, after)) as pieces:
            async for piece in pieces:
                await answer.write(piece)
    return answer


async def _stream(home: Coordinator, id: str, after: int) -> AsyncGenerator[bytes]:
    async with aclosing(news(home, id)) as changes:
        async for _ in changes:
            seen = await view(home, id)
            for number, line in await home.store.history(id, after):
                after = number
                yield _sse("history", line, number)
            yield _sse("view", seen)
            if seen["status"] in ENDED:
                return


async def news(home: Coordinator, id: str) -> AsyncGenerator[None]:
    """Yields at once and after changes, without end: the reader sees the end in the rows, even where it fell between
    two changes or the deployment is not driven yet."""
    while True:
        async for _ in home.changes(id):
            yield
            await asyncio.sleep(LUMP)


def _sse(event: str, data: object, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
