"""The gate: what its counts prove, and that moving it never begins a count anew without need."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import GateState
from shiftwork_coordinator.balancers import BUILT_IN, GatePoint, connect, gate_point
from shiftwork_coordinator.balancers.gate import checks, judged
from shiftwork_coordinator.ports import Server, TrafficState
from shiftwork_coordinator.testing import MemoryGates

SETTINGS: dict[str, object] = {"fails": 2, "passes": 2, "interval": 1.0, "timeout": 1.0}
SERVERS = [Server("s1", "s1"), Server("s2", "s2")]


@pytest.mark.parametrize(
    ("gate", "state"),
    [
        (None, TrafficState.UNKNOWN),
        (GateState(open=False, since=9, refused=9, checkers=1, problem="port in use"), TrafficState.UNKNOWN),
        (GateState(open=False, since=9, refused=0, checkers=0), TrafficState.DRAINING),
        (GateState(open=False, since=9, refused=1, checkers=1), TrafficState.DRAINING),
        (GateState(open=False, since=2.9, refused=2, checkers=1), TrafficState.DRAINING),
        (GateState(open=False, since=3.0, refused=2, checkers=1), TrafficState.ABSENT),
        (GateState(open=True, since=9, passed=0, checkers=0), TrafficState.STARTING),
        (GateState(open=True, since=9, passed=1, checkers=1), TrafficState.STARTING),
        (GateState(open=True, since=2.9, passed=2, checkers=1), TrafficState.STARTING),
        (GateState(open=True, since=3.0, passed=2, checkers=1), TrafficState.HEALTHY),
        (GateState(open=True, since=9.1, passed=0, checkers=1), TrafficState.UNHEALTHY),
    ],
)
def test_what_a_gate_proves(gate: GateState | None, state: TrafficState) -> None:
    assert judged(gate, checks(fails=2, passes=2, interval=1.0, timeout=1.0))[0] is state


def test_every_checker_must_have_been_refused() -> None:
    needed = checks(fails=2, passes=2, interval=1.0, timeout=1.0, checkers=2)
    assert judged(GateState(open=False, since=9, refused=9, checkers=1), needed)[0] is TrafficState.DRAINING
    assert judged(GateState(open=False, since=9, refused=2, checkers=2), needed)[0] is TrafficState.ABSENT


async def test_out_and_in_by_the_gate_alone() -> None:
    now = 0.0
    gates = MemoryGates(["s1", "s2"], monotonic=lambda: now)
    driver = connect("gate", SETTINGS, gates)

    async def state() -> TrafficState:
        found = await driver.states(SERVERS)
        assert found["s1"].in_flight is None
        return found["s1"].state

    for _ in range(3):
        gates.answer("s1", "lb1")
    now = 10.0
    assert await state() is TrafficState.HEALTHY
    await driver.deregister(SERVERS[:1])
    assert await state() is TrafficState.DRAINING
    gates.answer("s1", "lb1"), gates.answer("s1", "lb1")
    now = 13.0
    assert await state() is TrafficState.ABSENT
    gates.answer("s1", "lb2")
    assert await state() is TrafficState.DRAINING
    await driver.register(SERVERS[:1])
    assert await state() is TrafficState.STARTING


async def test_a_gate_that_stands_as_wanted_is_left_alone() -> None:
    gates = MemoryGates(["s1", "s2"])
    driver = connect("gate", SETTINGS, gates)
    await driver.register(SERVERS)
    assert gates.calls == []
    await driver.deregister(SERVERS)
    await driver.deregister(SERVERS)
    assert gates.calls == [("s1", False), ("s2", False)]
    gates.silent.add("s1")
    await driver.deregister(SERVERS)
    assert gates.calls == [("s1", False), ("s2", False), ("s1", False)]


async def test_an_agent_that_is_away_does_not_keep_the_others() -> None:
    gates = MemoryGates(["s1", "s2"], disconnected={"s1"})
    driver = connect("gate", SETTINGS, gates)
    with pytest.raises(Unavailable, match="s1"):
        await driver.deregister(SERVERS)
    assert gates.calls == [("s2", False)]


async def test_a_gate_that_cannot_listen_is_a_problem() -> None:
    driver = connect("gate", SETTINGS, MemoryGates(["s1", "s2"], problems={"s2": "port 7071 is taken"}))
    assert [problem.instance for problem in await driver.check(SERVERS)] == ["s2"]


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("gate", {**SETTINGS, "fails": 0}, "`fails` is 0"),
        ("gate", {"fails": 2}, "passes"),
        ("gate", {**SETTINGS, "interval": "1s"}, "interval"),
        ("none", {}, "leave `load_balancers` out"),
        ("haproxie", {}, "known are caddy, elb, elbv2, gate, haproxy, none"),
        ("haproxy", {"backend": "web"}, "`endpoint` is missing"),
        ("haproxy", {"endpoint": "unix:///s"}, "`backend` is missing"),
        ("haproxy", {"endpoint": "unix:///s", "endpoints": ["unix:///t"], "backend": "b"}, "both given"),
        ("haproxy", {"endpoint": "unix:///s", "backends": ["b", "b"]}, "one value twice"),
        ("haproxy", {"endpoint": "unix:///s", "backend": "b", "masters": ["unix:///m", "unix:///n"]}, "2 `masters`"),
        ("haproxy", {"endpoint": "unix:///s", "backend": "b", "server": "{host}"}, "{host}"),
        ("haproxy", {"endpoint": "unix:///s", "backend": "b", "timeout": 60}, "timeout"),
        ("haproxy", {"endpoint": "unix:///s", "backend": "b", "colour": "red"}, "colour"),
    ],
)
def test_settings_that_are_refused(kind: str, settings: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        connect(kind, settings, MemoryGates())
    assert caught.value.code == "INVALID_LOAD_BALANCER"


def test_where_the_gates_must_listen() -> None:
    assert gate_point("haproxy", {"endpoint": "unix:///s"}) is None
    assert gate_point("caddy", {}) == GatePoint(7071, "/ready")
    assert gate_point("gate", {**SETTINGS, "gate": {"port": 8099, "path": "/up"}}) == GatePoint(8099, "/up")


def test_built_in_drivers_connect_without_touching_anything() -> None:
    assert set(BUILT_IN) == {"haproxy", "caddy", "elb", "elbv2", "gate", "none"}
    assert connect("caddy", {}, MemoryGates()).name == "caddy http://127.0.0.1:2019"
    driver = connect("haproxy", {"endpoints": ["tcp://127.0.0.1:1", "unix:///s"], "backend": "web"}, MemoryGates())
    assert driver.name == "haproxy tcp://127.0.0.1:1, unix:///s"


def test_a_driver_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "other-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[shiftwork.load_balancers]\nother = other_balancer:connect\nbroken = no_such_module:connect\n"
    )
    (tmp_path / "other_balancer.py").write_text(
        "from shiftwork_coordinator.testing import MemoryBalancer\n\n"
        "def connect(settings, gates):\n    return MemoryBalancer(settings['instances'], name='other')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert connect("other", {"instances": ["s1"]}, MemoryGates()).name == "other"
    with pytest.raises(InvalidRequest, match="no_such_module"):
        connect("broken", {}, MemoryGates())
    with pytest.raises(InvalidRequest, match="broken, caddy, elb, elbv2, gate, haproxy, none, other"):
        connect("unheard", {}, MemoryGates())
