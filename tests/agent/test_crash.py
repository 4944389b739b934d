"""A real process, killed before each system call that changes a file, with what it was writing torn: whatever it was
doing, the next start ends in the complete former or the complete new state, and goes on from there."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent.world import FILES, Tree, World, write

from shiftwork_agent.install.apply import GroupFiles
from shiftwork_contract.messages import Command

CHANGES = {
    "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "os.chown", "os.utime",
    "os.truncate", "os.setxattr",
}  # fmt: skip
"""What Python tells an audit hook just before it asks the kernel; `open` is told apart by its flags."""

OLD: Tree = {"app/same": "1", "app/gone/x": "1", "app/was_file": "1", "app/was_link": ("link", "x")}
NEW: Tree = {"app/same": ("2", 0o755), "app/was_file/now": "2", "app/was_link": "2", "app/foreign": "2",
             "app/foreign_link": "2", "app/link": ("link", "same")}  # fmt: skip
FOREIGN: Tree = {"srv/app/foreign": ("mine", 0o640), "srv/app/foreign_link": ("link", "/mine")}
SPEC = FILES + "file_exists_behavior: OVERWRITE\npermissions:\n  - object: /srv/app/same\n    mode: 600\n"
PRUNED: Tree = {"app/same": "0"}

Work = Callable[[World, Command], Coroutine[Any, Any, None]]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory, where syncing costs nothing: a process that is killed leaves what it wrote to the kernel."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield made
    shutil.rmtree(made)


async def deployed(world: World, command: Command) -> None:
    """All an agent does on disk for one deployment: start, fetch, unpack, check, prune, install."""
    installer = world.installer()
    await installer.recover()
    await installer.prepare(command)
    await installer.install(command)


class Killing:
    """An audit hook: kills this very process before the change of this number, or counts when it is negative."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_write or event in CHANGES:
            if self.count == self.at:
                self.at = -1
                tear()
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1


def tear() -> None:
    """Cuts what is open for writing to half: that much of it has come to the disk."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if str(descriptor.readlink()).startswith(("/dev/shm/", tempfile.gettempdir())):
                os.ftruncate(int(descriptor.name), os.fstat(int(descriptor.name)).st_size // 2)
        except OSError:
            continue  # read only, or a directory


def in_child(world: World, command: Command, at: int) -> int:
    """Deploys in a forked process that is killed at `at`; how many changes it made, or -1 when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            hook = Killing(at)
            sys.addaudithook(hook)
            asyncio.run(deployed(world, command))
            hook.at = -1
            os.write(writing, str(hook.count).encode())
        finally:
            os._exit(1)
    os.close(writing)
    said = os.read(reading, 20)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    assert said or os.WIFSIGNALED(status), "it failed instead of being killed"
    return int(said) if said else -1


class Scene:
    """A host before a deployment, copied for every kill."""

    def __init__(self, place: Path, new: Tree, appspec: str) -> None:
        self.place = place
        self.world = self.at(place / "before")
        asyncio.run(self._prepare(new, appspec))
        self.former = self.world.tree()
        done = self.copy("done")
        self.steps = in_child(done, self.command, -1)
        self.new = done.tree()
        assert self.former != self.new and self.steps > 50

    def at(self, path: Path) -> World:
        world = World(path)
        world.keep = 2
        return world

    async def _prepare(self, new: Tree, appspec: str) -> None:
        await self.world.deploy(PRUNED)
        await self.world.deploy(OLD)
        write(self.world.root, FOREIGN)
        if appspec != SPEC:  # the way back
            await self.world.deploy(NEW, SPEC)
        self.command = self.world.command(new, appspec)

    def copy(self, name: str) -> World:
        subprocess.run(["cp", "-a", str(self.place / "before"), str(self.place / name)], check=True)
        world = self.at(self.place / name)
        world.fetcher = self.world.fetcher
        return world

    def killed_at(self, step: int) -> str:
        """Which of the two states it ended in. Everything there is, is compared."""
        world = self.copy(f"killed-{step}")
        before = world.installer().installed("g").installed
        assert in_child(world, self.command, step) == -1
        asyncio.run(world.installer().recover())
        side = "new" if world.tree() == self.new else "former"
        assert world.tree() == (self.new if side == "new" else self.former), step
        wanted = self.command.revision.identity if side == "new" else before
        assert world.installer().installed("g").installed == wanted, step
        self._nothing_is_left_over(world, step)
        if step % 4 == 0:
            asyncio.run(deployed(world, self.command))
            assert world.tree() == self.new, step
        shutil.rmtree(world.tmp)
        return side

    def _nothing_is_left_over(self, world: World, step: int) -> None:
        store = world.installer().store
        stored = [about.identity for about in store.stored()]
        assert all(store.is_pristine(identity) for identity in stored), step
        assert len(list((world.state / "revisions").iterdir())) == len(stored), step
        assert not list((world.state / "staging").iterdir()), step
        group = world.state / "groups/g"
        assert {path.name for path in group.iterdir()} <= {"installed.json", "originals"}, step
        used = {owned.original for owned in GroupFiles(group).installed().owned if owned.original}
        assert used == {path.name for path in (group / "originals").iterdir()}, step


@pytest.mark.parametrize("way", ["forth", "back"])
def test_a_kill_before_any_change_ends_in_the_former_or_the_new_state(place: Path, way: str) -> None:
    scene = Scene(place, NEW, SPEC) if way == "forth" else Scene(place, OLD, FILES)
    ended = [scene.killed_at(step) for step in range(scene.steps)]
    assert set(ended) == {"former", "new"} and ended == sorted(ended)
