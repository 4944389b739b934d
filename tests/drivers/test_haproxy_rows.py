"""How HAProxy's words become states: the table that everything above stands on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shiftwork_coordinator.balancers.agreement import together
from shiftwork_coordinator.balancers.haproxy_rows import Row, View, reading
from shiftwork_coordinator.ports import Reading, TrafficState

UP = Row(
    backend="web",
    name="s1",
    address="10.0.0.1",
    port=80,
    admin=0,
    weight=1,
    checked=True,
    status="UP",
    check_status="L7OK",
    fall=3,
    agent="",
    tracks="",
    throttle="",
    busy=2,
)
VIEW = View("7", "100", 1, (UP,), {"web/s1": UP}, {"web/s1": 3})
ABSENT, STARTING, HEALTHY = TrafficState.ABSENT, TrafficState.STARTING, TrafficState.HEALTHY
UNHEALTHY, DRAINING, UNKNOWN = TrafficState.UNHEALTHY, TrafficState.DRAINING, TrafficState.UNKNOWN


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ({}, HEALTHY),
        ({"check_status": "* L4OK"}, HEALTHY),
        ({"check_status": "INI"}, STARTING),
        ({"check_status": ""}, STARTING),
        ({"status": "UP 1/3"}, STARTING),
        ({"status": "UP 1/3", "check_status": "L7STS"}, STARTING),
        ({"status": "UP 2/3", "check_status": "L7STS"}, HEALTHY),
        ({"status": "DOWN", "check_status": "L4CON"}, UNHEALTHY),
        ({"status": "DOWN", "check_status": "L7OK"}, STARTING),
        ({"status": "DOWN", "check_status": "* INI"}, STARTING),
        ({"status": "DOWN 1/2", "check_status": "L7OK"}, STARTING),
        ({"status": "DOWN (agent)", "check_status": "L7STS"}, UNHEALTHY),
        ({"status": "NOLB"}, DRAINING),
        ({"status": "DRAIN", "admin": 8}, DRAINING),
        ({"status": "DOWN", "admin": 8}, DRAINING),
        ({"weight": 0}, DRAINING),
        ({"status": "MAINT", "check_status": "", "admin": 1}, ABSENT),
        ({"status": "MAINT (via web/s2)", "admin": 2}, ABSENT),
        ({"status": "UP", "admin": 4}, HEALTHY),
        ({"status": "no check", "checked": False, "check_status": ""}, HEALTHY),
        ({"status": "UP", "checked": False, "check_status": "", "tracks": "web/s2"}, HEALTHY),
        ({"status": "DOWN", "checked": False, "check_status": "", "tracks": "web/s2"}, UNHEALTHY),
        ({"status": "SIDEWAYS"}, UNKNOWN),
    ],
)
def test_states(shown: dict[str, Any], state: TrafficState) -> None:
    found = reading(VIEW, msgspec.structs.replace(UP, **shown))
    assert found.state is state
    assert (found.in_flight, found.generation) == (5, "7@100")


@pytest.mark.parametrize(
    ("admin", "out_by"), [(1, ""), (5, "configuration"), (4 | 2, "configuration"), (32, "name resolution"), (4, "")]
)
def test_who_took_it_out(admin: int, out_by: str) -> None:
    assert reading(VIEW, msgspec.structs.replace(UP, admin=admin)).out_by == out_by


@pytest.mark.parametrize(
    ("states", "agreed"),
    [
        ([ABSENT, ABSENT], ABSENT),
        ([ABSENT, HEALTHY], DRAINING),
        ([ABSENT, UNKNOWN], UNKNOWN),
        ([HEALTHY, HEALTHY], HEALTHY),
        ([HEALTHY, STARTING], STARTING),
        ([HEALTHY, UNHEALTHY, STARTING], UNHEALTHY),
        ([HEALTHY, DRAINING], DRAINING),
        ([HEALTHY, UNKNOWN], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_parts_must_agree(states: list[TrafficState], agreed: TrafficState) -> None:
    assert together([Reading(state, 1, "g") for state in states]).state is agreed


def test_counts_add_up_and_one_that_cannot_count_leaves_it_open() -> None:
    both = together([Reading(ABSENT, 1, "a", detail="x"), Reading(ABSENT, 2, "b", "configuration", "y")])
    assert both == Reading(ABSENT, 3, "a,b", "configuration", "x; y")
    assert together([Reading(ABSENT, 1), Reading(UNKNOWN)]).in_flight is None
