"""Observing and moving the traffic of resources, and invoking hook functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

import structlog
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.engine.actions import Action, Arrange, Invoke, SetWeight
from shiftwork_coordinator.engine.itinerary import Stage, StageKind, stages_of
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Asked, Deployment, HookRun, Target
from shiftwork_coordinator.model.snapshot import Shifted
from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.ports import Clock, HookCall, HookFunctions, ShiftReading, TrafficShifter
from shiftwork_coordinator.shell.observe import CALL_LIMIT
from shiftwork_coordinator.shell.perform import BACKOFF, problem_of

log = structlog.get_logger()
Verb = Literal["weight", "arrange"]
QUICK, PATIENT, EASY = 0.25, 2.0, 10.0
"""Seconds between two questions: just after something was asked for, when it takes long, while nothing is awaited."""
SLOWER = 1.5
"""From QUICK to PATIENT: each pause is so many times the one before."""


class Of(Protocol):
    """The rows of the deployment."""

    @property
    def deployment(self) -> Deployment: ...
    @property
    def targets(self) -> Mapping[str, Target]: ...
    @property
    def hook_runs(self) -> Mapping[tuple[str, str], HookRun]: ...


class Shifting:
    """`record` stores what was asked, `answered` what became of a hook's run; both have committed when they return."""

    def __init__(
        self,
        shifter: TrafficShifter[Any],
        hooks: HookFunctions,
        rows: Callable[[], Of],
        clock: Clock,
        allowed: Callable[[float], bool],
        record: Callable[[list[Asked]], Awaitable[None]],
        answered: Callable[[HookRun], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._shifter, self._hooks, self._rows, self._clock, self._allowed = shifter, hooks, rows, clock, allowed
        self._record, self._answered, self._changed = record, answered, changed
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._invoking: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], tuple[float | Arrangement, bool, int]] = {}
        self._hurry = asyncio.Event()
        self.seen: Mapping[str, Shifted] = {}

    # Observing

    def hurry(self) -> None:
        """Ask again at once: something was just done whose effect is awaited."""
        self._hurry.set()

    async def run(self) -> None:
        pause = QUICK
        while True:
            self._hurry.clear()
            await self.ask()
            try:
                async with asyncio.timeout(pause if self._awaits() else EASY):
                    await self._hurry.wait()
                pause = QUICK
            except TimeoutError:
                pause = min(PATIENT, pause * SLOWER)

    async def ask(self) -> None:
        asked_at = self._clock.now()
        readings = await self._readings()
        before, self.seen = self.seen, {name: _timed(reading, asked_at) for name, reading in readings.items()}
        if self._awaits() or any(_differs(self.seen[name], before.get(name)) for name in self.seen):
            self._changed()

    def _awaits(self) -> bool:
        """Whether somebody waits for a reading: a replacement that is to be ready, a weight that is to be in force."""
        rows = self._rows()
        return any(_awaited(target, stages_of(rows.deployment, target.role)) for target in rows.targets.values())

    async def _readings(self) -> Mapping[str, ShiftReading]:
        resources = [target.resource for target in self._rows().targets.values() if target.resource is not None]
        try:
            async with asyncio.timeout(CALL_LIMIT):
                return await self._shifter.readings(resources)
        except TimeoutError:
            why = f"no answer within {CALL_LIMIT:g} s"
        except Exception as err:  # noqa: BLE001  the edge of a driver call: a driver's bug is one deployment's trouble
            why = f"{type(err).__name__}: {err}"
        return {one.name: ShiftReading(None, ready=False, detail=why) for one in resources}

    # Acting

    def start(self, actions: Sequence[Action], group: asyncio.TaskGroup) -> None:
        """Begins what is not under way. A weight waits for the one before it; the next tick wants it again."""
        for action in actions:
            if isinstance(action, SetWeight):
                self._begin((action.instance, "weight"), partial(self._set_weight, action), group)
            elif isinstance(action, Arrange):
                self._begin((action.instance, "arrange"), partial(self._arrange, action), group)
            elif isinstance(action, Invoke):
                self._invoking.add(key := (action.instance, action.event))
                self._begin(key, partial(self._invoke, action), group)

    def _begin(self, key: tuple[str, str], work: Callable[[], Awaitable[None]], group: asyncio.TaskGroup) -> None:
        if key not in self._busy and self._allowed(CALL_LIMIT):
            self._busy[key] = group.create_task(self._freeing(key, work))

    def close(self) -> None:
        """Waits no longer for what hook functions answer: one may run for a quarter of an hour yet."""
        for key in self._invoking & self._busy.keys():
            self._busy[key].cancel()

    async def _freeing(self, key: tuple[str, str], work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unavailable as err:  # not remembered, so it is wanted again at the next tick; it may be repeated
            log.warning("what was done could not be stored", what=key, why=err.message)
        finally:
            self._busy.pop(key, None)

    async def _set_weight(self, action: SetWeight) -> None:
        problem = await problem_of(self._shifter.set_weight(self._resource(action.instance), action.weight))
        await self._record([self._asked(action.instance, "weight", action.weight, problem)])

    async def _arrange(self, action: Arrange) -> None:
        problem = await problem_of(self._shifter.arrange(self._resource(action.instance), action.wanted))
        await self._record([self._asked(action.instance, "arrange", action.wanted, problem)])

    def _resource(self, instance: str) -> Any:
        return self._rows().targets[instance].resource

    def _asked(
        self,
        instance: str,
        verb: Literal["weight", "arrange"],
        value: float | Arrangement,
        problem: ShiftworkError | None,
    ) -> Asked:
        id, now, key = self._rows().deployment.id, self._clock.now(), (instance, verb)
        if problem is None:
            self._failed.pop(key, None)
            return Asked(id, instance, verb, value, asked_at=now, tries=1)
        refused = isinstance(problem, InvalidRequest)
        *alike, before = self._failed.get(key, (value, refused, 0))
        tries = before + 1 if alike == [value, refused] else 1
        self._failed[key] = (value, refused, tries)
        log.warning("what was asked failed", deployment_id=id, target=instance, verb=verb, why=problem.message)
        return Asked(
            id, instance, verb, value, tries=tries, error=problem.message, error_code=problem.code,
            next_try=now + _pause(tries), refused=refused,
        )  # fmt: skip

    async def _invoke(self, action: Invoke) -> None:
        run = self._rows().hook_runs[action.instance, action.event]
        if not run.status:
            await self._answered(await self._outcome(run))

    async def _outcome(self, run: HookRun) -> HookRun:
        settings = self._rows().deployment.settings.hooks
        call = HookCall(run.id, run.deployment_id, run.function, run.event, self._resource(run.instance))
        try:
            async with asyncio.timeout(settings.within):
                answer = await self._hooks.invoke(call, wait=settings.answer == "return")
        except ShiftworkError as err:
            return self._not_invoked(run, err.message)
        except Exception as err:  # noqa: BLE001  the edge of a driver call
            return self._not_invoked(run, f"{type(err).__name__}: {err}")
        now = self._clock.now()
        invoked = replace(run, invoked_at=now, tries=run.tries + 1, error="", next_try=None)
        if answer is None:
            return invoked
        return replace(invoked, status=answer.status, message=answer.message, answered_at=now)

    def _not_invoked(self, run: HookRun, why: str) -> HookRun:
        log.warning("a hook function could not be invoked", hook=run.id, function=run.function, why=why)
        tries = run.tries + 1
        return replace(run, tries=tries, error=why, next_try=self._clock.now() + _pause(tries))


def _pause(tries: int) -> float:
    return BACKOFF[min(tries, len(BACKOFF)) - 1]


def _awaited(target: Target, stages: Sequence[Stage]) -> bool:
    """Something is to come into force: while it is under way what its stage waits for, afterwards the way back. Hooks,
    holds and the pauses between two weights may take hours, and wait for no reading."""
    if target.completed_at is not None:
        moved = target.weight is not None or target.arranged is not None
        return moved and target.status is not TargetStatus.SUCCEEDED
    kind = stages[target.stage].kind
    if kind is StageKind.SHIFT:
        return target.weight_since is None
    return target.status is TargetStatus.PENDING or kind in (StageKind.READY, StageKind.ARRANGE, StageKind.ENLIST)


def _timed(reading: ShiftReading, asked_at: float) -> Shifted:
    return Shifted(
        reading.weight, reading.ready, asked_at, reading.fatal, reading.detail, reading.holds, reading.members
    )


def _differs(now: Shifted, before: Shifted | None) -> bool:
    return before is None or replace(now, asked_at=0.0) != replace(before, asked_at=0.0)
