"""A world in which deployments run: a clock, a network, agents, a balancer, committed rows, operators, a coordinator.

Discrete events: nothing sleeps, the same seed gives the same history.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from msgspec.structs import replace
from simulation.agents import Agent
from simulation.balancer import Balancer
from simulation.coordinator import Coordinator, Rows
from simulation.faults import Faults
from simulation.history import History

from shiftwork_contract.messages import Observed, Report
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Deployment, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings, Health, Instances, Limits, Quiet
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus

NETWORK = 0.01
LIMITS = Limits(
    start_within=20, event=30, offline_for=10, silent_after=8, block_within=8, allow_within=20, healthy_wait=30
)
OLD, NEW = Revision("sha256:" + "0" * 64, "coordinator:"), Revision("sha256:" + "1" * 64, "coordinator:")
HALF = DeploymentConfig("half", MinimumHealthyHosts("FLEET_PERCENT", 50))


class Crash(BaseException):
    """The coordinator's process ends here and now."""


class World:
    """`n` instances web-1…, those in `unhealthy` with a dead application and a failed last deployment."""

    def __init__(
        self,
        n: int = 4,
        *,
        config: DeploymentConfig = HALF,
        traffic: bool = True,
        health: bool = True,
        unhealthy: frozenset[str] = frozenset(),
        faults: Faults | None = None,
        seed: int = 0,
        quiet: Quiet = Quiet(at_most=6, then="fail"),  # noqa: B008  a frozen value
    ) -> None:
        self.now = 1000.0
        self.faults = faults or Faults()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.failpoints = 0
        self.reloaded: dict[str, float] = {}
        self._disturbed: dict[str, float] = {}
        names = [f"web-{i + 1}" for i in range(n)]
        self.agents = {name: Agent(self, name, OLD.identity) for name in names}
        for name in unhealthy:
            self.agents[name].app = ""
        self.balancer = Balancer(names, lambda name: self.agents[name].serves(), random.Random(seed))
        self.traffic = traffic
        settings = GroupSettings(
            Instances(),
            load_balancers=({"sim": {}},) if traffic else (),
            health=Health(tcp=":1") if health else None,
            quiet=quiet,
            limits=LIMITS,
        )
        deployment = Deployment("d-1", 1, "web", "prod", "g", NEW, config, settings, created_at=self.now)
        self.rows = Rows(deployment, {name: Target("d-1", name) for name in names}, OLD)
        self.rows.health = {name: name not in unhealthy for name in names}
        self.rows.installed_everywhere(OLD.identity)
        self.history = History("d-1", NEW.identity, 0.0, config.pace)
        self.coordinator = Coordinator(self, 1)
        for at, happens in self.faults.at:
            self.later(at, lambda happens=happens: happens(self))  # type: ignore[misc]
        for period, act in ((1.0, self._health), (0.5, self._traffic), (0.5, self._link)):
            self._every(period, act)

    # Time

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def _every(self, period: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self.later(period, again)

        self.later(0.0, again)

    def run(self, bound: float = 1500.0) -> History:
        """Until the deployment has ended, and a little longer, but never beyond `bound` seconds."""
        self.history.bound = bound
        began, end = self.now, self.now + bound
        while self._events and self.now < end:
            self.now, _, act = heapq.heappop(self._events)
            self.guarded(act)
            if self.rows.deployment.status in ENDED:
                end = min(end, self.now + 5.0)
        status = self.rows.deployment.status
        self.history.add(self.now, "end", status=str(status), seconds=self.now - began)
        if status is DeploymentStatus.SUCCEEDED:
            self._ask_hosts()
        return self.history

    def guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Crash:
            self.coordinator_dies()

    def _ask_hosts(self) -> None:
        for name, target in self.rows.targets.items():
            agent = self.agents[name]
            self.history.add(
                self.now, "host", name, status=str(target.status), installed=agent.installed, app=agent.app
            )

    # Failpoints

    def failpoint(self) -> None:
        number, self.failpoints = self.failpoints, self.failpoints + 1
        if number in self.faults.crash_at:
            raise Crash

    def coordinator_dies(self) -> None:
        """Another takes over two seconds later. Where the fault is a stall, the first then wakes and goes on."""
        before = self.coordinator
        if not before.alive:
            return
        before.alive = False
        for agent in self.agents.values():
            agent.disconnect()
        self.later(2.0, lambda: self._takes_over(before))

    def _takes_over(self, before: Coordinator) -> None:
        self.coordinator = Coordinator(self, before.epoch + 1)
        if self.faults.stall:
            self.later(1.5, before.wakes_from_stall)

    # The network

    def connected_to(self, coordinator: Coordinator, name: str) -> bool:
        agent = self.agents[name]
        return coordinator is self.coordinator and coordinator.alive and agent.connected

    def to_coordinator(self, agent: Agent, message: Report | Observed) -> None:
        coordinator = self.coordinator
        if agent.connected:
            self.later(NETWORK, lambda: self._delivered(coordinator, agent, message))

    def _delivered(self, coordinator: Coordinator, agent: Agent, message: Report | Observed) -> None:
        if self.connected_to(coordinator, agent.name):
            agent.heard_at = self.now
            coordinator.hears(agent.name, message)

    def _link(self) -> None:
        for agent in self.agents.values():
            if agent.reachable() and not agent.connected and self.coordinator.alive:
                agent.connected, agent.heard_at = True, self.now
                self.coordinator.greets(agent.name)
                for report in list(agent.outbox):
                    self.to_coordinator(agent, report)
        self.coordinator.notices()

    # Rounds

    def _health(self) -> None:
        for agent in self.agents.values():
            agent.look()
        self.balancer.check(self.now)

    def _traffic(self) -> None:
        self.coordinator.polls()

    # Operators

    def stop(self, how: str) -> None:
        self.rows.request = replace(self.rows.request, stop=how, stop_by="alice")
        self.coordinator.wake()

    def disturbed(self, name: str, seconds: float) -> None:
        """The world, not the engine, took this instance out of service; noticed within the detection time."""
        self._disturbed[name] = max(self._disturbed.get(name, 0.0), self.now + seconds)

    # Truth

    def serving(self, name: str) -> bool:
        target = self.rows.targets[name]
        changed = target.left_at is not None and str(target.status) in ("InProgress", "Failed")
        in_rotation = self.balancer.in_rotation(name) if self.traffic else True
        return self.agents[name].serves() and in_rotation and not changed

    def excused(self, name: str) -> bool:
        return self.now < self._disturbed.get(name, 0.0) + 15.0

    def left(self, name: str) -> None:
        """Called when the rows say for the first time that `name` is out of service from now on."""
        others = [n for n in self.agents if n != name]
        count = sum(self.serving(n) or (self.excused(n) and not self._failed(n)) for n in others)
        self.history.add(
            self.now, "left", name, others=count, floor=self.rows.deployment.floor, served=self.served_before(name)
        )

    def served_before(self, name: str) -> bool:
        heard = self.now - self.rows.last_seen.get(name, self.now) <= LIMITS.silent_after
        return heard and self.agents[name].serves() and (not self.traffic or self.balancer.in_rotation(name))

    def _failed(self, name: str) -> bool:
        target = self.rows.targets[name]
        return target.left_at is not None and str(target.status) in ("InProgress", "Failed")

    def began(self, name: str, deployment: str, event: str) -> None:
        flight = self.balancer.in_flight(name, self.now) if self.traffic else 0
        target = self.rows.targets[name]
        excused = self.now - self.reloaded.get(name, -1e9) < 15 or target.cut is not None
        self.history.add(self.now, "began", name, deployment=deployment, event=event, flight=flight, excused=excused)

    def request(self) -> Request:
        return self.rows.request
