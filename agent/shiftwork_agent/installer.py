"""Revisions on this host: brought here, checked, installed, remembered per deployment group."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import stat
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from shiftwork_agent.arrival import Arrival
from shiftwork_agent.disk import Directories, opened
from shiftwork_agent.fetch.target import Sink
from shiftwork_agent.install import strict
from shiftwork_agent.install.apply import Applier, GroupFiles, Step
from shiftwork_agent.install.host import RealHost, listing
from shiftwork_agent.install.model import FORMAT, Change, Installed, Plan
from shiftwork_agent.install.plan import plan
from shiftwork_agent.install.roots import within
from shiftwork_agent.install.wanted import Accounts, wanted
from shiftwork_agent.layout import safe_name
from shiftwork_agent.store import Store
from shiftwork_agent.trust import Admitted, Trust
from shiftwork_contract.appspec import APPSPEC_NAMES, ServerAppSpec, appspec_name, parse_server
from shiftwork_contract.errors import AppSpecError, InvalidRequest, ShiftworkError
from shiftwork_contract.lifecycle import RUNS_INSTALLED_REVISION, LifecycleEvent
from shiftwork_contract.messages import Command, GroupState
from shiftwork_contract.place import shown
from shiftwork_contract.revision import Revision
from shiftwork_contract.yamlmarks import MAX_BYTES

log = logging.getLogger(__name__)

SCRIPTS_MAY_CHANGE = {"MissingSource", "FileExists", "UnknownAccount"}
"""Codes of what a script that runs before Install can put right: free a path, make an account, write a file."""


class Fetches(Protocol):
    async def fetch(self, revision: Revision, sink: Sink) -> None: ...


class Installer:
    """Commands of one group come one at a time; different groups may overlap, but for the moment in which files change
    places: they may share directories, and a plan holds only for what it saw."""

    def __init__(
        self,
        state: Path,
        install_root: Path,
        fetcher: Fetches,
        *,
        store: Store | None = None,
        accounts: Accounts | None = None,
        step: Step = lambda name: None,
        trust: Trust | None = None,
        destinations: Sequence[str] = (),
    ) -> None:
        self._groups, self._root, self._fetcher, self._step = state / "groups", install_root, fetcher, step
        self.store = store or Store(state)
        self._accounts, self._trust, self._destinations = accounts or Accounts(), trust, destinations
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._in_use: defaultdict[str, int] = defaultdict(int)
        self._on_disk = threading.Lock()

    async def prepare(self, command: Command, *, serving: bool = False) -> None:
        """Afterwards the revision is in the store, verified, and its AppSpec and install plan hold.

        Nothing that serves is touched. What a BeforeInstall script may still put right is left to `install` to judge;
        with `compat: strict` all of AppSpec and plan is left to the events that need them. `serving`: the group may
        still run from the very tree of this revision, so it is not replaced, whatever scripts have made of it.
        """
        await self._prepare(command, serving, self._check if command.compat != "strict" else None)

    async def bring(self, command: Command, *, serving: bool = False) -> None:
        """Afterwards the revision is in the store, verified. `check` says whether it can be installed."""
        await self._prepare(command, serving, None)

    async def _prepare(self, command: Command, serving: bool, check: Callable[[Command], None] | None) -> None:
        revision, admitted = command.revision, await self.admit(command)
        with self._using(revision.identity):
            async with self._fetching[revision.identity]:
                if await asyncio.to_thread(self._needs_fetching, command, serving):
                    await self._bring(revision)
            await asyncio.to_thread(self.store.touch, revision.identity)
            if check is not None:
                await asyncio.to_thread(check, command)
            await asyncio.to_thread(self._prune, command)
        if admitted and self._trust:
            await self._trust.accept(admitted, self._installed_trees)

    async def admit(self, command: Command, *, installed: bool = False) -> Admitted | None:
        """Raises InvalidRequest unless this host's owner lets the command's revision run here; changes nothing. With
        `installed` it is about the scripts of what the group has, and only what the command gives them is judged."""
        if self._trust is None:
            return None
        if installed:
            self._trust.admit_variables(command)
            return None
        about = await asyncio.to_thread(self.store.about, command.revision.identity)
        return await self._trust.admit(command, about.tree if about else "", self._installed_trees)

    async def check(self, command: Command) -> None:
        """Raises AppSpecError, or InvalidRequest for a plan that no script before Install can put right."""
        with self._using(command.revision.identity):
            await asyncio.to_thread(self._check, command)

    async def install(self, command: Command) -> None:
        """Afterwards the group has this revision; if it raises, it has what it had before, byte for byte."""
        if self.store.about(command.revision.identity) is None:
            await self.prepare(command)
        else:
            await self.admit(command)
        with self._using(command.revision.identity):
            await asyncio.to_thread(self._install, command)

    def bundle_dir(self, identity: str) -> Path:
        """Where the revision is unpacked; hooks run there."""
        return self.store.tree(identity)

    def appspec(self, command: Command, *, installed: bool = False) -> ServerAppSpec:
        """The command's revision's, or the installed one's, found and read as the command that installed it did.

        Raises AppSpecError; InvalidRequest where the revision is not on this host.
        """
        if not installed:
            return self._appspec(command.revision.identity, command.appspec, command.compat)
        former = self._files(command.group_id).installed(command.group_id)
        return self._appspec(former.installed, former.appspec, former.compat)

    def _appspec(self, identity: str, name: str, compat: str) -> ServerAppSpec:
        if self.store.about(identity) is None:
            raise InvalidRequest(f"cannot read the AppSpec of {identity}: this host does not have the revision")
        names = (appspec_name(name),) if name else APPSPEC_NAMES
        with Directories(str(self.store.tree(identity))) as tree:
            for candidate in names:
                text = _read(tree, candidate)
                if text is not None:
                    return parse_server(text, candidate, strict=compat == "strict")
        raise AppSpecError(
            f"the bundle has no AppSpec by this name; add {names[0]} with `version: 0.0` and `os: linux`", file=names[0]
        )

    def installed(self, group_id: str) -> GroupState:
        """What the group has on this host; empty where it never installed anything."""
        return _state(self._files(group_id).installed(group_id))

    def groups(self) -> list[GroupState]:
        names = sorted(path.name for path in self._groups.iterdir()) if self._groups.is_dir() else []
        return [state for name in names if (state := self.installed(name)).installed]

    async def recover(self) -> None:
        """At start, before any command: ends every install that a kill has cut, one way or the other."""
        await asyncio.to_thread(self.store.clear_staging)
        await self.recover_groups()

    async def recover_groups(self) -> None:
        """As `recover`, while something is in the store's staging directory."""
        await asyncio.to_thread(self._recover_all)

    def _recover_all(self) -> None:
        for path in sorted(self._groups.iterdir()) if self._groups.is_dir() else []:
            try:
                self._recover(GroupFiles(path))
            except (OSError, ShiftworkError):
                log.exception("cannot end the interrupted install", extra={"group_id": path.name})

    def _recover(self, files: GroupFiles) -> None:
        files.tidy()
        change = files.change()
        if change is None:
            return
        log.info("ending an interrupted install", extra={"group_id": change.after.group_id, "phase": files.phase()})
        Applier(self._root, files, change, self._step).recover()

    def _needs_fetching(self, command: Command, serving: bool) -> bool:
        """A tree that scripts have changed is brought anew, unless a group that may be serving runs from it."""
        identity = command.revision.identity
        if self.store.about(identity) is None:
            return True
        running = {state.installed for state in self.groups() if serving or state.group_id != command.group_id}
        if identity in running or self._in_use[identity] > 1:
            return False
        return not self.store.is_pristine(identity)

    async def _bring(self, revision: Revision) -> None:
        with _translated(f"cannot unpack the bundle from {shown(revision.url)}"), self.store.staging() as staging:
            arrival = Arrival(lambda content: self.store.add(cast(BinaryIO, content), revision, staging))
            try:
                await self._fetcher.fetch(revision, arrival)
                await arrival.finish()
            finally:
                await arrival.close()

    def _check(self, command: Command) -> None:
        appspec = self.appspec(command)
        for warning in appspec.warnings:
            log.warning("the AppSpec says something that has no effect", extra={"warning": warning})
        with self._on_disk, _translated("cannot check the install plan"):
            try:
                self._plan(command, appspec, "check")
            except InvalidRequest as err:
                if err.code not in SCRIPTS_MAY_CHANGE or not self._scripts_before_install(command, appspec):
                    raise
                log.info("left to the Install event to judge", extra={"problem": err.message})

    def _scripts_before_install(self, command: Command, appspec: ServerAppSpec) -> bool:
        installed = self.installed(command.group_id).installed
        here = installed and self.store.about(installed)
        former = self.appspec(command, installed=True) if here else ServerAppSpec()
        return bool(
            appspec.hooks_for(LifecycleEvent.BEFORE_INSTALL)
            or any(former.hooks_for(event) for event in RUNS_INSTALLED_REVISION)
        )

    def _plan(self, command: Command, appspec: ServerAppSpec, token: str) -> Plan:
        host = RealHost(self._root)
        owned = {one.path: one for one in self._files(command.group_id).installed().owned}
        behavior = appspec.file_exists_behavior or command.file_exists_behavior
        whose = partial(self._whose, command.group_id)
        resolve, tree = within(self._destinations, host.resolve), self.bundle_dir(command.revision.identity)
        if command.compat != "strict":
            return plan(
                wanted(appspec, listing(tree), resolve, self._accounts), owned, host, behavior, token, whose=whose
            )
        bundle, real = strict.followed(tree)
        found = strict.as_codedeploy(wanted(appspec, bundle, resolve, self._accounts), real)
        return plan(found, owned, host, behavior, token, keep_originals=False, whose=whose)

    def _whose(self, group_id: str, path: str) -> str:
        """The group besides this one that has installed the file or link at `path`, with the deployment that did."""
        for directory in sorted(self._groups.iterdir()) if self._groups.is_dir() else []:
            found = GroupFiles(directory).installed(directory.name)
            if found.group_id != group_id and any(one.path == path and one.kind != "dir" for one in found.owned):
                return f"the deployment group {found.group or found.group_id} (deployment {found.installed_by})"
        return ""

    def _install(self, command: Command) -> None:
        identity = command.revision.identity
        files = self._files(command.group_id)
        with self._on_disk, _translated(f"cannot install {identity}"):
            files.create()
            self._recover(files)
            self._root.mkdir(parents=True, exist_ok=True)
            made = self._plan(command, self.appspec(command), secrets.token_hex(4))
            after = Installed(
                FORMAT, command.group_id, identity, command.deployment_id, command.sequence, made.owned,
                command.appspec, command.compat, f"{command.application}/{command.group}",
            )  # fmt: skip
            Applier(self._root, files, Change(FORMAT, str(self.bundle_dir(identity)), made, after), self._step).run()

    def _installed_trees(self) -> set[str]:
        found = (self.store.about(state.installed) for state in self.groups())
        return {about.tree for about in found if about}

    def _prune(self, command: Command) -> None:
        installed = {state.installed for state in self.groups()}
        used = {identity for identity, count in self._in_use.items() if count}
        with _translated("cannot remove old revisions"):
            self.store.prune(installed | used | set(command.keep) | {command.revision.identity})

    def _files(self, group_id: str) -> GroupFiles:
        return GroupFiles(self._groups / safe_name(group_id))

    @contextlib.contextmanager
    def _using(self, identity: str) -> Iterator[None]:
        self._in_use[identity] += 1
        try:
            yield
        finally:
            self._in_use[identity] -= 1


def _read(tree: Directories, path: str) -> bytes | None:
    """The text of a regular file that no link leads to; None for anything else."""
    try:
        parent, name = tree.at(path)
        with opened(name, os.O_RDONLY | os.O_NONBLOCK, parent) as file:
            regular = stat.S_ISREG(os.fstat(file).st_mode)
            return os.read(file, MAX_BYTES + 1) if regular else None
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        place = f" ({err.filename})" if err.filename else ""
        raise ShiftworkError(f"{what}: {err.strerror or err}{place}", code="InstallFailed") from err


def _state(installed: Installed) -> GroupState:
    return GroupState(installed.group_id, installed.installed, installed.installed_by, installed.last_sequence)
