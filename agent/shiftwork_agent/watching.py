"""Watches: what the coordinator wants to know about a group while it deploys to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shiftwork_agent import health, quiet, readings
from shiftwork_agent.gate import Gates
from shiftwork_contract.messages import HealthCheck, Observed, Probe, Quiet, QuietCheck, Watch


@dataclass
class Watched:
    """What was read last, each with the highest `asked` that had been handled when the reading began.

    `unsent` while nobody was told of the look in `quiet`: each is sent once, so that two that arrive are two looks.
    """

    watch: Watch
    task: asyncio.Task[None] | None = None
    probe: Probe | None = None
    probe_asked: int = 0
    quiet: Quiet | None = None
    quiet_asked: int = 0
    unsent: bool = False
    told: tuple[object, ...] = ()


class Watches:
    """Runs checks for watched groups only; nothing is periodic otherwise. `disk` is where room may be asked for."""

    def __init__(
        self, gates: Gates, send: Callable[[Observed], None], tasks: asyncio.TaskGroup, address: str, disk: Path
    ) -> None:
        self._gates, self._send, self._tasks, self._address, self._disk = gates, send, tasks, address, disk
        self._asked: dict[str, int] = {}
        self._watched: dict[str, Watched] = {}

    def set(self, watch: Watch) -> None:
        """Replaces the group's watch; the same one again changes nothing."""
        old = self._watched.get(watch.group_id)
        if old is not None and old.watch == watch:
            old.told = ()
            return
        self.asked(watch.group_id, watch.asked)
        self.drop(watch.group_id)
        watched = Watched(watch)
        self._watched[watch.group_id] = watched
        watched.task = self._tasks.create_task(self._run(watched), name=f"watch {watch.group_id}")

    def watches(self, group_id: str) -> bool:
        return group_id in self._watched

    def drop(self, group_id: str) -> None:
        watched = self._watched.pop(group_id, None)
        if watched is not None and watched.task is not None:
            watched.task.cancel()

    def asked(self, group_id: str, asked: int) -> None:
        """Notes that the agent has handled this much; readings from here on say so."""
        self._asked[group_id] = max(asked, self._asked.get(group_id, 0))
        self.tell(group_id)

    def tell(self, group_id: str) -> None:
        """Sends what is known of the group if it differs from what was sent last."""
        watched = self._watched.get(group_id)
        if watched is not None:
            self._tell(watched)

    async def _run(self, watched: Watched) -> None:
        async with asyncio.TaskGroup() as tasks:
            if watched.watch.health is not None:
                tasks.create_task(self._probe(watched, watched.watch.health))
            if watched.watch.quiet is not None:
                tasks.create_task(self._look(watched, watched.watch.quiet))
            tasks.create_task(self._repeat(watched))

    async def _probe(self, watched: Watched, check: HealthCheck) -> None:
        thresholds = health.Thresholds(check)
        while True:
            asked = self._asked[watched.watch.group_id]
            answer = readings.within_limits(check, await health.probe(check), self._disk)
            watched.probe, watched.probe_asked = thresholds.after(answer), asked
            self._tell(watched)
            await asyncio.sleep(max(0.05, check.interval))

    async def _look(self, watched: Watched, check: QuietCheck) -> None:
        while True:
            asked = self._asked[watched.watch.group_id]
            watched.quiet, watched.quiet_asked = await quiet.look(check, self._address), asked
            watched.unsent = True
            self._tell(watched)
            await asyncio.sleep(max(0.1, check.window / 4))

    async def _repeat(self, watched: Watched) -> None:
        while True:
            watched.told = ()
            self._tell(watched)
            await asyncio.sleep(max(0.1, watched.watch.every))

    def _tell(self, watched: Watched) -> None:
        """Only once every reading that was asked for is there; `asked` is the oldest one's."""
        watch = watched.watch
        waiting = (watch.health and not watched.probe) or (watch.quiet and not watched.quiet)
        if waiting:
            return
        asked = [self._asked[watch.group_id]]
        asked += [watched.probe_asked] if watch.health else []
        asked += [watched.quiet_asked] if watch.quiet else []
        gate = self._gates.state(watch.group_id)
        unchanging = gate and (gate.open, gate.refused, gate.passed, gate.checkers, gate.problem)
        news = (min(asked), watched.probe, unchanging)
        if watched.unsent or news != watched.told:
            look = watched.quiet if watched.unsent else None
            watched.told, watched.unsent = news, False
            self._send(Observed(watch.group_id, min(asked), watched.probe, look, gate))
