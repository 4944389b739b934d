"""Observers of balancers: how often they ask, and what they keep."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.ports import Pace, Reading, Server, TrafficState
from shiftwork_coordinator.shell import observe
from shiftwork_coordinator.shell.observe import Balancer, TrafficObserver

SERVER = Server("web-1", "web-1")
S = TrafficState


class Scripted:
    """Answers these, one after the other; the last one again and again."""

    name = "lb"

    def __init__(self, *readings: Reading, pace: Pace | None = None) -> None:
        self.readings, self.asked = list(readings), 0
        if pace is not None:
            self.pace = pace

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        self.asked += 1
        return {SERVER.instance: self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]}


def observer(driver: Any, hurried: bool = True) -> TrafficObserver:
    return TrafficObserver([Balancer("lb", driver)], {"a": SERVER}, SystemClock(), lambda: hurried, lambda: None)


async def pauses(driver: Scripted, monkeypatch: pytest.MonkeyPatch, count: int, hurried: bool = True) -> list[float]:
    """How long it would have slept after each question; nobody sleeps."""
    slept: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> Any:
        if seconds != observe.CALL_LIMIT:
            slept.append(seconds)
            if len(slept) == count:
                raise asyncio.CancelledError
            return real(0)
        return real(seconds)

    monkeypatch.setattr(observe.asyncio, "timeout", timeout)
    with pytest.raises(asyncio.CancelledError):
        await observer(driver, hurried)._poll(Balancer("lb", driver))  # type: ignore[arg-type]
    return slept


async def test_a_driver_may_have_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Reading(S.HEALTHY)
    with monkeypatch.context() as patch:
        assert await pauses(Scripted(told), patch, 2) == [0.1, 0.1]
    with monkeypatch.context() as patch:
        assert await pauses(Scripted(told, pace=Pace(1.0, 4.0)), patch, 2) == [1.0, 1.0]
    with monkeypatch.context() as patch:
        assert await pauses(Scripted(told, pace=Pace(1.0, 4.0)), patch, 1, hurried=False) == [4.0]


async def test_one_that_can_tell_nothing_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing, told = Reading(S.UNKNOWN, detail="throttled"), Reading(S.HEALTHY)
    driver = Scripted(*[nothing] * 4, told, pace=Pace(1.0, 4.0))
    assert await pauses(driver, monkeypatch, 5) == [2.0, 4.0, 4.0, 4.0, 1.0]


async def test_what_cannot_be_told_takes_no_less_time_than_what_was_told() -> None:
    watching = observer(
        Scripted(Reading(S.DRAINING, lasts=300), Reading(S.UNKNOWN), Reading(S.UNKNOWN), Reading(S.ABSENT))
    )
    for lasts in (300, 300, 300, 0):
        await watching.ask(Balancer("lb", watching._balancers[0].driver))
        assert watching.seen["web-1"][0].last.lasts == lasts
