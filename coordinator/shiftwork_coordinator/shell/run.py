"""One active deployment: tick, commit, act, sleep until something happens or a deadline passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from msgspec.structs import replace

from shiftwork_contract.errors import Unavailable
from shiftwork_contract.messages import CancelCommand, QuietCheck, RunCommand, Watch
from shiftwork_coordinator import notify
from shiftwork_coordinator.engine.actions import Action
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision, Reason, Rollback
from shiftwork_coordinator.engine.itinerary import StageKind, positions, stages_of
from shiftwork_coordinator.engine.together import companion
from shiftwork_coordinator.engine.traffic import taken_at
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, HookRun, Request, Target
from shiftwork_coordinator.model.settings import health_for
from shiftwork_coordinator.model.snapshot import Companion, Joined, Snapshot
from shiftwork_coordinator.model.status import ENDED, OPEN, TargetStatus
from shiftwork_coordinator.notify.messages import notices
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.scaling_groups import taken_over
from shiftwork_coordinator.shell import notifying
from shiftwork_coordinator.shell.agents import Agents
from shiftwork_coordinator.shell.image import Image
from shiftwork_coordinator.shell.outside import Outside
from shiftwork_coordinator.store import Change, Fenced, Put, Store, Unchanged

log = structlog.get_logger()
IDLE_TICK = 2.0
"""Seconds after which a tick happens although nobody called for one: a lost wake-up costs no more than this."""
REST = 2.0
"""Times the last tick's own work that pass before the next tick: what happens meanwhile is one tick's worth of news."""
PARK = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds that a deployment rests after a tick of it raised; the last one repeats."""


class Home(Protocol):
    """What a run needs of the coordinator."""

    store: Store
    clock: Clock
    agents: Agents
    epoch: int

    def may_call(self, limit: float) -> bool:
        """Whether the lease outlasts an outward call of `limit` seconds."""

    async def begin_rollback(self, run: Run, decision: Decision, wanted: Rollback) -> tuple[str, list[Change]]:
        """The id and rows of the deployment that rolls this one back."""

    def blocked_by(self, run: Run) -> str: ...

    def companions(self, deployment: Deployment) -> tuple[Companion, ...]:
        """What the others say that were created with it."""

    def one_at_a_time(self, deployment: Deployment) -> AbstractAsyncContextManager[None]:
        """Held while one of a bundle decides and writes: until then what it saw of the others holds."""

    def joins(self, run: Run, instance: str) -> None:
        """From now on what this instance says concerns the run."""

    def moved(self, deployment: Deployment) -> None:
        """Its companions should look at it again."""

    def ended(self, run: Run) -> None: ...

    def ticked(self, seconds: float) -> None: ...


class Run:
    def __init__(self, home: Home, image: Image) -> None:
        self.home, self.image = home, image
        self.id = image.deployment.id
        self.decision: Decision | None = None
        self._wake = asyncio.Event()
        self._listeners: set[asyncio.Event] = set()
        self._watched: dict[str, Watch] = {}
        self._rest = 0.0
        self._requesting = asyncio.Lock()
        self._telling = asyncio.Lock()
        self.positions = positions(image.deployment)
        self._outside: Outside | None = None

    def _hosts(self) -> list[str]:
        return [name for name, target in self.image.targets.items() if target.role != "fleet"]

    # Wake-ups

    def wake(self) -> None:
        self._wake.set()

    def listen(self) -> asyncio.Event:
        """An event that is set after every change of this run; give it back with `unlisten`."""
        event = asyncio.Event()
        self._listeners.add(event)
        return event

    def unlisten(self, event: asyncio.Event) -> None:
        self._listeners.discard(event)

    def told(self) -> None:
        for event in self._listeners:
            event.set()

    def hurried(self) -> bool:
        targets = self.image.targets.values()
        asking = any(t.traffic and taken_at(t, self.image.asked) is None for t in targets)
        return asking or any(self._moves(target) for target in targets)

    def _moves(self, target: Target) -> bool:
        """Whether it is on its way out of traffic or into it."""
        stages = stages_of(self.image.deployment, target.role)
        if target.status is TargetStatus.PENDING:
            return bool(target.traffic)
        if target.status is not TargetStatus.IN_PROGRESS or target.stage >= len(stages):
            return False
        return stages[target.stage].kind in (StageKind.BLOCK, StageKind.ALLOW)

    # The loop

    async def drive(self) -> None:
        """Until it has ended. Topics may hear of that later: nobody waits for them."""
        async with asyncio.TaskGroup() as telling:
            async with asyncio.TaskGroup() as group:
                while not await self._guarded_tick(group, telling):
                    await asyncio.sleep(self._rest)
                    await self._sleep()
                if self._outside is not None:
                    await self._outside.close()
            self.home.ended(self)
            self.told()

    async def _sleep(self) -> None:
        wake_at = self.decision.wake_at if self.decision else None
        pause = IDLE_TICK if wake_at is None else min(IDLE_TICK, max(0.0, wake_at - self.home.clock.now()))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _guarded_tick(self, group: asyncio.TaskGroup, telling: asyncio.TaskGroup) -> bool:
        try:
            async with self.home.one_at_a_time(self.image.deployment):
                return await self._tick(group, telling)
        except Exception as err:  # noqa: BLE001  the edge of a tick: one bug, one deployment; the others go on
            await self._park(err)
            return False

    async def _park(self, err: Exception) -> None:
        """Rests this deployment. A lost lease is not survivable: the process must not go on believing it leads."""
        if isinstance(err, Fenced):
            raise err
        times = self.image.deployment.parked_times + 1
        until = self.home.clock.now() + PARK[min(times, len(PARK)) - 1]
        reason = f"an internal error, tried again later: {type(err).__name__}: {err}"
        self.image.deployment = replace(
            self.image.deployment, parked_until=until, parked_times=times, parked_reason=reason
        )
        log.error("a tick failed and is tried again", deployment_id=self.id, exc_info=err)
        try:
            await self.home.store.write(Put(self.image.deployment), epoch=self.home.epoch)
        except Unavailable as worse:  # then only this process knows: a restart tries again at once, which is as good
            log.warning("parked in memory only", deployment_id=self.id, why=worse.message)

    async def _tick(self, group: asyncio.TaskGroup, telling: asyncio.TaskGroup) -> bool:
        self._wake.clear()
        began = self.home.clock.monotonic()
        outside = await self._prepared(group)
        await self._look_for_new()
        asked = dict(self.image.asked)
        decision = decide(self._snapshot(outside), self.home.clock.now())
        changes = self.image.changes(decision)
        self._rest = REST * (self.home.clock.monotonic() - began)
        if decision.rollback:
            rollback_id, rows = await self.home.begin_rollback(self, decision, decision.rollback)
            decision = replace(decision, deployment=replace(decision.deployment, rolled_back_by=rollback_id))
            changes = self.image.changes(decision) + rows
        if decision.deployment.status in ENDED:
            changes += await self._of_group(decision)
        if changes:
            await self.home.store.write(*changes, epoch=self.home.epoch)
        before, said = self.image.targets, companion(self.image.deployment)
        self.image.apply(decision)
        if companion(decision.deployment) != said:
            self.home.moved(decision.deployment)
        if decision.history and decision.deployment.settings.triggers:
            telling.create_task(self._notify(decision))
        news = bool(changes) or self.decision is None or decision.reasons != self.decision.reasons
        self.decision = decision
        if outside is not None:
            self._act(decision, before, outside)
            outside.start([action for action in decision.actions if self._still(action, asked)])
        self.home.ticked(self.home.clock.monotonic() - began)
        if news:
            self.told()
        return decision.deployment.status in ENDED

    async def _look_for_new(self) -> None:
        """Who has joined meanwhile, while the deployment waits for new instances."""
        if not any(self._enlists(target) for target in self.image.targets.values()):
            return
        known = await self.home.store.instances()
        fresh = [i for i in known if i.cloud_id and i.revoked_at is None]
        self.image.joined = {i.cloud_id: Joined(i.name, i.address, i.cloud_id) for i in fresh}

    def _enlists(self, target: Target) -> bool:
        if target.role != "fleet" or target.completed_at is not None:
            return False
        return stages_of(self.image.deployment, target.role)[target.stage].kind is StageKind.ENLIST

    async def _prepared(self, group: asyncio.TaskGroup) -> Outside | None:
        """The outside world, from the moment this deployment's turn has come; None while it is queued.

        What others of the group did meanwhile is read again first: it was created on older rows.
        """
        if self._outside is not None:
            return self._outside
        if self.image.deployment.started_at is None:
            if self.home.blocked_by(self):
                return None
            await self._reload()
        self._outside = Outside(self, group)
        for instance in self._hosts():
            self.greet(instance)
        return self._outside

    async def _reload(self) -> None:
        """The image from the rows, without losing what operators and agents say at this very moment."""
        async with self._requesting:
            told = dict(self.image.installed)
            stored = await self.home.store.deployment(self.id)
            image = await Image.load(self.home.store, stored or self.image.deployment)
            newer = {name: row for name, row in self.image.installed.items() if told.get(name) is not row}
            image.installed.update(newer)
            self.image = image

    def reasons(self) -> tuple[Reason, ...]:
        """Why it waits, as of now and not as of the last tick. Decides and forgets."""
        return decide(self._snapshot(self._outside), self.home.clock.now()).reasons

    def _snapshot(self, outside: Outside | None) -> Snapshot:
        group_id = self.image.deployment.group_id
        agents = {name: self.home.agents.seen(name, group_id) for name in self._hosts()}
        names = tuple(b.name for b in outside.at.balancers) if outside else ()
        seen = outside.observer.seen if outside else {}
        red = outside.alarms.seen if outside else {}
        shifted = outside.shifting.seen if outside and outside.shifting else {}
        gone = outside.fleet.gone if outside and outside.fleet else {}
        blocked, companions = self.home.blocked_by(self), self.home.companions(self.image.deployment)
        return self.image.snapshot(self.home.epoch, agents, seen, names, red, shifted, blocked, companions, gone)

    async def _of_group(self, decision: Decision) -> list[Change]:
        """What the group's row says from the end on: what was good last, and which Auto Scaling groups stand."""
        group = await self.home.store.group_by_id(self.image.deployment.group_id)
        if group is None:
            return []
        d = self.image.deployment
        wanted = replace(group, copies=taken_over(group, self.image.targets.values()))
        if decision.last_good:
            wanted = replace(
                wanted, last_good=decision.deployment.revision, last_good_deployment=self.id,
                last_good_parameters=d.parameters, last_good_appspec=d.appspec,
            )  # fmt: skip
        if wanted == group:
            return []
        return [Unchanged(group, f"the group {group.name} was changed at this moment"), Put(wanted)]

    def _act(self, decision: Decision, before: dict[str, Target], outside: Outside) -> None:
        for row in decision.commands:
            self.home.agents.send(row.instance, RunCommand(self.home.epoch, row.command))
        for target in decision.targets:
            if target.role == "fleet":
                continue
            if target.instance not in before:
                self._welcome(target, outside)
            elif target.cancel != before[target.instance].cancel:
                self._send_cancel(target)
            self._watch(target)

    def _still(self, action: Action, asked: Mapping[tuple[str, str], Asked]) -> bool:
        """Whether nothing was asked for it since, while what was decided was being stored. The next tick knows it."""
        key = (action.instance, action.verb)
        return self.image.asked.get(key) is asked.get(key)

    def _welcome(self, target: Target, outside: Outside) -> None:
        """An instance that became a target on the way."""
        outside.at.add(target)
        self.home.joins(self, target.instance)
        self.greet(target.instance)

    async def _notify(self, decision: Decision) -> None:
        """One decision after the other: whoever waits longest for the lock gets it."""
        deployment = decision.deployment
        async with self._telling:
            try:
                events = await self.home.store.events(self.id)
                wanted = notices(deployment, self.image.targets, decision.history, events)
            except Exception as err:  # noqa: BLE001  as at the edge of a tick: what topics hear stops no deployment
                log.warning("triggers were not told", deployment_id=self.id, why=f"{type(err).__name__}: {err}")
                return
            await notifying.send(notify.connect(deployment.settings.aws), wanted)

    async def record(self, rows: list[Asked]) -> None:
        kept = [self._with_last_success(row) for row in rows]
        await self.home.store.write(*(Put(row) for row in kept), epoch=self.home.epoch)
        self.image.asked.update({(row.instance, row.verb): row for row in kept})
        if self._outside is not None:
            self._outside.observer.hurry()
            if self._outside.shifting:
                self._outside.shifting.hurry()
        self.wake()

    async def answered(self, row: HookRun) -> None:
        """What became of a hook function's run. The first answer stands."""
        async with self._requesting:  # its word may come while it is noted that it was invoked
            known = self.image.hook_runs.get((row.instance, row.event))
            if known is not None and known.status:
                return
            await self.home.store.write(Put(row), epoch=self.home.epoch)
            self.image.hook_runs[row.instance, row.event] = row
        self.wake()

    def _with_last_success(self, row: Asked) -> Asked:
        before = self.image.asked.get((row.instance, row.verb))
        return row if before is None or row.asked_at is not None else replace(row, asked_at=before.asked_at)

    async def request(self, change: Callable[[Request], Request]) -> None:
        """Stores what an operator asks; takes effect with the next tick, which is now."""
        async with self._requesting:  # two operators at once: the second sees what the first asked
            wanted = change(self.image.request)
            await self.home.store.write(Put(wanted), epoch=self.home.epoch)
            self.image.request = wanted
        self.wake()

    # Agents

    def greet(self, instance: str) -> None:
        """All that is wanted of an agent that has just connected, derived from the rows. Nothing while queued."""
        if self._outside is None:
            return
        target = self.image.targets[instance]
        self._watched.pop(instance, None)
        self._set_gate(target)
        self._watch(target)
        for row in self._open_commands(instance):
            self.home.agents.send(instance, RunCommand(self.home.epoch, row.command))
        self._send_cancel(target)
        self.wake()

    def _open_commands(self, instance: str) -> Sequence[CommandRow]:
        target = self.image.targets[instance]
        if target.completed_at is not None:
            return []
        rows = (self.image.commands.get((instance, stage)) for stage in range(target.stage + 1))
        return [row for row in rows if row is not None and row.status in OPEN]

    def _send_cancel(self, target: Target) -> None:
        if not target.cancel:
            return
        for row in self.image.commands.values():
            if row.instance == target.instance and row.status in OPEN:
                cancel = CancelCommand(self.home.epoch, row.command.id, now=target.cancel == "now")
                self.home.agents.send(target.instance, cancel)

    def _watch(self, target: Target) -> None:
        """Asks the agent to look again when the engine wants readings newer than the last ones."""
        watch = self._watch_for(target)
        if self._watched.get(target.instance) != watch and self.home.agents.send(target.instance, watch):
            self._watched[target.instance] = watch

    def _watch_for(self, target: Target) -> Watch:
        settings = self.image.deployment.settings
        quiet = settings.quiet
        return Watch(
            epoch=self.home.epoch,
            group_id=self.image.deployment.group_id,
            asked=target.look,
            health=health_for(settings, target.instance, target.address),
            quiet=QuietCheck(quiet.port, quiet.window) if quiet.port else None,
            every=0.5 if target.traffic and target.status is TargetStatus.IN_PROGRESS else 5.0,
        )

    def _set_gate(self, target: Target) -> None:
        left_in = target.role != "replacement" and self.image.health.get(target.instance) is not False
        wanted = target.traffic == "in" or (not target.traffic and left_in)
        at = self._outside.at if self._outside else None
        if at is not None and at.has_gate and self.home.agents.connected(target.instance):
            self.home.agents.set_gate(target.instance, at.gate(target.instance, wanted))
