"""Observers: ask the balancers, keep the last two answers of each with the times of asking and answering."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.model.snapshot import TimedReading, TrafficSeen
from shiftwork_coordinator.ports import Clock, LoadBalancer, Pace, Reading, Server, TrafficState

CALL_LIMIT = 5.0
"""Seconds after which a driver's call is given up."""


class Balancer(msgspec.Struct, frozen=True):
    """A driver with a name that is its own within the group."""

    name: str
    driver: LoadBalancer


class TrafficObserver:
    """Keeps `seen` current for all servers of one deployment, of which more may come to be. `changed` is called when
    something looks different."""

    def __init__(
        self,
        balancers: Sequence[Balancer],
        servers: Mapping[str, Server],
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
        """At the driver's pace; one that can tell nothing is asked less and less often."""
        pace = getattr(balancer.driver, "pace", Pace())
        pause = pace.quick
        while True:
            self._hurry.clear()
            told = await self.ask(balancer)
            wanted = pace.quick if self._hurried() else pace.easy
            pause = wanted if told else max(wanted, min(2 * pause, pace.easy))
            try:
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def ask(self, balancer: Balancer) -> bool:
        """Whether it could tell anything."""
        asked_at = self._clock.now()
        try:
            async with asyncio.timeout(CALL_LIMIT):
                readings = dict(await balancer.driver.states(list(self._servers.values())))
        except TimeoutError:
            readings = self._unknown(f"{balancer.name} did not answer within {CALL_LIMIT:g} s")
        except ShiftworkError as err:
            readings = self._unknown(err.message)
        except Exception as err:  # noqa: BLE001  the edge of a driver call: a driver's bug is one balancer's trouble
            readings = self._unknown(f"{balancer.name}: {type(err).__name__}: {err}")
        self._keep(balancer.name, readings, asked_at, self._clock.now())
        return any(reading.state is not TrafficState.UNKNOWN for reading in readings.values())

    def _unknown(self, why: str) -> dict[str, Reading]:
        return {server.instance: Reading(TrafficState.UNKNOWN, detail=why) for server in self._servers.values()}

    def _keep(self, name: str, readings: Mapping[str, Reading], asked_at: float, answered_at: float) -> None:
        earlier = self._by_name.get(name, {})
        now = {
            instance: TrafficSeen(name, _timed(reading, before, asked_at, answered_at), before)
            for instance, reading in readings.items()
            for before in [earlier[instance].last if instance in earlier else None]
        }
        self._by_name[name] = now
        instances = {i for seen in self._by_name.values() for i in seen}
        self.seen = {i: tuple(seen[i] for seen in self._by_name.values() if i in seen) for i in instances}
        if self._hurried() or any(_differs(now[i], earlier.get(i)) for i in now):
            self._changed()


def _timed(reading: Reading, before: TimedReading | None, asked_at: float, answered_at: float) -> TimedReading:
    """What cannot be told now takes no less time than what was told before."""
    untold = reading.state is TrafficState.UNKNOWN
    return TimedReading(
        state=str(reading.state),
        in_flight=reading.in_flight,
        generation=reading.generation,
        out_by=reading.out_by,
        detail=reading.detail,
        asked_at=asked_at,
        answered_at=answered_at,
        lasts=max(reading.lasts, before.lasts) if untold and before else reading.lasts,
    )


def _differs(now: TrafficSeen, earlier: TrafficSeen | None) -> bool:
    return earlier is None or (now.last.state, now.last.generation) != (earlier.last.state, earlier.last.generation)
