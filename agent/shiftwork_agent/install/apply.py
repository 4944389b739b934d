"""Doing what a plan says, so that a kill at any point leaves the whole former state or leads to the whole new one.

    staging     everything new is made beside its place, under names that start with .shiftwork-; a kill: all of it goes
    swapping    what was there is kept aside, what is new is renamed into place; a kill: the rest is done at start
    reverting   a swap failed: what was kept aside goes back; a kill: the rest is done at start
    committed   what was kept aside is removed

The change is written down whole before the first phase, and each phase before its first step.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from shiftwork_agent.disk import Directories, copy_content, opened, remove, syncfs, write_all
from shiftwork_agent.install import looks
from shiftwork_agent.install.host import look
from shiftwork_agent.install.model import FORMAT, Adjust, Change, Drop, Installed, Put
from shiftwork_agent.layout import sync_directory, unfinished, write_atomically
from shiftwork_contract.errors import ShiftworkError

Step = Callable[[str], None]
T = TypeVar("T")
PHASES = ("swapping", "reverting", "committed")
"""What comes after staging, which has no file."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class GroupFiles:
    """What a group has in the state directory: installed.json, saved originals, and the change under way."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.originals = directory / "originals"

    def create(self) -> None:
        self.originals.mkdir(parents=True, exist_ok=True, mode=0o700)

    def tidy(self) -> None:
        """Removes what a kill has left of a write, and a phase without a change, which means nothing."""
        for name in ("installed.json", "change.json"):
            unfinished(self.directory / name).unlink(missing_ok=True)
        if not (self.directory / "change.json").exists():
            self._forget_phase()

    def installed(self, group_id: str = "") -> Installed:
        try:
            raw = (self.directory / "installed.json").read_bytes()
        except FileNotFoundError:
            return Installed(FORMAT, group_id)
        found = _decoded(raw, Installed, self.directory / "installed.json")
        if found.format > FORMAT:
            raise ShiftworkError(
                f"cannot read {self.directory}/installed.json: its format {found.format} is newer than {FORMAT};"
                " run the agent version that wrote it"
            )
        return found

    def save_installed(self, installed: Installed) -> None:
        write_atomically(self.directory / "installed.json", msgspec.json.encode(installed))

    def change(self) -> Change | None:
        try:
            raw = (self.directory / "change.json").read_bytes()
        except FileNotFoundError:
            return None
        return _decoded(raw, Change, self.directory / "change.json")

    def begin(self, change: Change) -> None:
        self._forget_phase()
        try:
            for phase in PHASES:
                self._make_ready(phase)
            write_atomically(self.directory / "change.json", msgspec.json.encode(change))
        except OSError:
            self._forget_phase()
            raise

    def phase(self) -> str:
        try:
            return (self.directory / "phase").read_text()
        except FileNotFoundError:
            return "staging"

    def enter(self, phase: str) -> None:
        """A rename and nothing else: on a full disk there must be a way back. Version 0.1.0 made nothing ready."""
        if self.phase() == phase:
            return
        place = self.directory / "phase"
        try:
            self._ready(phase).rename(place)
            sync_directory(self.directory)
        except FileNotFoundError:
            write_atomically(place, phase.encode())

    def _ready(self, phase: str) -> Path:
        return self.directory / f".phase.{phase}"

    def _make_ready(self, phase: str) -> None:
        """Its name is durable with the change's."""
        descriptor = os.open(self._ready(phase), _CREATE | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, phase.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _forget_phase(self) -> None:
        found = [place for place in self.directory.iterdir() if "phase" in place.name]
        for place in found:
            place.unlink()
        if found:
            sync_directory(self.directory)

    def end(self, step: Step) -> None:
        """The change first: a phase without a change means nothing."""
        (self.directory / "change.json").unlink(missing_ok=True)
        sync_directory(self.directory)
        step("forget the phase")
        self._forget_phase()


class Applier:
    """Applies one change of one group below `root`. `step` is called before every single change on disk."""

    def __init__(self, root: Path, files: GroupFiles, change: Change, step: Step = lambda name: None) -> None:
        self._root, self._files, self._change, self._step = root, files, change, step
        self._plan = change.plan

    def run(self) -> None:
        """Ends with the new state, or raises with the former one untouched or put back."""
        self._step("begin")
        self._files.begin(self._change)
        with self._directories():
            try:
                self._stage()
                self._step("swapping")
                self._files.enter("swapping")
                self._swap()
                self._enter_installed()
            except (OSError, ShiftworkError):
                self._go_back()
                raise
            self._commit()

    def recover(self) -> None:
        """After a kill: goes on to the new state if all of it had been staged, else back to the former one."""
        phase = self._files.phase()
        with self._directories():
            if phase == "committed":
                self._clean()
            elif phase == "swapping":
                try:
                    self._swap()
                    self._enter_installed()
                except (OSError, ShiftworkError):
                    self._go_back()
                    raise
                self._commit()
            else:
                self._revert()

    @contextlib.contextmanager
    def _directories(self) -> Iterator[None]:
        with Directories(str(self._root)) as here:
            self._here = here
            yield

    def _stage(self) -> None:
        with Directories(self._change.bundle) as bundle:
            for put in self._plan.puts:
                if put.save:
                    self._save(put)
                self._step(f"stage {put.path}")
                self._make(put, bundle)
        for put in reversed(self._plan.puts):
            if put.kind == "dir":
                self._finish_directory(put)
        self._sync()

    def _make(self, put: Put, bundle: Directories) -> None:
        if put.original:
            with Directories(str(self._files.originals)) as originals:
                self._make_from(put, originals, put.original, exact=True)
        elif put.kind == "dir":
            parent, name = self._here.at(put.staged)
            os.mkdir(name, 0o700, dir_fd=parent)
        else:
            self._make_from(put, bundle, put.source, exact=False)

    def _make_from(self, put: Put, source: Directories, path: str, *, exact: bool) -> None:
        parent, name = self._here.at(put.staged)
        holder, source_name = source.at(path)
        found = os.stat(source_name, dir_fd=holder, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            _copy_link(source_name, holder, name, parent)
            looks.apply_to_link(name, parent, put.look)
        else:
            _copy_file(source_name, holder, name, parent, None if exact else put)

    def _finish_directory(self, put: Put) -> None:
        self._step(f"finish {put.path}")
        looks.apply(self._here.open(put.staged), put.look, put.mode)

    def _save(self, put: Put) -> None:
        self._step(f"save {put.path}")
        parent, name = self._here.at(put.path)
        with Directories(str(self._files.originals)) as originals:
            holder = originals.open("")
            if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                _copy_link(name, parent, put.save, holder)
            else:
                _copy_file(name, parent, put.save, holder, None)
            syncfs(holder)

    def _swap(self) -> None:
        """Can be done again after any part of it."""
        for drop in self._plan.drops:
            self._aside(drop)
        for put in self._plan.puts:
            if put.swap and self._exists(put.staged):
                self._aside(put)
                self._step(f"swap {put.path}")
                self._rename(put.staged, put.path)
        for adjust in self._plan.adjusts:
            self._step(f"adjust {adjust.path}")
            looks.apply(self._here.open(adjust.path), adjust.look, adjust.before.mode)

    def _aside(self, one: Put | Drop) -> None:
        """A file is linked, so that its path is never without one; a directory has to move."""
        here = look(self._here, one.path) if one.aside else None
        if here is None or self._exists(one.aside):
            return
        self._step(f"aside {one.path}")
        if here.kind != "dir" and isinstance(one, Put) and one.kind != "dir":
            with contextlib.suppress(OSError, NotImplementedError):
                parent, name = self._here.at(one.path)
                aside = posixpath.basename(one.aside)
                os.link(name, aside, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
                return
        self._rename(one.path, one.aside)

    def _enter_installed(self) -> None:
        self._sync()
        self._step("installed")
        self._files.save_installed(self._change.after)

    def _go_back(self) -> None:
        """Unless installed.json is the new one already: then a later start goes on forward."""
        if self._files.installed() != self._change.after:
            self._revert()

    def _commit(self) -> None:
        self._step("committed")
        self._files.enter("committed")
        self._clean()

    def _clean(self) -> None:
        for aside in (*(drop.aside for drop in self._plan.drops), *(put.aside for put in self._plan.puts)):
            if aside:
                self._remove(aside)
        for path in self._plan.leave:
            self._step(f"leave {path}")
            with contextlib.suppress(OSError):
                parent, name = self._here.at(path)
                os.rmdir(name, dir_fd=parent)
        used = {owned.original for owned in self._change.after.owned}
        self._forget_originals(path.name for path in list(self._files.originals.iterdir()) if path.name not in used)
        self._step("end")
        self._files.end(self._step)

    def _revert(self) -> None:
        """Can be done again after any part of it."""
        swapped = self._files.phase() != "staging"
        if swapped:
            self._step("reverting")
            self._files.enter("reverting")
            self._unswap()
        for put in self._plan.puts:
            if put.swap:
                self._remove(put.staged)
        self._forget_originals(put.save for put in self._plan.puts if put.save)
        self._step("end")
        self._files.end(self._step)

    def _unswap(self) -> None:
        for adjust in reversed(self._plan.adjusts):
            self._readjust(adjust)
        for put in reversed(self._plan.puts):
            if put.swap:
                self._put_back(put)
        for drop in self._plan.drops:
            if self._exists(drop.aside):
                self._step(f"put back {drop.path}")
                self._rename(drop.aside, drop.path)

    def _put_back(self, put: Put) -> None:
        if self._exists(put.staged):
            if put.aside and self._exists(put.aside):
                if self._exists(put.path):
                    self._remove(put.aside)
                else:
                    self._step(f"put back {put.path}")
                    self._rename(put.aside, put.path)
        elif put.aside and self._exists(put.aside):
            if "dir" in (put.kind, _kind(self._here, put.aside)):
                self._remove(put.path)
            self._step(f"put back {put.path}")
            self._rename(put.aside, put.path)
        elif not put.aside:
            self._remove(put.path)

    def _readjust(self, adjust: Adjust) -> None:
        self._step(f"readjust {adjust.path}")
        before = adjust.before
        descriptor = self._here.open(adjust.path)
        if adjust.look.uid is not None or adjust.look.gid is not None:
            os.fchown(descriptor, before.uid, before.gid)
        os.fchmod(descriptor, before.mode)

    def _forget_originals(self, names: Iterator[str]) -> None:
        for name in names:
            self._step(f"forget {name}")
            (self._files.originals / name).unlink(missing_ok=True)

    def _exists(self, path: str) -> bool:
        return look(self._here, path) is not None

    def _rename(self, path: str, to: str) -> None:
        parent, name = self._here.at(path)
        os.rename(name, posixpath.basename(to), src_dir_fd=parent, dst_dir_fd=parent)
        self._here.forget()

    def _remove(self, path: str) -> None:
        if not self._exists(path):
            return
        self._step(f"remove {path}")
        self._here.forget()
        parent, name = self._here.at(path)
        remove(name, parent)

    def _sync(self) -> None:
        """All file systems that got something, once each."""
        devices = {}
        for put in self._plan.puts:
            parent, _ = self._here.at(put.staged if self._exists(put.staged) else put.path)
            device = os.fstat(parent).st_dev
            if device not in devices:
                devices[device] = put.path
                syncfs(parent)


def _decoded(raw: bytes, kind: type[T], path: Path) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as err:
        raise ShiftworkError(
            f"cannot read {path}: {err}; put it back from a backup, or move {path.parent} away: the group then counts"
            " as never installed, and what it has installed as foreign",
            code="InvalidState",
        ) from err


def _kind(directories: Directories, path: str) -> str:
    found = look(directories, path)
    return found.kind if found else ""


def _copy_link(name: str, parent: int, to: str, holder: int) -> None:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    os.symlink(os.readlink(name, dir_fd=parent), to, dir_fd=holder)
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(to, found.st_uid, found.st_gid, dir_fd=holder, follow_symlinks=False)
    os.utime(to, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=holder, follow_symlinks=False)


def _copy_file(name: str, parent: int, to: str, holder: int, put: Put | None) -> None:
    """With all attributes, or with the look that `put` asks for."""
    with opened(name, os.O_RDONLY | os.O_NONBLOCK, parent) as source, opened(to, _CREATE, holder) as target:
        found = os.fstat(source)
        copy_content(source, target)
        if put is None:
            looks.copy_attributes(source, target)
        else:
            looks.apply(target, put.look, put.mode)
            os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))
