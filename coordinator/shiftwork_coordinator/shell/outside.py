"""What a deployment that has started has to do with the world outside: observed, and acted on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from shiftwork_coordinator import alarms, fleets, shifters
from shiftwork_coordinator.engine.actions import Action
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.observe import TrafficObserver
from shiftwork_coordinator.shell.perform import Performer
from shiftwork_coordinator.shell.shifting import Shifting
from shiftwork_coordinator.shell.watch_alarms import AlarmObserver
from shiftwork_coordinator.shell.watch_fleet import FleetObserver

if TYPE_CHECKING:
    from shiftwork_coordinator.shell.run import Run

log = structlog.get_logger()


class Outside:
    """The balancers of a deployment that has started: connected, observed, and acted on."""

    def __init__(self, run: Run, group: asyncio.TaskGroup) -> None:
        home, deployment = run.home, run.image.deployment
        self._group, self._id = group, run.id
        targets = [t for t in run.image.targets.values() if t.role != "fleet"]
        self.at = Balancing(deployment.group_id, deployment.settings, targets, home.agents, home.epoch)
        self.observer = TrafficObserver(self.at.balancers, self.at.servers, home.clock, run.hurried, run.wake)
        self._performer = Performer(run.id, self.at.balancers, self.at.servers, home.clock, home.may_call, run.record)
        watched = deployment.settings.alarms
        self.alarms = AlarmObserver(watched, alarms.connect(watched), run.wake)
        self.shifting = _shifting(run)
        self.fleet = _fleet(run)
        self._observing: list[asyncio.Task[None]] = []
        if self.fleet:
            self._observing.append(group.create_task(self.fleet.run()))
        if self.shifting:
            self._observing.append(group.create_task(self.shifting.run()))
        if self.at.balancers:
            self._observing.append(group.create_task(self.observer.run()))
        if watched.cloudwatch and not deployment.rollback_of:
            self._observing.append(group.create_task(self.alarms.run()))

    def start(self, actions: Sequence[Action]) -> None:
        self._performer.start(actions, self._group)
        if self.shifting:
            self.shifting.start(actions, self._group)

    async def close(self) -> None:
        for task in self._observing:
            task.cancel()
        if self.shifting:
            self.shifting.close()
        try:
            await self.at.close()
            await self.alarms.close()
        except Exception as err:
            log.warning("a load balancer driver did not close", deployment_id=self._id, exc_info=err)


def _fleet(run: Run) -> FleetObserver | None:
    """Where a group's selectors name what EC2 has. Joined instances may be elsewhere, and EC2 not know them."""
    settings = run.image.deployment.settings
    if not any(wanted.in_ec2 for wanted in settings.selectors):
        return None
    only_there = not any(wanted.tags or wanted.names for wanted in settings.selectors)

    def ids() -> dict[str, str]:
        return {name: target.cloud_id for name, target in run.image.targets.items() if target.cloud_id}

    return FleetObserver(fleets.connect(settings.aws), ids, run.id, run.wake, all_there=only_there)


def _shifting(run: Run) -> Shifting | None:
    home, settings = run.home, run.image.deployment.settings
    shifter = shifters.connect(settings)
    if shifter is None:
        return None
    hooks, rows = shifters.hook_functions(settings), lambda: run.image
    return Shifting(shifter, hooks, rows, home.clock, home.may_call, run.record, run.answered, run.wake)
