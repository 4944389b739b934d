"""Joining, and the link that every joined agent keeps open."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator import expired, joining
from shiftwork_coordinator.api.agents import serve_link
from shiftwork_coordinator.api.server import body, caller, reply, services


async def join(request: web.Request) -> web.Response:
    found = services(request)
    asked = await body(request, joining.Join)
    async with found.joining:
        row, certificate = await joining.join(found.home.store, found.home.clock, found.authority, asked)
    return joined(request, row.name, certificate)


def joined(request: web.Request, instance: str, certificate: str) -> web.Response:
    """What a host needs to be an instance."""
    ca = services(request).authority.pem
    return reply({"instance": instance, "certificate": certificate, "ca": ca, "coordinators": _addresses(request)})


def _addresses(request: web.Request) -> list[str]:
    """The configured addresses; without any, the one that this very request came to: it is known to work."""
    return list(services(request).addresses) or [f"https://{request.host}"]


async def nonce(request: web.Request) -> web.Response:
    found = services(request)
    return reply({"nonce": found.nonces.new(found.home.clock.monotonic())}, status=201)


async def renew(request: web.Request) -> web.Response:
    """For a certificate that has expired: the link takes no other."""
    found = services(request)
    asked = await body(request, expired.Renewal)
    made = await expired.renew(found.home.store, found.home.clock, found.authority, found.nonces, asked)
    return reply({"certificate": made.certificate, "ca": made.ca})


async def link(request: web.Request) -> web.StreamResponse:
    """Held before its certificate is looked at once more, so that no revocation falls in between."""
    found, who = services(request), caller(request)
    with found.links.held(who.instance):
        await joining.settle(found.home.store, who.instance, who.serial)
        return await serve_link(request, found.home, who.instance)
