"""The instance metadata service, version 2 alone: at each instance's own address, what it is and where."""

from __future__ import annotations

import sys
from functools import partial
from secrets import token_urlsafe

from aiohttp import web

from shiftwork_coordinator.lab.aws.fleets.machine import Machine
from shiftwork_coordinator.lab.plan import REGION

PORT = 8169
TOKEN, TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"


def endpoint(address: str) -> str:
    return f"http://{address}:{PORT}"


class Metadata:
    """Instances have no role: there are no credentials to be had."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._servers: dict[str, web.AppRunner] = {}

    async def open(self, machine: Machine) -> None:
        app = web.Application()
        app.router.add_put("/latest/api/token", self._token)
        app.router.add_get("/latest/meta-data/{what:.*}", partial(self._told, machine))
        self._servers[machine.id] = server = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await server.setup()
        try:
            await web.TCPSite(server, machine.address, PORT).start()
        except OSError as err:  # an agent that is not told, as where the service is switched off
            print(f"{machine.id}: no metadata service: {err}", file=sys.stderr)

    async def close(self, machine: Machine) -> None:
        if server := self._servers.pop(machine.id, None):
            await server.cleanup()

    async def close_all(self) -> None:
        for server in self._servers.values():
            await server.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        if TTL not in request.headers:
            return web.Response(status=400)
        self._tokens.add(token := token_urlsafe())
        return web.Response(text=token)

    async def _told(self, machine: Machine, request: web.Request) -> web.Response:
        if request.headers.get(TOKEN) not in self._tokens:
            return web.Response(status=401)
        told = {
            "instance-id": machine.id,
            "local-ipv4": machine.address,
            "placement/region": REGION,
            "placement/availability-zone": str(machine.described["AvailabilityZone"]),
        }.get(request.match_info["what"])
        return web.Response(status=404) if told is None else web.Response(text=told)
