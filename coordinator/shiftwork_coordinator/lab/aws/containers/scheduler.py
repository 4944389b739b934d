"""Keeps as many tasks as each task set wants: starts, registers, replaces what has ended, drains what is to go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.balancing.health import HEALTHY, UNHEALTHY, Target
from shiftwork_coordinator.lab.aws.containers.running import Start
from shiftwork_coordinator.lab.aws.containers.task import DEACTIVATING, PENDING, RUNNING, STOPPED, Task, TaskSet
from shiftwork_coordinator.lab.ports import free_address
from shiftwork_coordinator.ports import Clock

LOOK_EVERY = 0.25
NET = "127.78"
"""Where tasks have their addresses."""
KEPT = 100
"""Tasks that have stopped, of each task set."""
EXITED = "EssentialContainerExited", "Essential container in task exited"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds: from a task's creation to its start (negative = it never starts), from its end to its successor, and how
    long after its start failing health checks are forgiven, besides the service's own grace period."""

    start_after: float = 0.1
    again_after: float = 0.2
    grace: float = 10.0


class Scheduler:
    """`later` runs what nobody awaits."""

    def __init__(self, start: Start, balancing: Balancing, clock: Clock, later: Callable[[Any], object]) -> None:
        self._start, self._balancing, self._clock, self._later = start, balancing, clock, later
        self.sets: dict[str, TaskSet] = {}
        self.settings = Settings()

    def add(self, one: TaskSet) -> None:
        self.sets[one.arn] = one
        self.adjust(one)

    def adjust(self, one: TaskSet) -> None:
        """As many tasks as are wanted live, or are about to; the youngest go first."""
        alive = [task for task in one.tasks if task.alive]
        for _ in range(one.wanted - len(alive)):
            task = one.new_task(free_address(NET, one.container.port), self._clock.now())
            one.tasks.append(task)
            self._later(self._live(task))
        for task in alive[max(one.wanted, 0) :]:
            self.stop(task, "ServiceSchedulerInitiated", f"Scaling activity initiated by (deployment {one.id})")

    def stop(self, task: Task, code: str, reason: str) -> None:
        """Out of its load balancers first; asked to end when their delay is over."""
        if task.why is None:
            task.why = code, reason
            pending, task.status = task.status == PENDING, DEACTIVATING
            self._later(self._end(task, pending))

    def steady(self, one: TaskSet) -> bool:
        right = one.count(RUNNING) == one.wanted and not one.count(PENDING)
        return right and all(self._states(task) == {HEALTHY} for task in one.tasks if task.status == RUNNING)

    def tasks(self) -> Iterable[Task]:
        return (task for one in self.sets.values() for task in one.tasks)

    async def _live(self, task: Task) -> None:
        """From its creation to its end, of itself or not."""
        if self.settings.start_after < 0:
            return
        await asyncio.sleep(self.settings.start_after)
        if task.status != PENDING:
            return
        try:
            running = await self._start(task.of.container, task.address)
        except OSError as err:
            task.why = "TaskFailedToStart", f"CannotStartContainerError: {err}"
            self._over(task, None)
            return
        if task.status != PENDING:
            running.stop()
            return
        task.running, task.status, task.began = running, RUNNING, self._clock.now()
        for group, port in task.of.groups:
            await self._balancing.add(group, [(task.address, port)])
        code = await task.running.ended()
        self._deregister(task)
        self._over(task, code)

    def _over(self, task: Task, code: int | None) -> None:
        task.status, task.exit_code, task.stopped = STOPPED, code, self._clock.now()
        task.why = task.why or EXITED
        one = task.of
        gone = [task for task in one.tasks if task.status == STOPPED]
        for old in gone[:-KEPT]:
            one.tasks.remove(old)
        if not one.deleted:
            self._later(self._again(one))

    async def _again(self, one: TaskSet) -> None:
        await asyncio.sleep(self.settings.again_after)
        self.adjust(one)

    async def _end(self, task: Task, pending: bool) -> None:
        if pending or task.running is None:
            self._over(task, None)
            return
        self._deregister(task)
        delays = [self._balancing.targets.delay(group) for group, _ in task.of.groups]
        await asyncio.sleep(max(delays, default=0.0))
        task.running.stop()

    def _deregister(self, task: Task) -> None:
        for group, port in task.of.groups:
            self._balancing.targets.deregister(group, [(task.address, port)])

    def _states(self, task: Task) -> set[str]:
        """How its load balancers find it; healthy where it has none."""
        targets = self._balancing.targets
        told = [targets.states(group).get(Target(task.address, port), ("", ""))[0] for group, port in task.of.groups]
        return set(told) or {HEALTHY}

    async def run(self) -> None:
        """Ends tasks that their load balancers find unhealthy, as ECS does, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for task in list(self.tasks()):
                if task.status == RUNNING and UNHEALTHY in self._states(task) and self._grace_is_over(task):
                    groups = ", ".join(group for group, _ in task.of.groups)
                    reason = f"Task failed ELB health checks in (target-group {groups})"
                    self.stop(task, "ServiceSchedulerInitiated", reason)

    def _grace_is_over(self, task: Task) -> bool:
        return self._clock.now() - task.began >= max(self.settings.grace, task.of.grace)
