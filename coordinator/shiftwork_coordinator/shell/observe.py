"""Observers: ask the balancers, keep the last two answers of each with the times of asking and answering."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.model.snapshot import TimedReading, TrafficSeen
from shiftwork_coordinator.ports import Clock, LoadBalancer, Reading, Server, TrafficState

QUICK, EASY = 0.1, 1.0
"""Seconds between two questions to a balancer while a target is on its way out or in, and otherwise."""
CALL_LIMIT = 5.0
"""Seconds after which a driver's call is given up."""


class Balancer(msgspec.Struct, frozen=True):
    """A driver with a name that is its own within the group."""

    name: str
    driver: LoadBalancer


class TrafficObserver:
    """Keeps `seen` current for all servers of one deployment. `changed` is called when something looks different."""

    def __init__(
        self,
        balancers: Sequence[Balancer],
        servers: Sequence[Server],
        clock: Clock,
        hurried: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._balancers, self._servers, self._clock = balancers, servers, clock
        self._hurried, self._changed = hurried, changed
        self._by_name: dict[str, dict[str, TrafficSeen]] = {}
        self.seen: Mapping[str, tuple[TrafficSeen, ...]] = {}
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Ask again at once: something was just done whose effect is awaited."""
        self._hurry.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for balancer in self._balancers:
                group.create_task(self._poll(balancer))

    async def _poll(self, balancer: Balancer) -> None:
        while True:
            self._hurry.clear()
            await self.ask(balancer)
            try:
                async with asyncio.timeout(QUICK if self._hurried() else EASY):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def ask(self, balancer: Balancer) -> None:
        asked_at = self._clock.now()
        try:
            async with asyncio.timeout(CALL_LIMIT):
                readings = dict(await balancer.driver.states(self._servers))
        except TimeoutError:
            readings = self._unknown(f"{balancer.name} did not answer within {CALL_LIMIT:g} s")
        except ShiftworkError as err:
            readings = self._unknown(err.message)
        except Exception as err:  # noqa: BLE001  the edge of a driver call: a driver's bug is one balancer's trouble
            readings = self._unknown(f"{balancer.name}: {type(err).__name__}: {err}")
        self._keep(balancer.name, readings, asked_at, self._clock.now())

    def _unknown(self, why: str) -> dict[str, Reading]:
        return {server.instance: Reading(TrafficState.UNKNOWN, detail=why) for server in self._servers}

    def _keep(self, name: str, readings: Mapping[str, Reading], asked_at: float, answered_at: float) -> None:
        earlier = self._by_name.get(name, {})
        now = {
            instance: TrafficSeen(
                name, _timed(reading, asked_at, answered_at), earlier[instance].last if instance in earlier else None
            )
            for instance, reading in readings.items()
        }
        self._by_name[name] = now
        instances = {i for seen in self._by_name.values() for i in seen}
        self.seen = {i: tuple(seen[i] for seen in self._by_name.values() if i in seen) for i in instances}
        if self._hurried() or any(_differs(now[i], earlier.get(i)) for i in now):
            self._changed()


def _timed(reading: Reading, asked_at: float, answered_at: float) -> TimedReading:
    return TimedReading(
        state=str(reading.state),
        in_flight=reading.in_flight,
        generation=reading.generation,
        out_by=reading.out_by,
        detail=reading.detail,
        asked_at=asked_at,
        answered_at=answered_at,
    )


def _differs(now: TrafficSeen, earlier: TrafficSeen | None) -> bool:
    return earlier is None or (now.last.state, now.last.generation) != (earlier.last.state, earlier.last.generation)
