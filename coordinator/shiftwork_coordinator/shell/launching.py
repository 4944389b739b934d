"""What Auto Scaling groups launch and end, seen and answered: hooks kept, instances looked at, deployments begun.

Every round starts again from the rows and from what AWS tells now; a queue only says that a round is due.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, ShiftworkError
from shiftwork_contract.revision import Revision
from shiftwork_coordinator import fleets
from shiftwork_coordinator.engine.launching import Begin, LaunchDecision, decide
from shiftwork_coordinator.launches import FOLLOWS_UP, launch_rows
from shiftwork_coordinator.model.launches import Ended, Launch, LaunchSnapshot, ScalingHook, Waiting
from shiftwork_coordinator.model.rows import Deployment, Group, Target
from shiftwork_coordinator.model.settings import Aws
from shiftwork_coordinator.model.snapshot import Joined
from shiftwork_coordinator.model.status import ENDED, TargetStatus
from shiftwork_coordinator.ports import Clock, Member, ScalingHooks
from shiftwork_coordinator.shell.agents import Agents
from shiftwork_coordinator.shell.keeping_hooks import HookKeeper
from shiftwork_coordinator.shell.observe import CALL_LIMIT
from shiftwork_coordinator.shell.replacing import (
    Driven,
    as_promoted,
    filled,
    hooked,
    names_of,
    replaced,
    run_of,
    taken,
)
from shiftwork_coordinator.shifters import weighing
from shiftwork_coordinator.store import Change, Delete, Fenced, NoneActive, Put, Store

log = structlog.get_logger()
EASY, WITH_QUEUE, OPEN, RETRY = 10.0, 60.0, 5.0, 30.0
"""Seconds between two looks: without a queue, with one, while an instance waits, and after a failure."""
REST = 0.2
AGAIN = 30.0
"""Seconds after which AWS is told an answer again that did not end the waiting: somebody else's hook may be next."""
LIMIT = 30.0
"""Seconds for all that one look asks of AWS about an account."""
WAITS = {"Pending:Wait": False, "Terminating:Wait": True}


class Home(Protocol):
    """What launches need of the coordinator."""

    store: Store
    clock: Clock
    agents: Agents
    epoch: int

    @property
    def may_call(self) -> Callable[[float], bool]: ...

    @property
    def runs(self) -> Mapping[str, Driven]: ...

    async def newly_signed(self, application: str, revision: Revision) -> Revision: ...

    async def take_up(self, deployment: Deployment) -> None: ...


class Launches:
    """All deployment groups of this coordinator, one account and region after the other."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._drivers: dict[Aws, ScalingHooks] = {}
        self._keeper = HookKeeper(home.store, lambda: home.epoch, self._driver)
        self._ears: dict[tuple[Aws, str], asyncio.Task[None]] = {}
        self._answered: dict[Launch, float] = {}
        self._failures: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._open = self._failed = False
        self._pause = EASY

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a deployment group's hooks could not be put, or its launches not be looked after, by its id."""
        return {**self._keeper.problems, **self._failures}

    def wake(self) -> None:
        """A deployment or a group has changed, or AWS has news."""
        self._wake.set()

    def connected(self) -> None:
        """An agent is there. Only who waits for one looks again."""
        if self._open:
            self._wake.set()

    async def drive(self) -> None:
        try:
            while True:
                self._wake.clear()
                self._pause, self._failed = EASY, False
                await self._tried(self._round())
                pause = OPEN if self._open else RETRY if self._failed else self._pause
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                await asyncio.sleep(REST)
        finally:
            self._listen(())

    async def _tried(self, look: Awaitable[None], *groups: Group) -> None:
        """What goes wrong with one account, or one group, keeps no other waiting, and is told to people."""
        try:
            await look
        except Fenced:
            raise
        except ShiftworkError as err:
            why = err.message
        except TimeoutError:
            why = f"no answer within {LIMIT:g} s"
        except Exception as err:
            why = f"an internal error: {type(err).__name__}: {err}"
            log.error("looking after what Auto Scaling groups launch failed", exc_info=err)
        else:
            for group in groups:
                self._failures.pop(group.id, None)
            return
        log.warning("cannot look after what Auto Scaling groups launch", why=why)
        self._failures.update({group.id: why for group in groups})
        self._failed = True

    async def _round(self) -> None:
        self._open = False
        groups = [group for group in await self._home.store.groups() if wants_hooks(group)]
        await self._keeper.clear(group.id for group in groups)
        self._listen((group.settings.aws, group.settings.autoscaling.queue) for group in groups)
        for at in dict.fromkeys(group.settings.aws for group in groups):
            its = [group for group in groups if group.settings.aws == at]
            await self._tried(self._account(at, its), *its)
        self._pause = WITH_QUEUE if all(group.settings.autoscaling.queue for group in groups) else EASY

    async def _account(self, at: Aws, groups: Sequence[Group]) -> None:
        names = {group.id: names_of(group, self._run_of(group)) for group in groups}
        async with asyncio.timeout(LIMIT):
            members = await self._driver(at).members(sorted({name for each in names.values() for name in each}))
        for group in groups:
            its = [member for member in members if member.group in names[group.id]]
            await self._tried(self._of_group(group, its), group)

    async def _of_group(self, group: Group, members: Sequence[Member]) -> None:
        if not self._home.may_call(CALL_LIMIT):
            return
        run = self._run_of(group)
        await self._keeper.keep(group, hooked(group, run, members), run.image.deployment.id if run else "")
        rows = await self._home.store.launches(group.id)
        waiting = {m.id: Waiting(m.group, WAITS[m.lifecycle]) for m in members if m.lifecycle in WAITS}
        self._open = self._open or bool(rows or waiting or replaced(run))
        if not rows and not waiting:
            return
        run = self._run_of(group)
        # Read after that: a deployment that has ended meanwhile has said what is good.
        fresh = await self._home.store.group_by_id(group.id) or group
        snapshot = await self._snapshot(as_promoted(fresh, run), run, rows, waiting, members)
        await self._carry_out(snapshot, decide(snapshot, self._home.clock.now()))

    def _run_of(self, group: Group) -> Driven | None:
        return run_of(group, self._home.runs.values())

    # What is seen

    async def _snapshot(
        self,
        group: Group,
        run: Driven | None,
        rows: Sequence[Launch],
        waiting: Mapping[str, Waiting],
        members: Sequence[Member],
    ) -> LaunchSnapshot:
        joined = await self._joined()
        installed = await self._home.store.installed(group.id)
        return LaunchSnapshot(
            group=group,
            launches=tuple(rows),
            waiting=waiting,
            serving=frozenset(member.id for member in members if member.lifecycle == "InService"),
            joined=joined,
            installed={id: installed[j.instance].installed for id, j in joined.items() if j.instance in installed},
            ended=await self._ended(row for row in rows if row.deployment_id and not row.outcome),
            active=run.image.deployment.id if run else "",
            taken=taken(run),
            passed=filled(run),
            kept=replaced(run),
        )

    async def _joined(self) -> dict[str, Joined]:
        rows = [row for row in await self._home.store.instances() if row.cloud_id and row.revoked_at is None]
        there = [row for row in rows if self._home.agents.connected(row.name)]
        claims = Counter(row.cloud_id for row in there)  # of two that claim one id, neither is believed
        return {r.cloud_id: Joined(r.name, r.address, r.cloud_id) for r in there if claims[r.cloud_id] == 1}

    async def _ended(self, rows: Iterable[Launch]) -> dict[tuple[str, str], Ended]:
        found: dict[tuple[str, str], Ended] = {}
        waited = [row for row in rows if row.deployment_id not in self._home.runs]
        for id in {row.deployment_id for row in waited}:
            if await self._goes_on(id):
                continue
            targets = {target.cloud_id: target for target in (await self._home.store.targets(id)).values()}
            for row in waited:
                if row.deployment_id == id:
                    found[id, row.cloud_id] = _of(targets.get(row.cloud_id))
        return found

    async def _goes_on(self, id: str) -> bool:
        """Whether a deployment that nobody drives has not ended: it could not be taken up when it was made."""
        deployment = await self._home.store.deployment(id)
        if deployment is None or deployment.status in ENDED:
            return False
        await self._home.take_up(deployment)
        return True

    # What is done

    async def _carry_out(self, snapshot: LaunchSnapshot, decision: LaunchDecision) -> None:
        changes: list[Change] = [*map(Put, decision.put), *map(Delete, decision.delete)]
        if changes:
            await self._home.store.write(*changes, epoch=self._home.epoch)
        for row in (row for row in decision.put if row.why):
            log.info("instance of an Auto Scaling group", instance=row.cloud_id, outcome=row.outcome, why=row.why)
        driver = self._driver(snapshot.group.settings.aws)
        for row in decision.beat:
            await driver.beat(_hook(row), row.cloud_id)
        for row in decision.answer:
            await self._answer(driver, row)
        for begin in decision.begin:  # last: while none can begin, AWS is asked to wait all the same
            await self._begin(snapshot, begin)

    async def _begin(self, snapshot: LaunchSnapshot, begin: Begin) -> None:
        home, group = self._home, snapshot.group
        assert group.last_good is not None, "there is nothing good to begin with"
        revision = await home.newly_signed(group.application, group.last_good)
        settings = await weighing.oriented(group.settings, begin.launches[0].scaling_group)
        group = replace(group, settings=settings)
        serial, custom = await home.store.next_serial(), await home.store.configs()
        deployment, targets = launch_rows(group, begin, snapshot.joined, revision, custom, serial, home.clock.now())
        changes: list[Change] = [Put(deployment), *map(Put, targets)]
        if begin.creator == FOLLOWS_UP:
            changes = [NoneActive(group.id, "another began"), *changes, *map(Delete, begin.launches)]
        else:
            changes += [Put(replace(row, deployment_id=deployment.id)) for row in begin.launches]
        try:
            await home.store.write(*changes, epoch=home.epoch)
        except Conflict:
            return  # somebody deploys to the group: what was to be followed up is looked at again after that
        await home.take_up(deployment)

    async def _answer(self, driver: ScalingHooks, row: Launch) -> None:
        now = self._home.clock.monotonic()
        if now >= self._answered.get(row, -AGAIN) + AGAIN:
            self._answered = {each: at for each, at in self._answered.items() if now < at + AGAIN} | {row: now}
            await driver.answer(_hook(row), row.cloud_id, row.outcome)
            self._wake.set()

    def _driver(self, at: Aws) -> ScalingHooks:
        return self._drivers.setdefault(at, fleets.hooks_of(at))

    def _listen(self, wanted: Iterable[tuple[Aws, str]]) -> None:
        queues = {(at, queue) for at, queue in wanted if queue}
        for key in self._ears.keys() - queues:
            self._ears.pop(key).cancel()
        for key in queues - self._ears.keys():
            self._ears[key] = asyncio.get_running_loop().create_task(self._hear(*key))

    async def _hear(self, at: Aws, queue: str) -> None:
        while True:
            try:
                if await self._driver(at).hear(queue):
                    self._wake.set()
            except Exception as err:  # noqa: BLE001  the edge of a driver call: the next question may be answered
                why = f"{type(err).__name__}: {err}"
                log.warning("cannot hear of launches; groups are looked at now and then", queue=queue, why=why)
                await asyncio.sleep(RETRY)


def wants_hooks(group: Group) -> bool:
    """Not for two sets that take turns: what the one that is out of traffic launches would come into it."""
    settings = group.settings
    return (
        len(settings.selectors) == 1
        and bool(settings.instances.autoscaling)
        and (settings.autoscaling.launch_hook or settings.autoscaling.termination_hook)
    )


def _hook(row: Launch) -> ScalingHook:
    return ScalingHook(row.group_id, row.scaling_group, row.leaving)


def _of(target: Target | None) -> Ended:
    if target is None:
        return Ended(TargetStatus.FAILED, "its deployment is not remembered")
    return Ended(target.status, target.error_message)
