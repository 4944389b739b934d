"""One deployment on this host without a coordinator: the same installer, the same shim, the same order of events."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shiftwork_agent import hooks
from shiftwork_agent.clock import Clock
from shiftwork_agent.fetch.file import read
from shiftwork_agent.fetch.target import Sink
from shiftwork_agent.hooks import EventRun, Shim
from shiftwork_agent.installer import Installer
from shiftwork_agent.layout import Layout, safe_name
from shiftwork_agent.trust import Policy, Trust
from shiftwork_contract.appspec import APPSPEC_NAMES, appspec_name
from shiftwork_contract.archive import Inspection, Limits, inspect, pack
from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_contract.lifecycle import RUNS_INSTALLED_REVISION, EventStatus, LifecycleEvent
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import BundleType, Revision, Signed, bundle_type

E = LifecycleEvent
DEFAULT_EVENTS: tuple[str, ...] = (
    E.BEFORE_BLOCK_TRAFFIC, E.AFTER_BLOCK_TRAFFIC, E.APPLICATION_STOP, E.DOWNLOAD_BUNDLE, E.BEFORE_INSTALL, E.INSTALL,
    E.AFTER_INSTALL, E.APPLICATION_START, E.VALIDATE_SERVICE, E.BEFORE_ALLOW_TRAFFIC, E.AFTER_ALLOW_TRAFFIC,
)  # fmt: skip
DONE_HERE = (E.DOWNLOAD_BUNDLE, E.INSTALL)
OUTPUT_LIMIT = 64 << 20
KEEP_RUNS = 20
"""Deployments whose output stays on disk."""


class Wish(msgspec.Struct, frozen=True):
    """What the caller asked for. Empty `events` are all, in the standard order; empty `type` is told from the name."""

    bundle: Path
    events: tuple[str, ...] = ()
    application: str = "local"
    group: str = "LocalFleet"
    file_exists_behavior: str = "DISALLOW"
    appspec: str = ""
    compat: Literal["", "strict"] = ""
    type: str = ""
    install_root: str = "/"
    signed: Signed | None = None
    policy: Policy = Policy()
    destinations: tuple[str, ...] = ()


class EventResult(msgspec.Struct, rename="camel"):
    lifecycle_event_name: str
    status: EventStatus = EventStatus.PENDING
    start_time: float | None = None
    end_time: float | None = None
    diagnostics: Diagnostics = Diagnostics()


class Deployment(msgspec.Struct, rename="camel"):
    deployment_id: str
    status: Literal["Succeeded", "Failed", "InProgress"]
    lifecycle_events: list[EventResult]


class Verdict(msgspec.Struct, frozen=True):
    """The event that fails, known beforehand, and why."""

    event: str
    problem: str


NO_REVISION = Revision("sha256:" + "0" * 64, "file:")
"""Stands for a bundle that cannot be read."""

Told = Callable[[EventResult, Path], None]
"""Called after each event with its result and its directory."""


class Source:
    """The bundle as the fetcher of this one deployment sees it."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    async def fetch(self, revision: Revision, sink: Sink) -> None:
        await read(self._archive.absolute().as_uri(), sink, 1 << 62)


class LocalRun:
    """`run` deploys once. What is no valid request raises InvalidRequest before anything on the host is touched."""

    def __init__(self, wish: Wish, layout: Layout, clock: Clock, told: Told = lambda result, directory: None) -> None:
        self._wish, self._layout, self._clock, self._told = wish, layout, clock, told
        self._names = (appspec_name(wish.appspec),) if wish.appspec else APPSPEC_NAMES

    async def run(self) -> Deployment:
        wish = self._wish
        kind = _bundle_type(wish)
        events = ordered_events(wish.events)
        with self._installer(Path()).store.staging() as staging:
            archive = await asyncio.to_thread(_archived, wish.bundle, kind, staging)
            kind = BundleType.TGZ if kind is BundleType.DIRECTORY else kind
            try:
                with archive.open("rb") as content:
                    found = await asyncio.to_thread(inspect, content, kind, Limits(), appspec_names=self._names)
            except InvalidRequest as err:
                return await self._deploy(NO_REVISION, events, archive, Verdict(E.DOWNLOAD_BUNDLE, err.message))
            self._check(found)
            return await self._deploy(self._revision(found, kind), events, archive)

    def _revision(self, found: Inspection, kind: BundleType) -> Revision:
        return Revision(found.identity, "file:", bundle_type=kind, signed=self._wish.signed)

    def _installer(self, archive: Path) -> Installer:
        from shiftwork_agent.store import Store

        store = Store(self._layout.state, appspec_names=self._names)
        trust = Trust(self._wish.policy, self._layout.accepted, self._clock)
        return Installer(
            self._layout.state, Path(self._wish.install_root), Source(archive), store=store, trust=trust,
            destinations=self._wish.destinations,
        )  # fmt: skip

    def _check(self, found: Inspection) -> None:
        """A mistake in the call. What is wrong with the revision is told by the event that trips over it."""
        if found.appspec is None and self._wish.bundle.is_dir():
            raise InvalidRequest(
                f"cannot deploy {self._wish.bundle}: there is no {self._names[0]} in its root;"
                " add one with `version: 0.0` and `os: linux`, or name it with --appspec"
            )

    async def _deploy(
        self, revision: Revision, events: Sequence[str], archive: Path, verdict: Verdict | None = None
    ) -> Deployment:
        installer = self._installer(archive)
        await installer.recover_groups()
        command = self._command(installer, revision, events)
        deployment = Deployment(command.deployment_id, "InProgress", [EventResult(event) for event in events])
        self._forget_old_runs()
        events_run = EventRunner(command, installer, self._layout, self._wish, self._told, self._clock)
        await events_run.all(deployment, verdict)
        return deployment

    def _command(self, installer: Installer, revision: Revision, events: Sequence[str]) -> Command:
        name = _new_id()
        group_id = safe_name(f"{_plain(self._wish.application)}.{_plain(self._wish.group)}")
        return Command(
            id=name, deployment_id=name, group_id=group_id, application=self._wish.application, group=self._wish.group,
            sequence=installer.installed(group_id).last_sequence + 1, revision=revision, events=tuple(events),
            file_exists_behavior=self._wish.file_exists_behavior.upper(), appspec=self._wish.appspec,
            compat=self._wish.compat,
        )  # fmt: skip

    def _forget_old_runs(self) -> None:
        runs = sorted(self._layout.commands.glob("d-*-local"), key=lambda path: path.stat().st_mtime)
        for path in runs[: -KEEP_RUNS + 1]:
            shutil.rmtree(path, ignore_errors=True)


class EventRunner:
    """Runs the events of one deployment, one after the other, until one fails.

    The new revision is judged before the first script of the old one runs. A bad one fails the event that CodeDeploy
    fails, but no script runs before that: the old one goes on serving. With `compat: strict` it is not judged first.
    """

    def __init__(
        self, command: Command, installer: Installer, layout: Layout, wish: Wish, told: Told, clock: Clock
    ) -> None:
        self._command, self._installer, self._layout, self._wish = command, installer, layout, wish
        self._told, self._clock = told, clock
        self._shim: Shim | None = None

    async def all(self, deployment: Deployment, verdict: Verdict | None) -> None:
        verdict = verdict or (await self._verdict() if self._command.compat != "strict" else None)
        try:
            for result in deployment.lifecycle_events:
                if deployment.status == "Failed":
                    result.status = EventStatus.SKIPPED
                    continue
                await self._one(result, verdict)
                if result.status is EventStatus.FAILED:
                    deployment.status = "Failed"
            deployment.status = "Failed" if deployment.status == "Failed" else "Succeeded"
        finally:
            if self._shim is not None:
                await self._shim.close()

    async def _verdict(self) -> Verdict | None:
        """What is wrong with the new revision, and which event is to say so; None for nothing that can be known yet."""
        events = self._command.events
        event: str = E.DOWNLOAD_BUNDLE
        try:
            await self._installer.bring(self._command, serving=True)
            event = events[events.index(E.DOWNLOAD_BUNDLE) + 1]
            self._installer.appspec(self._command)
            event = E.INSTALL
            await self._installer.check(self._command)
            for event in events:
                self._scripts_of(event)
        except ShiftworkError as err:
            return Verdict(event, err.message)
        return None

    async def _one(self, result: EventResult, verdict: Verdict | None) -> None:
        event = result.lifecycle_event_name
        result.status, result.start_time = EventStatus.IN_PROGRESS, self._clock.wall()
        if verdict is not None and (event == verdict.event or self._command.compat != "strict"):
            self._judge(result, verdict)
        else:
            result.diagnostics = await self._run(event) or Diagnostics()
            failed = result.diagnostics.error_code is not ErrorCode.SUCCESS
            result.status = EventStatus.FAILED if failed else EventStatus.SUCCEEDED
        result.end_time = self._clock.wall()
        self._log(result)
        self._told(result, self._layout.event(self._command.id, event))

    def _judge(self, result: EventResult, verdict: Verdict) -> None:
        event = result.lifecycle_event_name
        if event == verdict.event:
            result.status = EventStatus.FAILED
            result.diagnostics = Diagnostics(ErrorCode.UNKNOWN_ERROR, "", verdict.problem)
        elif event == E.INSTALL or self._has_scripts(event):
            result.status = EventStatus.SKIPPED
            result.diagnostics = Diagnostics(
                message=f"not run, because {verdict.event} of this revision cannot succeed"
            )
        else:
            result.status = EventStatus.SUCCEEDED

    def _has_scripts(self, event: str) -> bool:
        try:
            return bool(self._scripts_of(event))
        except ShiftworkError:
            return False

    async def _run(self, event: str) -> Diagnostics | None:
        try:
            if event == E.DOWNLOAD_BUNDLE:
                await self._installer.bring(self._command)
            elif event == E.INSTALL:
                await self._installer.install(self._command)
            elif scripts := self._scripts_of(event):
                return await self._scripts(event, self._revision(event), scripts)
        except ShiftworkError as err:
            return Diagnostics(ErrorCode.UNKNOWN_ERROR, "", err.message or str(err))
        except OSError as err:
            return Diagnostics(ErrorCode.UNKNOWN_ERROR, "", f"cannot run {event}: {err}")
        return None

    def _runs_installed(self, event: str) -> bool:
        """As in CodeDeploy, also the events that stop a revision run the new one's scripts once its bundle is here."""
        events = self._command.events
        return event in RUNS_INSTALLED_REVISION and events.index(event) < events.index(E.DOWNLOAD_BUNDLE)

    def _revision(self, event: str) -> str:
        if self._runs_installed(event):
            return self._installer.installed(self._command.group_id).installed
        return self._command.revision.identity

    def _scripts_of(self, event: str) -> Sequence[hooks.Hook]:
        if event in DONE_HERE or not self._revision(event):
            return ()
        scripts = self._installer.appspec(self._command, installed=self._runs_installed(event)).hooks_for(event)
        if not scripts and event not in set(LifecycleEvent):
            raise InvalidRequest(
                f"cannot run {event}: it is no lifecycle event, and the AppSpec has no hook of that name"
            )
        return scripts

    def _log(self, result: EventResult) -> None:
        """One file with all that the deployment's scripts wrote; a failure points to it."""
        output = self._layout.event(self._command.id, result.lifecycle_event_name) / "output"
        if not output.exists():
            return
        log = scripts_log(self._layout, self._command.id)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with log.open("ab") as whole, output.open("rb") as part:
            whole.write(f"LifecycleEvent - {result.lifecycle_event_name}\n".encode())
            shutil.copyfileobj(part, whole)
        if result.status is EventStatus.FAILED:
            told = f"{result.diagnostics.message}; all output is in {log}"
            result.diagnostics = msgspec.structs.replace(result.diagnostics, message=told)

    async def _scripts(self, event: str, revision: str, scripts: Sequence[hooks.Hook]) -> Diagnostics:
        run = EventRun(
            self._layout.event(self._command.id, event), self._installer.bundle_dir(revision), scripts,
            hooks.clean_environment(self._environment(event)), self._command.event_limit, OUTPUT_LIMIT,
        )  # fmt: skip
        run.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shim = self._shim or Shim.start(run.directory.parent)
        self._shim.submit(run)
        try:
            result = await hooks.follow(self._shim, run.directory, run.output_limit, lambda size: None)
        except asyncio.CancelledError:
            self._shim.cancel()
            raise
        return hooks.diagnose(result, run, revision)

    def _environment(self, event: str) -> dict[str, str]:
        command, root = self._command, self._wish.install_root
        return {
            "APPLICATION_NAME": command.application,
            "DEPLOYMENT_ID": command.deployment_id,
            "DEPLOYMENT_GROUP_NAME": command.group,
            "DEPLOYMENT_GROUP_ID": command.group,
            "LIFECYCLE_EVENT": str(event),
        } | ({"SHIFTWORK_INSTALL_ROOT": root} if root != "/" else {})


def scripts_log(layout: Layout, deployment_id: str) -> Path:
    return layout.command(deployment_id) / "logs" / "scripts.log"


def ordered_events(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The events to run: those asked for, with DownloadBundle first and Install as early as can be if they are missing.

    Raises InvalidRequest for an order in which an event would run without what it needs.
    """
    if not asked:
        return DEFAULT_EVENTS
    for event in asked:
        if asked.count(event) > 1:
            raise InvalidRequest(f"cannot run {event} twice in one deployment; name it once")
        if event in (E.BLOCK_TRAFFIC, E.ALLOW_TRAFFIC):
            raise InvalidRequest(f"cannot run {event} here: the coordinator does it, and no script can")
        safe_name(event)
    events = asked if E.DOWNLOAD_BUNDLE in asked else (E.DOWNLOAD_BUNDLE, *asked)
    if E.INSTALL not in events:
        last = max(events.index(event) for event in (E.DOWNLOAD_BUNDLE, E.BEFORE_INSTALL) if event in events)
        events = (*events[: last + 1], E.INSTALL, *events[last + 1 :])
    _refuse_before(events, E.DOWNLOAD_BUNDLE, RUNS_INSTALLED_REVISION)
    _refuse_before(events, E.INSTALL, RUNS_INSTALLED_REVISION | {E.DOWNLOAD_BUNDLE, E.BEFORE_INSTALL})
    return events


def _refuse_before(events: tuple[str, ...], limit: str, allowed: frozenset[LifecycleEvent]) -> None:
    for event in events[: events.index(limit)]:
        if event not in allowed:
            raise InvalidRequest(f"cannot run {event} before {limit}: it needs the new revision; list it after {limit}")


def _bundle_type(wish: Wish) -> BundleType:
    if not wish.bundle.exists():
        raise InvalidRequest(f"cannot deploy {wish.bundle}: there is nothing by that name")
    kind = BundleType(wish.type) if wish.type else None
    if kind is None:
        kind = BundleType.DIRECTORY if wish.bundle.is_dir() else bundle_type(wish.bundle.name)
    if (kind is BundleType.DIRECTORY) != wish.bundle.is_dir():
        raise InvalidRequest(
            f"cannot deploy {wish.bundle} as {kind}: it is {'a' if wish.bundle.is_dir() else 'no'} directory"
        )
    return kind


def _archived(bundle: Path, kind: BundleType, staging: Path) -> Path:
    """The archive, copied, so that what was inspected is what is unpacked."""
    archive = staging / "bundle"
    if kind is BundleType.DIRECTORY:
        with archive.open("wb") as out:
            pack(bundle, out, level=0)
    else:
        shutil.copyfile(bundle, archive)
    return archive


def _new_id() -> str:
    return f"d-{''.join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(9))}-local"


def _plain(name: str) -> str:
    """`name` as a part of a file's name; other characters than letters, digits, _ and - become their number."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f"_{ord(c):x}" for c in name)
    if not plain or len(plain) > 60:
        raise InvalidRequest(f"cannot use the name {name[:80]!r}: 1 to 60 letters, digits, _ and - are possible")
    return plain
