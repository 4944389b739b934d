"""HAProxy, steered over its runtime socket.

Out is `maint`: it also moves clients that carry a cookie for the server, stops its checks and cuts nothing in flight.
Back is `drain`, `health down` and `ready` in one line: HAProxy would otherwise send traffic before any check was made,
and without `drain` one of its other threads may still do so between the other two.
Every reading starts from what HAProxy says now, so a reload that forgot `maint` is seen and not assumed away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, TypeVar

import msgspec

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.balancers import haproxy_check, haproxy_rows
from shiftwork_coordinator.balancers.agreement import together
from shiftwork_coordinator.balancers.haproxy_rows import Row, View
from shiftwork_coordinator.balancers.haproxy_site import Site
from shiftwork_coordinator.balancers.haproxy_wire import TlsFiles, Wire, endpoint
from shiftwork_coordinator.balancers.settings import read_settings, several
from shiftwork_coordinator.ports import Gates, Problem, Reading, Server, TrafficState

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`endpoint`: the runtime socket of each HAProxy process that sends traffic to the group; `backend`: where its
    servers stand. `master`: master socket, in the order of the endpoints, to see requests that old workers still
    serve after a reload. `server`: name of an instance's server there. `unchecked: allow` takes servers without
    health checks, whose return nothing proves. `timeout`: seconds for one answer.
    """

    endpoint: str = ""
    endpoints: tuple[str, ...] = ()
    backend: str = ""
    backends: tuple[str, ...] = ()
    master: str = ""
    masters: tuple[str, ...] = ()
    server: str = "{instance}"
    unchecked: Literal["refuse", "allow"] = "refuse"
    ca: str = ""
    cert: str = ""
    key: str = ""
    timeout: float = 2.0


class HAProxy:
    def __init__(self, sites: Sequence[Site], unchecked: bool) -> None:
        self.name = "haproxy " + ", ".join(site.wire.where.text for site in sites)
        self._sites, self._unchecked = sites, unchecked

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        async def problems(site: Site) -> list[Problem]:
            found = await site.view()
            level = await site.wire.ask("show cli level")
            return haproxy_check.problems(site, found, servers, level.strip(), self._unchecked)

        answers = await self._each(problems)
        return [
            problem
            for answer in answers
            for problem in ([Problem(answer.message)] if isinstance(answer, ShiftworkError) else answer)
        ]

    async def deregister(self, servers: Sequence[Server]) -> None:
        await self._change(servers, _out)

    async def register(self, servers: Sequence[Server]) -> None:
        await self._change(servers, _in)

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        views = list(zip(self._sites, await self._each(Site.view), strict=True))
        return {
            server.instance: together([one for site, found in views for one in _look(site, found, server)])
            for server in servers
        }

    async def close(self) -> None:
        """Nothing to close: no connection outlives a call."""

    async def _change(self, servers: Sequence[Server], commands: Callable[[Row], str]) -> None:
        """Every endpoint is told before the first error is raised: one that is down must not keep the others."""

        async def change(site: Site) -> None:
            found = await site.view()
            # One member per server: its commands for all backends must reach HAProxy in one line.
            whole = ["; ".join(filter(None, map(commands, site.rows(found, server)))) for server in servers]
            await site.wire.tell([line for line in whole if line])

        for answer in await self._each(change):
            if isinstance(answer, ShiftworkError):
                raise answer

    async def _each(self, call: Callable[[Site], Awaitable[T]]) -> list[T | ShiftworkError]:
        async def guarded(site: Site) -> T | ShiftworkError:
            try:
                return await call(site)
            except (Unavailable, InvalidRequest) as err:
                return err

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(guarded(site)) for site in self._sites]
        return [task.result() for task in tasks]


def connect(settings: Mapping[str, object], gates: Gates) -> HAProxy:
    """The driver for these settings; touches nothing yet. Raises InvalidRequest for settings it cannot use."""
    wanted = read_settings("haproxy", Settings, settings)
    endpoints = several("haproxy", "endpoint", wanted.endpoint, wanted.endpoints)
    backends = several("haproxy", "backend", wanted.backend, wanted.backends)
    masters = several("haproxy", "master", wanted.master, wanted.masters)
    if not endpoints or not backends:
        raise _refused(f"`{'backend' if endpoints else 'endpoint'}` is missing; name at least one")
    if masters and len(masters) != len(endpoints):
        raise _refused(f"{len(masters)} `masters` for {len(endpoints)} endpoints; name one for each, in the same order")
    if not 0 < wanted.timeout <= 30:
        raise _refused(f"`timeout` is {wanted.timeout:g} s; it must be above 0 and at most 30")
    _check_template(wanted.server)
    files = TlsFiles(wanted.ca, wanted.cert, wanted.key)
    wires = [Wire(endpoint(text), files, wanted.timeout) for text in endpoints]
    old = [Wire(endpoint(text), files, wanted.timeout) for text in masters]
    sites = [Site(wire, master, backends, wanted.server) for wire, master in zip_longest(wires, old)]
    return HAProxy(sites, wanted.unchecked == "allow")


def _check_template(template: str) -> None:
    try:
        template.format(instance="")
    except (KeyError, IndexError, ValueError, AttributeError) as err:
        raise _refused(f"`server` is {template!r}; only {{instance}} may stand in braces") from err


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use load balancer `haproxy`: {why}", code="INVALID_LOAD_BALANCER")


def _out(row: Row) -> str:
    return "" if row.admin & haproxy_rows.OUT else f"set server {row.path} state maint"


def _in(row: Row) -> str:
    """Nothing for a server that is in: `health down` would take it out of traffic again."""
    if not row.asked_out:
        return ""
    ready = f"set server {row.path} state ready"
    # Without checks of its own nothing would ever call it up again.
    if not row.checked or row.tracks:
        return ready
    return f"set server {row.path} state drain; set server {row.path} health down; {ready}"


def _look(site: Site, found: View | ShiftworkError, server: Server) -> list[Reading]:
    if isinstance(found, ShiftworkError):
        return [Reading(TrafficState.UNKNOWN, detail=found.message)]
    try:
        return [haproxy_rows.reading(found, row) for row in site.rows(found, server)]
    except InvalidRequest as err:
        return [Reading(TrafficState.UNKNOWN, detail=err.message)]
