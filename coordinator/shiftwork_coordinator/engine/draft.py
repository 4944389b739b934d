"""A decision being written. Local to one call of `decide`; nothing outside sees it half done."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_coordinator.engine.actions import Action
from shiftwork_coordinator.engine.decision import Decision, Reason, Rollback
from shiftwork_coordinator.engine.itinerary import Stage, StageKind, itinerary, stages_of
from shiftwork_coordinator.engine.service import Service, in_service
from shiftwork_coordinator.model.rows import CommandRow, History, HookRun, LifecycleEventRow, Role, Target
from shiftwork_coordinator.model.snapshot import AgentSeen, Snapshot
from shiftwork_coordinator.model.status import (
    DECIDED,
    DEPLOYMENT_MOVES,
    INSTANCE_TERMINATED,
    TARGET_MOVES,
    DeploymentStatus,
    TargetStatus,
    move,
)

MEMBERS: tuple[Role, ...] = ("", "replacement")


class Draft:
    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot = snapshot
        self.now = now
        self.deployment = snapshot.deployment
        self.stages = itinerary(snapshot.deployment)
        self.limits = snapshot.deployment.settings.limits
        self.targets = dict(snapshot.targets)
        self.health = dict(snapshot.health)
        self.service = {t.instance: self._service(t) for t in self.targets.values() if t.role != "fleet"}
        self.rollback: Rollback | None = None
        self.last_good = False
        self._commands: dict[tuple[str, int], CommandRow] = {}
        self._events: list[tuple[str, LifecycleEventRow]] = []
        self._hook_runs: dict[tuple[str, str], HookRun] = {}
        self._history: list[History] = []
        self._actions: list[Action] = []
        self._reasons: list[Reason] = []
        self._wake_at: float | None = None
        self._preparing: int | None = None

    # What it sees

    def members(self) -> list[Target]:
        """The targets that the revision goes to: those count."""
        return [t for t in self.targets.values() if t.role in MEMBERS]

    def size(self) -> int:
        """How many of those count, or will be: not what was terminated, unless it failed by that."""
        return sum(map(_counts, self.members())) or len(self.with_role("original"))

    def with_role(self, role: Role) -> list[Target]:
        return [t for t in self.targets.values() if t.role == role]

    def fleets(self) -> list[Target]:
        return self.with_role("fleet")

    def stages_of(self, target: Target) -> tuple[Stage, ...]:
        return stages_of(self.deployment, target.role) if target.role else self.stages

    def _service(self, target: Target) -> Service:
        return in_service(self.snapshot, target, self.stages, self.now)

    def stage(self, target: Target) -> Stage:
        return self.stages_of(target)[target.stage]

    def agent(self, target: Target) -> AgentSeen:
        return self.snapshot.agents.get(target.instance, AgentSeen())

    def command(self, target: Target) -> CommandRow | None:
        key = (target.instance, target.stage)
        return self._commands.get(key) or self.snapshot.commands.get(key)

    def in_service(self) -> int:
        return sum(s.value is True for s in self.service.values())

    def spare(self) -> int:
        """How many targets in service there are above the floor."""
        return self.in_service() - self.deployment.floor

    def with_status(self, *statuses: TargetStatus) -> list[Target]:
        return [t for t in self.members() if t.status in statuses]

    @property
    def stopping(self) -> bool:
        return bool(self.snapshot.request.stop)

    @property
    def halted(self) -> bool:
        return bool(self.deployment.halted_code)

    # What it writes

    def update(self, **fields: Any) -> None:
        self.deployment = replace(self.deployment, **fields)

    def halt(self, code: str, message: str) -> None:
        """Nothing new begins from here on; what is under way ends, then the deployment does."""
        self.update(halted_code=code, halted_message=message, halted_at=self.now)
        self.tell("halted", code=code, message=message)

    def set_status(self, status: DeploymentStatus) -> None:
        if status is not self.deployment.status:
            self.update(status=move(DEPLOYMENT_MOVES, self.deployment.status, status))
            self.tell("deployment", status=status)

    def set(self, target: Target, **fields: Any) -> Target:
        changed = replace(target, **fields)
        if changed.status is not target.status:
            move(TARGET_MOVES, target.status, changed.status)
            self._preparing = None
            self.tell("target", target.instance, status=changed.status, message=changed.error_message)
        self.targets[target.instance] = changed
        return changed

    def add(self, target: Target) -> None:
        self.targets[target.instance] = target
        self.service[target.instance] = Service(False, "being changed")
        self.tell("target", target.instance, status=target.status, message="")
        self.wake(self.now)

    def enter(self, target: Target, stage: int) -> Target:
        """The target in its next stage. Where health is awaited, only readings asked for from now on count."""
        look, stages = target.look, self.stages_of(target)
        if stage < len(stages) and stages[stage].kind in (StageKind.ALLOW, StageKind.SETTLE):
            look += 1
        return self.set(target, stage=stage, stage_since=self.now, look=look)

    def leave_service(self, target: Target, **fields: Any) -> Target:
        self.service[target.instance] = Service(False, "being changed")
        return self.set(target, left_at=self.now, **fields)

    def add_command(self, row: CommandRow) -> None:
        self._commands[row.instance, row.stage] = row

    def hook_run(self, target: Target, event: str) -> HookRun | None:
        key = (target.instance, event)
        return self._hook_runs.get(key) or self.snapshot.hook_runs.get(key)

    def add_hook_run(self, run: HookRun) -> None:
        self._hook_runs[run.instance, run.event] = run
        self.wake(self.now)

    def preparing(self) -> int:
        """How many agents prepare a target, those told by this decision included. Counted once, since many ask.

        Those that went silent do not count: they would keep the others waiting for ever.
        """
        if self._preparing is None:
            self._preparing = sum(self._at_it(row) for row in self.snapshot.commands.values())
        return self._preparing + len(self._commands)

    def _at_it(self, row: CommandRow) -> bool:
        if not row.command.prepare or row.ended_at is not None:
            return False
        target = self.targets[row.instance]
        return target.status not in DECIDED and self.agent(target).connected

    def event(self, target: Target, name: str, status: EventStatus, **fields: Any) -> None:
        row = LifecycleEventRow(event=name, status=status, **fields)
        self._events.append((target.instance, row))
        self.tell("event", target.instance, event=name, status=status, message=row.diagnostics.message)

    def reassess(self, target: Target) -> None:
        """Asks again whether it is in service, after its status changed."""
        target = self.targets[target.instance]
        if target.role != "fleet":
            self.service[target.instance] = self._service(target)

    def set_health(self, target: Target, healthy: bool) -> None:
        if target.role in MEMBERS:
            self.health[target.instance] = healthy

    def act(self, action: Action) -> None:
        self._actions.append(action)

    def tell(self, kind: str, target: str = "", **data: object) -> None:
        self._history.append(History(self.deployment.id, self.now, kind, target, data))

    def wait(
        self, code: str, message: str, target: str = "", *, since: float | None = None, until: float | None = None
    ) -> None:
        self._reasons.append(Reason(code, message, target, since, until))
        if until is not None:
            self.wake(until)

    def wake(self, at: float) -> None:
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)

    def decision(self) -> Decision:
        before = self.snapshot
        return Decision(
            deployment=self.deployment,
            targets=tuple(t for name, t in self.targets.items() if t is not before.targets.get(name)),
            commands=tuple(self._commands.values()),
            events=tuple(self._events),
            hook_runs=tuple(self._hook_runs.values()),
            health=tuple((n, h) for n, h in self.health.items() if before.health.get(n) is not h),
            history=tuple(self._history),
            actions=tuple(self._actions),
            reasons=tuple(self._reasons),
            wake_at=self._wake_at,
            rollback=self.rollback,
            last_good=self.last_good,
            in_service={name: s.value for name, s in self.service.items()},
        )


def _counts(target: Target) -> bool:
    return target.error_code != INSTANCE_TERMINATED or target.status is TargetStatus.FAILED
