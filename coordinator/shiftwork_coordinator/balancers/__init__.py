"""Load balancer drivers: the built-in table, and others under the entry point `shiftwork.load_balancers`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.balancers import caddy, elb, elbv2, gate, haproxy, none
from shiftwork_coordinator.balancers.gate import GatePoint
from shiftwork_coordinator.balancers.settings import read_settings
from shiftwork_coordinator.ports import Gates, LoadBalancer, LoadBalancerFactory

ENTRY_POINT = "shiftwork.load_balancers"
BUILT_IN: Mapping[str, LoadBalancerFactory] = {
    "haproxy": haproxy.connect,
    "caddy": caddy.connect,
    "gate": gate.connect,
    "elbv2": elbv2.connect,
    "elb": elb.connect,
    "none": none.connect,
}


class _WithGate(msgspec.Struct):
    gate: GatePoint = GatePoint()


def connect(kind: str, settings: Mapping[str, object], gates: Gates) -> LoadBalancer:
    """The driver `kind` for these settings; nothing is touched or asked yet.

    Raises InvalidRequest for a kind that is neither built in nor installed, and for settings it cannot use.
    """
    return _factory(kind)(settings, gates)


def placed(kind: str, settings: Mapping[str, object], region: str, role_arn: str) -> Mapping[str, object]:
    """The settings, with the group's region and role for a balancer of AWS that names none of its own."""
    if kind not in ("elbv2", "elb"):
        return settings
    given = {"region": region, "role_arn": role_arn}
    return {**{key: value for key, value in given.items() if value}, **settings}


def gate_point(kind: str, settings: Mapping[str, object]) -> GatePoint | None:
    """Where this balancer wants the agents' gates to listen; None when it is steered without them."""
    if kind not in ("gate", "caddy") and "gate" not in settings:
        return None
    return read_settings(kind, _WithGate, settings).gate


def _factory(kind: str) -> LoadBalancerFactory:
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    installed = _installed()
    if kind not in installed:
        names = ", ".join(sorted([*BUILT_IN, *installed]))
        raise InvalidRequest(
            f"cannot find load balancer driver {kind!r}; known are {names}; others are installed as Python packages "
            f"with the entry point {ENTRY_POINT}",
            code="INVALID_LOAD_BALANCER",
        )
    try:
        return cast(LoadBalancerFactory, installed[kind].load())
    except (ImportError, AttributeError) as err:
        raise InvalidRequest(
            f"cannot load load balancer driver {kind!r} from {installed[kind].value}: {err}; reinstall its package",
            code="INVALID_LOAD_BALANCER",
        ) from err


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT)}
