"""Bootstrapping's view of the coordinator, over its API."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from shiftwork_coordinator.bootstrap.ports import Ticket
from shiftwork_coordinator.bootstrap.steps import Known
from shiftwork_coordinator.cli.client import Api
from shiftwork_coordinator.ports import Clock

TOKEN_TTL = 300.0
"""Seconds in which a host must have joined: the token is made when everything else there is ready."""
FRESH = 0.5
"""Seconds between two lists of the instances: each serves all hosts that asked before it was begun."""


class ApiCoordinator:
    """bootstrap.ports.Coordinator. `group`, as APPLICATION/GROUP, is what its tokens are bound to; "" = none."""

    def __init__(self, api: Api, clock: Clock, group: str = "") -> None:
        self._api, self._clock, self._group, self._asking = api, clock, group, asyncio.Lock()
        self._known: dict[str, Known] = {}
        self._began: float | None = None

    async def ca(self) -> str:
        """The CA's certificate, in PEM."""
        return (await self._api.ask("GET", "/v1/ca.pem")).raw.decode()

    async def check(self) -> None:
        """Raises now what the first token would raise, once its host is changed already: no rights, no such group."""
        await self._api.ask("GET", "/v1/tokens")
        if self._group:
            await self._api.ask("GET", f"/v1/groups/{quote(self._group)}")

    async def known(self, name: str) -> Known:
        asked = self._clock.monotonic()
        async with self._asking:
            if self._began is None or self._began < asked:
                await self._list()
        return self._known.get(name, Known())

    async def _list(self) -> None:
        if self._began is not None:
            await asyncio.sleep(self._began + FRESH - self._clock.monotonic())
        self._began = self._clock.monotonic()
        answer = await self._api.ask("GET", "/v1/instances")
        rows = answer.read(dict[str, list[dict[str, Any]]]).get("instances", [])
        self._known = {str(row.get("instance")): _known(row) for row in rows}

    async def admit(self, name: str, tags: dict[str, str]) -> Ticket:
        wanted: dict[str, object] = {"kind": "agent", "name": name, "tags": tags, "ttl": TOKEN_TTL, "uses": 1}
        if self._group:
            wanted["group"] = self._group
        made = (await self._api.ask("POST", "/v1/tokens", wanted)).read(dict[str, Any])
        return Ticket(str(made["id"]), str(made["token"]))

    async def withdraw(self, ticket: Ticket) -> None:
        await self._api.ask("DELETE", f"/v1/tokens/{quote(ticket.id, safe='')}")


def _known(row: dict[str, Any]) -> Known:
    return Known(
        exists=True,
        revoked=row.get("revokedAt") is not None,
        connected=bool(row.get("connected")),
        version=str(row.get("agentVersion") or ""),
    )
