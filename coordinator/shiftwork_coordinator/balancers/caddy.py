"""Caddy, steered through its own health checks and never reconfigured.

Every change of Caddy's configuration closes idle client connections, cuts upgraded streams and takes all upstreams
for healthy again. So the active check asks the agent's gate: closing it takes the server out, opening it brings it
back, and what Caddy needs for that (`fails`, `passes`, `interval`, `timeout`) is read from its configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.balancers import caddy_config
from shiftwork_coordinator.balancers.caddy_admin import Admin, View
from shiftwork_coordinator.balancers.gate import GatePoint, broken_gates, check_point, judged, move
from shiftwork_coordinator.balancers.settings import read_settings
from shiftwork_coordinator.ports import Gates, Problem, Reading, Server, TrafficState

OLDEST = (2, 11, 2)
SLOW = 15.0
"""Seconds that blocking traffic may take by Caddy's checks alone before it is worth a word."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`admin`: Caddy's admin endpoint, on loopback or a unix socket. `gate`: where the agents' gates listen, the
    same as `health_port` and `health_uri` in Caddy's configuration. `timeout`: seconds for one answer."""

    admin: str = "http://127.0.0.1:2019"
    gate: GatePoint = GatePoint()
    timeout: float = 2.0


class Caddy:
    def __init__(self, admin: Admin, gate: GatePoint, gates: Gates) -> None:
        self.name = f"caddy {admin.address}"
        self._admin, self._gate, self._gates = admin, gate, gates

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        try:
            view = await self._admin.view()
        except Unavailable as err:
            return [Problem(err.message)]
        return [*self._of_caddy(view), *self._of_servers(view, servers), *broken_gates(self._gates, servers)]

    async def deregister(self, servers: Sequence[Server]) -> None:
        await move(self._gates, servers, open=False)

    async def register(self, servers: Sequence[Server]) -> None:
        await move(self._gates, servers, open=True)

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        try:
            view = await self._admin.view()
        except Unavailable as err:
            return {server.instance: Reading(TrafficState.UNKNOWN, detail=err.message) for server in servers}
        return {server.instance: self._reading(view, server) for server in servers}

    async def close(self) -> None:
        await self._admin.close()

    def _reading(self, view: View, server: Server) -> Reading:
        try:
            dial = self._dial(view, server)
        except InvalidRequest as err:
            return Reading(TrafficState.UNKNOWN, generation=view.generation, detail=err.message)
        needed = caddy_config.needed(view.proxies, dial, self._gate)
        if needed is None:
            detail = f"{dial}: a proxy sends to it without asking the gate at port {self._gate.port}"
            return Reading(TrafficState.UNKNOWN, generation=view.generation, detail=detail)
        state, detail = judged(self._gates.state(server.instance), needed)
        if state is TrafficState.ABSENT and view.loaded_for is not None and view.loaded_for < needed.closed_for:
            # A freshly loaded configuration takes every upstream for healthy until its own checks have failed.
            state, detail = TrafficState.DRAINING, f"{detail}; configuration loaded {view.loaded_for:.0f} s ago"
        return Reading(state, view.in_flight.get(dial), view.generation, detail=f"{dial} {detail}")

    def _dial(self, view: View, server: Server) -> str:
        dials = caddy_config.matching(view.proxies, server)
        if len(dials) == 1:
            return dials[0]
        how = f"{', '.join(dials)} all match" if dials else "none matches"
        dynamic = "; dynamic upstreams cannot be steered" if any(one.dynamic for one in view.proxies) else ""
        raise InvalidRequest(
            f"cannot tell which upstream of Caddy at {self._admin.address} is instance {server.instance}: {how} name "
            f"{server.name!r} or address {server.address or '(none)'}:{server.port}; "
            f"list it once by that address as upstream{dynamic}",
            code="SERVER_NOT_MATCHED",
        )

    def _of_caddy(self, view: View) -> Iterator[Problem]:
        if view.version is not None and view.version < OLDEST:
            yield Problem(
                f"cannot trust the request counts of Caddy {'.'.join(map(str, view.version))} at "
                f"{self._admin.address}: upgrade to {'.'.join(map(str, OLDEST))} or later"
            )

    def _of_servers(self, view: View, servers: Sequence[Server]) -> Iterator[Problem]:
        matched: dict[str, str] = {}
        for server in servers:
            try:
                dial = self._dial(view, server)
            except InvalidRequest as err:
                yield Problem(err.message, instance=server.instance)
                continue
            if (other := matched.setdefault(dial, server.instance)) != server.instance:
                yield Problem(
                    f"cannot tell instances {other} and {server.instance} apart: both are upstream {dial}",
                    instance=server.instance,
                )
            yield from self._of_upstream(view, dial, server)

    def _of_upstream(self, view: View, dial: str, server: Server) -> Iterator[Problem]:
        where = f"upstream {dial} of Caddy at {self._admin.address}"
        sending = [proxy for proxy in view.proxies if dial in proxy.dials]
        if any(proxy.dials.count(dial) > 1 for proxy in sending):
            yield Problem(f"cannot steer {where}: one proxy lists it twice; list it once", instance=server.instance)
        needed = caddy_config.needed(view.proxies, dial, self._gate)
        if needed is None:
            yield Problem(
                f"cannot steer {where}: its active health check does not ask the gate; in each reverse_proxy that "
                f"lists it write `health_port {self._gate.port}` and `health_uri {self._gate.path}`",
                instance=server.instance,
            )
        elif needed.closed_for > SLOW:
            yield Problem(
                f"blocking traffic to {where} takes {needed.closed_for:g} s by its health checks alone; write "
                "`health_interval 1s`, `health_timeout 1s` and `health_fails 2`",
                fatal=False,
                instance=server.instance,
            )
        if not all(proxy.passive for proxy in sending):
            yield Problem(
                f"{where} has no passive health checks, so a crashed server is noticed late; write `fail_duration 5s`",
                fatal=False,
                instance=server.instance,
            )


def connect(settings: Mapping[str, object], gates: Gates) -> Caddy:
    """The driver for these settings; touches nothing yet. Raises InvalidRequest for settings it cannot use."""
    wanted = read_settings("caddy", Settings, settings)
    check_point("caddy", wanted.gate)
    if not 0 < wanted.timeout <= 30:
        raise InvalidRequest(
            f"cannot use load balancer `caddy`: `timeout` is {wanted.timeout:g} s; it must be above 0 and at most 30",
            code="INVALID_LOAD_BALANCER",
        )
    return Caddy(Admin(wanted.admin, wanted.timeout), wanted.gate, gates)
