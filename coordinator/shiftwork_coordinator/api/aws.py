"""Where AWS's SDKs are pointed to."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator.api.codedeploy import json11
from shiftwork_coordinator.api.server import caller, services


async def codedeploy(request: web.Request) -> web.Response:
    """One address for every operation; which one, a header says."""
    return await json11.handle(services(request).home, request, caller(request))
