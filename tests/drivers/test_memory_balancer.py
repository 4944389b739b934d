"""The twins' faults on demand, and that a missing balancer fails the checks of this project instead of passing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.ports import Server, TrafficState
from shiftwork_coordinator.testing import MemoryBalancer

SERVERS = [Server("s1", "s1"), Server("s2", "s2")]


async def state(balancer: MemoryBalancer, instance: str = "s1") -> TrafficState:
    return (await balancer.states(SERVERS))[instance].state


async def test_unknown_on_demand() -> None:
    balancer = MemoryBalancer(["s1", "s2"], unknown={"s1"})
    assert await state(balancer) is TrafficState.UNKNOWN
    assert await state(balancer, "s2") is TrafficState.HEALTHY
    balancer.unreachable = True
    assert await state(balancer, "s2") is TrafficState.UNKNOWN
    with pytest.raises(Unavailable):
        await balancer.register(SERVERS)


async def test_lying_healthy_gets_no_request_all_the_same() -> None:
    balancer = MemoryBalancer(["s1", "s2"], lying_healthy={"s1"})
    await balancer.deregister(SERVERS[:1])
    assert await state(balancer) is TrafficState.HEALTHY
    assert {balancer.begin() for _ in range(4)} == {"s2"}


async def test_a_slow_drain_still_gets_requests() -> None:
    balancer = MemoryBalancer(["s1", "s2"], slow_drain=2)
    await balancer.deregister(SERVERS[:1])
    assert {balancer.begin() for _ in range(4)} == {"s1", "s2"}
    assert [await state(balancer) for _ in range(2)] == [TrafficState.DRAINING, TrafficState.ABSENT]
    assert {balancer.begin() for _ in range(4)} == {"s2"}


async def test_refusing_changes_nothing() -> None:
    balancer = MemoryBalancer(["s1", "s2"], refuses="Permission denied")
    with pytest.raises(InvalidRequest, match="Permission denied"):
        await balancer.deregister(SERVERS)
    assert await state(balancer) is TrafficState.HEALTHY
    assert balancer.calls == []


async def test_a_reload_forgets_under_a_new_generation() -> None:
    balancer = MemoryBalancer(["s1", "s2"])
    await balancer.deregister(SERVERS)
    before = (await balancer.states(SERVERS))["s1"]
    balancer.forget()
    after = (await balancer.states(SERVERS))["s1"]
    assert (before.state, after.state) == (TrafficState.ABSENT, TrafficState.STARTING)
    assert before.generation != after.generation


async def test_nobody_in_means_no_request_is_served() -> None:
    balancer = MemoryBalancer(["s1"])
    await balancer.deregister(SERVERS[:1])
    with pytest.raises(Unavailable):
        balancer.begin()


@pytest.mark.parametrize("variable", ["CI", "SHIFTWORK_REQUIRE_DOCKER"])
def test_a_missing_balancer_fails_where_it_must_be_there(
    require: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("CI", "SHIFTWORK_REQUIRE_DOCKER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install it"):
        require("no-such-balancer", "apt install it")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(pytest.fail.Exception, match="apt install it"):
        require("no-such-balancer", "apt install it")
