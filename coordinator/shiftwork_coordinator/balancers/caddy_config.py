"""What matters here in Caddy's running configuration: proxies, their upstreams and their active health checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_coordinator.balancers.gate import Checks, GatePoint, checks
from shiftwork_coordinator.ports import Server

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d)")


class Active(msgspec.Struct, frozen=True):
    """An active health check with Caddy's defaults filled in; `host` and `port` are set where they differ from
    the upstream's own."""

    path: str
    host: str
    port: int
    interval: float
    timeout: float
    fails: int
    passes: int

    def asks(self, point: GatePoint) -> bool:
        return self.port == point.port and self.path == point.path and not self.host


class Proxy(msgspec.Struct, frozen=True):
    """One `reverse_proxy` handler."""

    dials: tuple[str, ...]
    active: Active | None
    passive: bool
    dynamic: bool


def proxies(config: object) -> list[Proxy]:
    """Every `reverse_proxy` handler of the configuration, however deep its route."""
    return [_proxy(handler) for handler in _handlers(config)]


def matching(found: Sequence[Proxy], server: Server) -> list[str]:
    """Upstream addresses that are this server: by its name as address or host, else by address and port."""
    dials = list(dict.fromkeys(dial for proxy in found for dial in proxy.dials))
    named = [dial for dial in dials if server.name and server.name in (dial, _host(dial))]
    if named or not server.address:
        return named
    host = f"[{server.address}]" if ":" in server.address else server.address
    if not server.port:
        return [dial for dial in dials if _host(dial) == server.address]
    return [dial for dial in dials if dial == f"{host}:{server.port}"]


def needed(found: Sequence[Proxy], dial: str, point: GatePoint) -> Checks | None:
    """What proves a gate's effect on an upstream; None when a proxy sends to it without asking that gate.

    Each proxy checks on its own but from the same address, so their counts add up and the slowest gives the time.
    """
    actives = [proxy.active for proxy in found if dial in proxy.dials]
    asking = [active for active in actives if active is not None and active.asks(point)]
    if not asking or len(asking) != len(actives):
        return None
    each = [checks(one.fails, one.passes, one.interval, one.timeout) for one in asking]
    return Checks(
        refused=sum(one.refused for one in each),
        passed=sum(one.passed for one in each),
        closed_for=max(one.closed_for for one in each),
        open_for=max(one.open_for for one in each),
    )


def seconds(duration: object, default: float) -> float:
    """A Caddy duration: nanoseconds as a number, or Go's notation with days ("1m30s", "2d")."""
    if isinstance(duration, int | float) and duration:
        return duration / 1e9
    if isinstance(duration, str) and (pieces := _PIECE.findall(duration)):
        return sum(float(number) * _UNITS[unit] for number, unit in pieces)
    return default


def _handlers(node: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if node.get("handler") == "reverse_proxy":
            yield node
        children: Iterator[object] = iter(node.values())
    elif isinstance(node, list):
        children = iter(node)
    else:
        return
    for child in children:
        yield from _handlers(child)


def _proxy(handler: Mapping[str, Any]) -> Proxy:
    health = handler.get("health_checks") or {}
    return Proxy(
        dials=tuple(str(one.get("dial", "")) for one in handler.get("upstreams") or ()),
        active=_active(health.get("active") or {}),
        passive=bool((health.get("passive") or {}).get("fail_duration")),
        dynamic="dynamic_upstreams" in handler,
    )


def _active(given: Mapping[str, Any]) -> Active | None:
    """None when Caddy would make no active checks."""
    path = str(given.get("uri") or given.get("path") or "")
    if not path and not given.get("port"):
        return None
    other, _, port = str(given.get("upstream") or "").rpartition(":")
    return Active(
        path=path.partition("?")[0] or "/",
        host=other,
        port=int(given.get("port") or (port if port.isdecimal() else 0)),
        interval=seconds(given.get("interval"), 30.0),
        timeout=seconds(given.get("timeout"), 5.0),
        fails=int(given.get("fails") or 1),
        passes=int(given.get("passes") or 1),
    )


def _host(dial: str) -> str:
    return dial.rpartition(":")[0].strip("[]")
