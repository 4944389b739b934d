"""The coordinator process without its HTTP side: the active deployments, the agents, the lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import groupby
from typing import Any

import structlog
from msgspec.structs import replace

from shiftwork_contract.errors import ContractViolation, Unavailable
from shiftwork_contract.messages import (
    CancelCommand,
    FromCoordinator,
    Heartbeat,
    Hello,
    Observed,
    Output,
    Report,
    Unsupported,
    Unwatch,
)
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.creation import rollback_rows
from shiftwork_coordinator.engine.decision import Decision, Reason, Rollback
from shiftwork_coordinator.engine.itinerary import positions
from shiftwork_coordinator.joining import amend
from shiftwork_coordinator.model.rows import CommandRow, Deployment, Installed
from shiftwork_coordinator.model.snapshot import Companion
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus
from shiftwork_coordinator.ports import Clock, Sources
from shiftwork_coordinator.shell.agents import Agents, Session
from shiftwork_coordinator.shell.bundles import Bundles
from shiftwork_coordinator.shell.image import Image
from shiftwork_coordinator.shell.launching import Launches
from shiftwork_coordinator.shell.reports import Told, installed
from shiftwork_coordinator.shell.run import Run
from shiftwork_coordinator.shell.upgrading import Upgrades
from shiftwork_coordinator.store import Change, Outputs, Put, Store

log = structlog.get_logger()
ALIVE = 10.0
"""Seconds after which a watcher hears something even when nothing changed, so that it knows the line is good."""
ACTIVE = frozenset(DeploymentStatus) - ENDED


class Coordinator:
    """Started once the store is open and the lease is held; `epoch` is the lease's."""

    def __init__(
        self,
        store: Store,
        outputs: Outputs,
        clock: Clock,
        epoch: int,
        may_call: Callable[[float], bool] = lambda limit: True,
        ticked: Callable[[float], None] = lambda seconds: None,
        issue: Callable[[str, str], Awaitable[FromCoordinator]] | None = None,
        sources: Sources | None = None,
    ) -> None:
        self.store, self.outputs, self.clock, self.epoch = store, outputs, clock, epoch
        self.may_call, self.ticked = may_call, ticked
        self._issue, self.sources = issue, sources
        self.agents = Agents(clock, self._woken)
        self.upgrades = Upgrades(self)
        self.launches = Launches(self)
        self.runs: dict[str, Run] = {}
        self._by_instance: dict[str, set[str]] = {}
        self._stack = AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: dict[str, str] = {}
        self._bundles = Bundles(store)

    async def start(self) -> None:
        """Takes up every deployment that has not ended, as if nothing had happened."""
        for instance in await self.store.instances():
            self.agents.remember(instance.name, instance.last_seen)
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        active = await self.store.deployments(statuses=ACTIVE, limit=None)
        for deployment in sorted(active, key=lambda d: d.serial):
            await self.take_up(deployment)
        await self.upgrades.start()
        self._spawn(self.upgrades.drive())
        self._spawn(self.launches.drive())

    async def stop(self) -> None:
        """Ends the tasks; the rows say where everything stands."""
        for task in list(self._tasks):
            task.cancel()
        await self._stack.aclose()

    async def take_up(self, deployment: Deployment) -> None:
        """Begins to drive a deployment whose rows are in the store."""
        await self._bundles.meet(deployment, self.runs)
        run = Run(self, await Image.load(self.store, deployment))
        self.runs[run.id] = run
        for instance in run.image.targets:
            self._by_instance.setdefault(instance, set()).add(run.id)
        self._spawn(run.drive())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None, "start() comes first"
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What a run needs (shell/run.py, Home)

    def blocked_by(self, run: Run) -> str:
        """What runs, else what comes first: a rollback before what was queued, then by age."""
        mine = run.image.deployment
        if mine.apart:
            return ""
        coming = self._coming.get(mine.group_id, "")
        if coming not in ("", run.id):
            return coming
        others = [r.image.deployment for r in self.runs.values() if r is not run]
        others = [d for d in others if d.group_id == mine.group_id and d.status not in ENDED and not d.apart]
        earlier = [d for d in others if d.started_at is not None or _place(d) < _place(mine)]
        return min(earlier, key=_place).id if earlier else ""

    def companions(self, deployment: Deployment) -> tuple[Companion, ...]:
        return self._bundles.companions(deployment, self.runs)

    def one_at_a_time(self, deployment: Deployment) -> AbstractAsyncContextManager[None]:
        return self._bundles.one_at_a_time(deployment)

    def joins(self, run: Run, instance: str) -> None:
        self._by_instance.setdefault(instance, set()).add(run.id)

    def moved(self, deployment: Deployment) -> None:
        for id in deployment.together:
            if id in self.runs:
                self.runs[id].wake()

    async def begin_rollback(self, run: Run, decision: Decision, wanted: Rollback) -> tuple[str, list[Change]]:
        wanted = replace(wanted, revision=await self.newly_signed(decision.deployment.application, wanted.revision))
        serial = await self.store.next_serial()
        given, now = (run.image.last_good_parameters, run.image.last_good_appspec), self.clock.now()
        deployment, targets = rollback_rows(decision.deployment, run.image.targets, wanted, *given, serial, now)
        return deployment.id, [Put(deployment), *(Put(t) for t in targets)]

    async def newly_signed(self, application: str, revision: Revision) -> Revision:
        """With the signature that was kept last: the one of its first deployment may have expired since."""
        stored = await self.store.revision(application, revision.identity)
        signed = stored.revision.signed if stored else None
        return replace(revision, signed=signed) if signed else revision

    def ended(self, run: Run) -> None:
        deployment = run.image.deployment
        log.info("deployment ended", deployment_id=run.id, status=str(deployment.status), code=deployment.error_code)
        del self.runs[run.id]
        self._bundles.ended(deployment)
        for instance in run.image.targets:
            self._by_instance.get(instance, set()).discard(run.id)
            if not self._watching(instance, deployment.group_id):
                self.agents.send(instance, Unwatch(self.epoch, deployment.group_id))
        if deployment.rolled_back_by:
            self._coming[deployment.group_id] = deployment.rolled_back_by
            self._spawn(self._take_up_coming(deployment.group_id, deployment.rolled_back_by))
        self.launches.wake()
        self._wake_all()

    def _wake_all(self) -> None:
        for run in self.runs.values():
            run.wake()

    async def _take_up_coming(self, group_id: str, deployment_id: str) -> None:
        """The rollback that was written with the end of its deployment. Nothing of the group starts before it."""
        while deployment_id not in self.runs:
            try:
                deployment = await self.store.deployment(deployment_id)
                if deployment is None or deployment.status in ENDED:
                    break
                await self.take_up(deployment)
            except Unavailable as err:
                log.warning(
                    "a rollback cannot be read and is tried again", deployment_id=deployment_id, why=err.message
                )
                await asyncio.sleep(1.0)
        self._coming.pop(group_id, None)
        self._wake_all()

    def busy(self, instance: str) -> str:
        return min(self._by_instance.get(instance, ()), default="")

    def _watching(self, instance: str, group_id: str) -> bool:
        ids = self._by_instance.get(instance, set())
        return any(self.runs[i].image.deployment.group_id == group_id for i in ids)

    def _woken(self, instance: str) -> None:
        for run_id in self._by_instance.get(instance, ()):
            self.runs[run_id].wake()

    # What agents say

    async def connected(self, instance: str, hello: Hello, session: Session) -> None:
        """An agent is there: record what it has installed, then send it everything that is wanted."""
        changes = [Put(installed(instance, state)) for state in hello.groups]
        if changes:
            await self.store.write(*changes, epoch=self.epoch)
        about = {"agent_version": hello.agent_version, "features": hello.features, "host": hello.host}
        seen = about | {"last_seen": self.clock.now()}
        await amend(self.store, instance, lambda row: replace(row, **seen))
        self.agents.connect(instance, session)
        self.upgrades.connected(instance)
        self.launches.connected()
        if not self._by_instance.get(instance):
            self._wake_all()  # somebody may be waiting for new instances
        for run_id in list(self._by_instance.get(instance, ())):
            run = self.runs[run_id]
            for state in hello.groups:
                self._note_installed(run, installed(instance, state))
            run.greet(instance)
        for row in await self.store.open_commands(instance):
            if row.command.deployment_id not in self.runs:
                self.agents.send(instance, CancelCommand(self.epoch, row.command.id))

    def disconnected(self, instance: str, session: Session) -> None:
        self.agents.disconnect(instance, session)
        self.upgrades.changed(instance)

    def reading(self, instance: str, message: Heartbeat | Observed) -> None:
        if isinstance(message, Observed):
            self.agents.observed(instance, message)
        else:
            self.agents.heard(instance, message)

    async def renew(self, instance: str, csr: str) -> FromCoordinator:
        """A new certificate for the same name. The API's PKI issues it."""
        if self._issue is None:
            return Unsupported("RenewCertificate")
        return await self._issue(instance, csr)

    async def report(self, instance: str, *reports: Report) -> None:
        """Makes reports durable, those on one command together; the caller acknowledges the last of them afterwards.

        Raises ContractViolation for one on a command that is not this instance's.
        """
        self.agents.heard(instance)
        for command_id, of_command in groupby(reports, lambda report: report.command_id):
            deployment_id, row = await self._command(instance, command_id)
            if row is not None:
                await self._record(deployment_id, row, list(of_command))

    async def _record(self, deployment_id: str, row: CommandRow, reports: list[Report]) -> None:
        told = Told(row, await self._order(deployment_id))
        for report in reports:
            if getattr(report, "event", "") not in ("", *row.command.events):
                log.warning("report on an event that was not asked for", instance=row.instance, command=row.command.id)
            elif isinstance(report, Output):
                self.outputs.append(deployment_id, row.instance, report.event, report.offset, report.data)
            else:
                told.take(report, self.clock.now())
        if changes := told.changes():
            await self.store.write(*changes, epoch=self.epoch)
        if (run := self.runs.get(deployment_id)) is not None:
            self._take_over(run, told)

    def _take_over(self, run: Run, told: Told) -> None:
        """Into the image what was committed."""
        run.image.commands[told.row.instance, told.row.stage] = told.row
        if told.installed is not None:
            self._note_installed(run, told.installed)
        if told.ended:
            run.wake()
        run.told()

    def _note_installed(self, run: Run, row: Installed) -> None:
        if row.group_id == run.image.deployment.group_id:
            run.image.installed[row.instance] = row

    async def _command(self, instance: str, command_id: str) -> tuple[str, CommandRow | None]:
        """The command's row, when it is one of this instance's: ids are `deployment.instance.stage`."""
        deployment_id, _, rest = command_id.partition(".")
        owner, _, stage = rest.rpartition(".")
        if owner != instance or not stage.isdigit():
            raise ContractViolation(f"{instance} reports on a command that is not its own: {command_id[:100]!r}")
        run = self.runs.get(deployment_id)
        commands = run.image.commands if run else await self.store.commands(deployment_id)
        return deployment_id, commands.get((instance, int(stage)))

    async def _order(self, deployment_id: str) -> dict[str, int]:
        run = self.runs.get(deployment_id)
        if run is not None:
            return run.positions
        deployment = await self.store.deployment(deployment_id)
        return positions(deployment) if deployment else {}

    # What people ask

    def reasons(self, deployment_id: str) -> tuple[Reason, ...]:
        run = self.runs.get(deployment_id)
        return run.decision.reasons if run and run.decision else ()

    def reasons_now(self, deployment_id: str) -> tuple[Reason, ...]:
        """The same as of this moment: events that need no decision are not waited for."""
        run = self.runs.get(deployment_id)
        return run.reasons() if run else ()

    def in_service(self, deployment_id: str) -> dict[str, bool | None]:
        run = self.runs.get(deployment_id)
        return run.decision.in_service if run and run.decision else {}

    async def changes(self, deployment_id: str) -> AsyncIterator[None]:
        """Yields at once, after each change, at least every ALIVE seconds, and once when the deployment has ended."""
        run = self.runs.get(deployment_id)
        if run is None:
            yield
            return
        event = run.listen()
        try:
            while deployment_id in self.runs:
                event.clear()
                yield
                await _within(event, ALIVE)
            yield
        finally:
            run.unlisten(event)


def _place(deployment: Deployment) -> tuple[bool, int]:
    return (not deployment.rollback_of, deployment.serial)


async def _within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
