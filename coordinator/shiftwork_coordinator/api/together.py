"""Several deployments as one, and what stacks hold."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator import stacks, together
from shiftwork_coordinator.api.deployments import view
from shiftwork_coordinator.api.server import body, caller, reply, services


async def create(request: web.Request) -> web.Response:
    home = services(request).home
    asked = await body(request, together.CreateTogether)
    made = await together.create(home, asked.deployments, caller(request).who)
    return reply({"deployments": [await view(home, row.id) for row in made]}, status=201)


async def plan(request: web.Request) -> web.Response:
    asked = await body(request, together.PlanTogether)
    return reply(await together.foresee(services(request).home, asked, caller(request)))


async def stack(request: web.Request) -> web.Response:
    return reply(await stacks.stack(request.match_info["name"], request.query.get("region", "")))
