"""A coordinator's shell in miniature: snapshot, decide, commit, perform, with a failpoint around each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from shiftwork_contract.errors import Unavailable
from shiftwork_contract.messages import CancelCommand, CommandEnded, Observed, Report, RunCommand, Watch
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine import decide as engine
from shiftwork_coordinator.engine.actions import Action, Deregister
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, Installed, Request, Target
from shiftwork_coordinator.model.snapshot import AgentSeen, Snapshot, TimedReading, TrafficSeen
from shiftwork_coordinator.model.status import ENDED, OPEN
from shiftwork_coordinator.shell.reports import command_after, installed

if TYPE_CHECKING:
    from simulation.world import World


class Rows:
    """What was committed. Fencing of writes is the store's and tested there: here a dead coordinator writes nothing."""

    def __init__(self, deployment: Deployment, targets: Mapping[str, Target], last_good: Revision) -> None:
        self.deployment = deployment
        self.targets = dict(targets)
        self.request = Request(deployment.id)
        self.commands: dict[tuple[str, int], CommandRow] = {}
        self.asked: dict[tuple[str, str], Asked] = {}
        self.installed: dict[str, Installed] = {}
        self.health: dict[str, bool] = {}
        self.last_good = last_good
        self.last_seen: dict[str, float] = {}

    def installed_everywhere(self, identity: str) -> None:
        self.installed = {name: Installed("g", name, identity) for name in self.targets}


class Coordinator:
    def __init__(self, world: World, epoch: int) -> None:
        self.world, self.epoch, self.alive = world, epoch, True
        self.agents: dict[str, AgentSeen] = {
            name: AgentSeen(last_seen=world.now) for name in world.agents if name in world.rows.last_seen or epoch > 1
        }
        self.traffic: dict[str, TrafficSeen] = {}
        self._watched: dict[str, int] = {}
        self._scheduled = False
        self._in_flight: set[str] = set()
        self._unsent: list[tuple[str, RunCommand]] = []
        self.wake()

    # The loop

    def wake(self, after: float = 0.0) -> None:
        if after or not self._scheduled:
            self._scheduled = self._scheduled or not after
            self.world.later(after, self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        world = self.world
        if not self.alive or world.rows.deployment.status in ENDED:
            return
        decision = engine.decide(self.snapshot(), world.now)
        if decision.history or decision.targets or decision.commands:
            world.failpoint()
            self._unsent = [(row.instance, RunCommand(self.epoch, row.command)) for row in decision.commands]
            self._commit(decision)
            world.failpoint()
        else:
            self._commit(decision)
        self._act(decision)
        if decision.wake_at is not None:
            self.wake(max(0.05, decision.wake_at - world.now))

    def snapshot(self) -> Snapshot:
        rows = self.world.rows
        return Snapshot(
            deployment=rows.deployment,
            targets=dict(rows.targets),
            epoch=self.epoch,
            request=rows.request,
            commands=dict(rows.commands),
            asked=dict(rows.asked),
            agents=dict(self.agents),
            traffic={name: (seen,) for name, seen in self.traffic.items()},
            installed=dict(rows.installed),
            health=dict(rows.health),
            last_good=rows.last_good,
            balancers=("sim",) if self.world.traffic else (),
        )

    def _commit(self, decision: Decision) -> None:
        world, rows = self.world, self.world.rows
        before = rows.targets
        rows.deployment = decision.deployment
        rows.targets = {**before, **{t.instance: t for t in decision.targets}}
        rows.commands |= {(c.instance, c.stage): c for c in decision.commands}
        rows.health |= dict(decision.health)
        for target in sorted(decision.targets, key=lambda t: t.status == "InProgress"):
            earlier = before[target.instance]
            if target.status is not earlier.status:
                world.history.add(world.now, "target", target.instance, status=str(target.status), batch=target.batch)
            if target.left_at is not None and earlier.left_at is None:
                world.left(target.instance)

    # What it does

    def _act(self, decision: Decision) -> None:
        for row in decision.commands:
            self._send(row.instance, RunCommand(self.epoch, row.command))
        self._unsent = []
        for target in decision.targets:
            self._cancels(target)
            self._watches(target)
        for action in decision.actions:
            self._perform(action)

    def _send(self, name: str, message: RunCommand | CancelCommand | Watch) -> None:
        if self.world.connected_to(self, name):
            self.world.later(0.01, lambda: self._arrives(name, message))

    def _arrives(self, name: str, message: RunCommand | CancelCommand | Watch) -> None:
        if self.world.connected_to(self, name):
            self.world.agents[name].receive(message)

    def wakes_from_stall(self) -> None:
        """What it was about to send when it was paused goes out now, over connections it believes are alive."""
        for name, message in self._unsent:
            if self.world.agents[name].reachable():
                self.world.agents[name].receive(message)

    def _cancels(self, target: Target) -> None:
        for row in self.world.rows.commands.values():
            if target.cancel and row.instance == target.instance and row.status in OPEN:
                self._send(target.instance, CancelCommand(self.epoch, row.command.id, target.cancel == "now"))

    def _watches(self, target: Target) -> None:
        if self._watched.get(target.instance) != target.look and self.world.connected_to(self, target.instance):
            self._watched[target.instance] = target.look
            self._send(target.instance, Watch(self.epoch, "g", target.look))

    def _perform(self, action: Action) -> None:
        """One call at a time per instance; it is made at once and answered a little later."""
        if action.instance in self._in_flight:
            return
        self._in_flight.add(action.instance)
        self.world.later(0.05, lambda: self._performed(action))

    def _performed(self, action: Action) -> None:
        world, balancer = self.world, self.world.balancer
        self._in_flight.discard(action.instance)
        if not self.alive:
            return
        key, out = (action.instance, action.verb), isinstance(action, Deregister)
        before = world.rows.asked.get(key)
        world.failpoint()
        if balancer.away:
            asked = before.asked_at if before else None
            row = Asked("d-1", *key, asked_at=asked, error="it does not answer", next_try=world.now + 1)
        else:
            balancer.order(action.instance, out=out)
            served = world.agents[action.instance].serves() or world.excused(action.instance)
            world.history.add(world.now, action.verb, action.instance, served=served)
            world.failpoint()
            row = Asked("d-1", *key, asked_at=world.now)
        world.rows.asked[key] = row
        self.wake()

    # What it hears and sees

    def greets(self, name: str) -> None:
        self.agents[name] = AgentSeen(connected=True, last_seen=self.world.now)
        self._watched.pop(name, None)
        target = self.world.rows.targets[name]
        self._watches(target)
        if target.completed_at is None:
            for row in self.world.rows.commands.values():
                if row.instance == name and row.status in OPEN:
                    self._send(name, RunCommand(self.epoch, row.command))
        self._cancels(target)
        self.wake()

    def notices(self) -> None:
        """A broken connection shows itself; live ones carry heartbeats."""
        for name, seen in self.agents.items():
            connected = self.world.connected_to(self, name)
            if connected:
                self.world.rows.last_seen[name] = self.world.now
                self.agents[name] = replace(seen, connected=True, last_seen=self.world.now)
            elif seen.connected:
                self.agents[name] = AgentSeen(last_seen=seen.last_seen)
                self.wake()

    def hears(self, name: str, message: Report | Observed) -> None:
        now = self.world.now
        if isinstance(message, Observed):
            seen = self.agents.get(name, AgentSeen(connected=True))
            self.agents[name] = replace(seen, asked=message.asked, probe=message.probe, probe_at=now, last_seen=now)
        else:
            self._reported(name, message)
        self.wake()

    def _reported(self, name: str, report: Report) -> None:
        rows, world = self.world.rows, self.world
        key = next((k for k, r in rows.commands.items() if r.command.id == report.command_id), None)
        world.failpoint()
        if key is not None:
            rows.commands[key] = command_after(rows.commands[key], report, world.now)
        if isinstance(report, CommandEnded) and report.group:
            rows.installed[name] = installed(name, report.group)
        world.failpoint()
        agent = world.agents[name]
        agent.outbox = [r for r in agent.outbox if r.seq > report.seq]

    def polls(self) -> None:
        if not self.alive or not self.world.traffic:
            return
        world, asked_at = self.world, self.world.now
        for name in world.agents:
            try:
                state, count = world.balancer.reading(name, asked_at)
                reading = TimedReading(state, count, world.balancer.generation, "", "", asked_at, asked_at)
            except Unavailable as err:
                reading = TimedReading("unknown", None, "", "", str(err), asked_at, asked_at)
            before = self.traffic[name].last if name in self.traffic else None
            self.traffic[name] = TrafficSeen("sim", reading, before)
        self.wake()
