"""What a deployment would do: `decide` folded over a make-believe world in which everybody obeys at once."""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec
from msgspec.structs import replace

from shiftwork_contract.messages import Probe
from shiftwork_coordinator.engine.actions import Invoke
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Asked, CommandRow, History, HookRun, Request, Target
from shiftwork_coordinator.model.snapshot import (
    AgentSeen,
    AlarmSeen,
    Joined,
    Shifted,
    Snapshot,
    TimedReading,
    TrafficSeen,
)
from shiftwork_coordinator.model.status import ENDED, OPEN, CommandStatus

WAITS = ("BAKE", "SHIFT", "ORIGINALS")
EVERY = frozenset(Arrangement)
UNSURE = ("unknown", "starting", "draining")
TICKS = 100_000
"""A deployment that has not ended after so many ticks of an obedient world never will: that is a bug."""


class PlannedBatch(msgspec.Struct, frozen=True, rename="camel"):
    """`in_service` is the least capacity while this batch is under way, `minimum` the floor it is held against."""

    number: int
    targets: tuple[str, ...]
    in_service: int
    minimum: int


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    batches: tuple[PlannedBatch, ...]
    steps: tuple[str, ...]
    ends: str


def foresee(snapshot: Snapshot, now: float) -> Plan:
    """The batches, the capacity during each and every step in order, if nothing fails."""
    told: list[History] = []
    capacity: dict[int, int] = {}
    snapshot = _known(snapshot, now)
    for _ in range(TICKS):
        decision = decide(snapshot, now)
        told += decision.history
        number = decision.deployment.batch
        serving = sum(value is True for value in decision.in_service.values())
        capacity[number] = min(serving, capacity.get(number, serving))
        then = max(now + 1.0, _bake_end(decision))
        snapshot = _obeyed(snapshot, decision, now, then)
        if decision.deployment.status in ENDED:
            break
        now = then
    resources = {name for name, target in snapshot.targets.items() if target.resource is not None}
    return Plan(
        _batches(told, capacity, snapshot.deployment.floor), _steps(told, resources), snapshot.deployment.status
    )


def _known(snapshot: Snapshot, now: float) -> Snapshot:
    """The world with its first readings, which a real deployment waits for."""
    return replace(
        snapshot,
        agents={name: _agent(target, now) for name, target in snapshot.targets.items()},
        traffic={name: _kept(snapshot, target, now) for name, target in snapshot.targets.items()},
        shifted={name: Shifted(0.0, True, now) for name in snapshot.targets},
        joined={name: Joined(name, "", name) for name in _replacements(snapshot)},
        alarms={name: AlarmSeen("OK") for name in snapshot.deployment.settings.alarms.cloudwatch},
    )


def _replacements(snapshot: Snapshot) -> tuple[str, ...]:
    """The instances that will be launched, by what is known of them: whose place they take."""
    originals = [name for name, target in snapshot.targets.items() if target.role == "original"]
    return tuple(f"replacement of {name}" for name in originals)


def _bake_end(decision: Decision) -> float:
    return max((r.until or 0.0 for r in decision.reasons if r.code in WAITS), default=0.0)


def _batches(told: list[History], capacity: Mapping[int, int], floor: int) -> tuple[PlannedBatch, ...]:
    rows = [h.data for h in told if h.kind == "batch"]
    return tuple(
        PlannedBatch(int(str(r["number"])), tuple(_names(r["targets"])), capacity[int(str(r["number"]))], floor)
        for r in rows
    )


def _names(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _steps(told: list[History], resources: Set[str]) -> tuple[str, ...]:
    steps = []
    for row in told:
        if row.kind == "batch":
            steps.append(f"batch {row.data['number']}: {', '.join(_names(row.data['targets']))}")
        elif row.kind == "weight":
            steps.append(f"{row.data['weight']:.0%} of the traffic to the replacement: {row.target}")
        elif row.kind == "event" and row.data["status"] == "InProgress":
            steps.append(f"{_done_by(str(row.data['event']), shifted=row.target in resources)}: {row.target}")
    return tuple(steps)


def _done_by(event: str, *, shifted: bool) -> str:
    if shifted:
        return event
    return "take out of traffic" if event == "BlockTraffic" else "put back into traffic"


def _obeyed(snapshot: Snapshot, decision: Decision, now: float, then: float) -> Snapshot:
    """What was decided `now` is done at once; everybody is heard and seen just before `then`, the next look."""
    targets = {**snapshot.targets, **{t.instance: t for t in decision.targets}}
    return replace(
        snapshot,
        deployment=decision.deployment,
        request=_continued(snapshot, decision, then),
        targets=targets,
        health={**snapshot.health, **dict(decision.health)},
        commands=_commands(snapshot, decision, now),
        asked={**snapshot.asked, **_asked(decision, now)},
        shifted={
            name: Shifted(t.weight or 0.0, True, then, holds=EVERY, members=_replacements(snapshot))
            for name, t in targets.items()
        },
        hook_runs={**snapshot.hook_runs, **_answered(decision, now)},
        agents={name: _agent(t, then) for name, t in targets.items()},
        traffic={name: _traffic(snapshot, t, then) for name, t in targets.items()},
    )


def _continued(snapshot: Snapshot, decision: Decision, then: float) -> Request:
    """A person who is waited for says yes, and nothing else."""
    waited_for = any(reason.code == "READY" for reason in decision.reasons)
    return replace(snapshot.request, proceed_at=then) if waited_for else snapshot.request


def _commands(snapshot: Snapshot, decision: Decision, now: float) -> dict[tuple[str, int], CommandRow]:
    rows = {**snapshot.commands, **{(c.instance, c.stage): c for c in decision.commands}}
    return {key: _done(row, now) if row.status in OPEN else row for key, row in rows.items()}


def _done(row: CommandRow, now: float) -> CommandRow:
    return replace(row, status=CommandStatus.SUCCEEDED, ended_at=now, ran=row.command.events)


def _asked(decision: Decision, now: float) -> dict[tuple[str, str], Asked]:
    id = decision.deployment.id
    return {
        (a.instance, a.verb): Asked(
            id, a.instance, a.verb, getattr(a, "weight", getattr(a, "wanted", None)), asked_at=now
        )
        for a in decision.actions
        if not isinstance(a, Invoke)
    }


def _answered(decision: Decision, now: float) -> dict[tuple[str, str], HookRun]:
    return {(run.instance, run.event): replace(run, status="Succeeded", answered_at=now) for run in decision.hook_runs}


def _agent(target: Target, now: float) -> AgentSeen:
    return AgentSeen(connected=True, last_seen=now, asked=target.look, probe=Probe(True), probe_at=now)


def _traffic(snapshot: Snapshot, target: Target, now: float) -> tuple[TrafficSeen, ...]:
    if not target.traffic:
        return _kept(snapshot, target, now)
    state, count = ("absent", 0) if target.traffic == "out" else ("healthy", 0)
    later = TimedReading(state, count, "", "", "", asked_at=now - 0.5, answered_at=now - 0.5)
    before = replace(later, asked_at=now - 0.75, answered_at=now - 0.75)
    return tuple(TrafficSeen(name, later, before) for name in snapshot.balancers)


def _kept(snapshot: Snapshot, target: Target, now: float) -> tuple[TrafficSeen, ...]:
    """A target that is not due yet stays as the balancers see it now; where they cannot tell, as it was left."""
    seen = {s.balancer: s.last.state for s in snapshot.traffic.get(target.instance, ())}
    left = "healthy" if snapshot.health.get(target.instance) else "unhealthy"
    states = {name: seen.get(name, "unknown") for name in snapshot.balancers}
    return tuple(
        TrafficSeen(
            name, TimedReading(left if state in UNSURE else state, 0, "", "", "", asked_at=now, answered_at=now)
        )
        for name, state in states.items()
    )
