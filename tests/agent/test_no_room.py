"""Full and read-only disks: a clear error, the old revision as it was, and no help needed once there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent.world import FILES, Tree, World, snapshot, write

from shiftwork_agent.ledger import Ledger
from shiftwork_contract.errors import ShiftworkError

KIB = 1024
OLD: Tree = {"app/a": "1" * 9000, "app/gone/x": "1" * 5000, "app/c": "1"}
NEW: Tree = {"app/a": "2" * 9000, "app/b/deep/x": "2" * 9000, "app/c/now/dir": "2", "app/mine": "2" * 3000}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a file system of its own takes root and the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def only(disk: Path, free: int) -> Iterator[None]:
    """`free` bytes are left on the disk."""
    ballast = disk / "ballast"
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - free))
    try:
        yield
    finally:
        ballast.unlink()


def of(world: World) -> dict[str, Any]:
    """Everything installed, and what the agent holds besides it."""
    kept = {name for name in snapshot(world.state) if not name.startswith("revisions/")}
    return {"root": world.tree(), "state": kept, "installed": world.installer().installed("g")}


async def test_a_full_disk_changes_nothing_wherever_it_gets_full(disk: Path, tmp_path: Path) -> None:
    bundles = World(tmp_path / "bundles")
    world = World(disk)
    world.tmp, world.fetcher = bundles.tmp, bundles.fetcher
    await world.deploy(OLD)
    write(world.root, {"srv/app/mine": "mine" * 1000})
    command = world.command(NEW, FILES + "file_exists_behavior: OVERWRITE\n")
    former, said, free = of(world), set[str](), 0
    while True:
        installer = world.installer()
        with only(disk, free):
            try:
                await installer.prepare(command)
                await installer.install(command)
                break
            except ShiftworkError as err:
                said.add(err.message.partition(":")[0])
                assert "No space left on device" in err.message
                assert {**of(world), "state": former["state"]} == former, free
                assert not [name for name in of(world)["state"] if name.startswith("staging/")], free
        free += 4 * KIB
    assert free > 40 * KIB and len(said) == 2, said
    assert world.installer().installed("g").installed == command.revision.identity
    assert {"srv/app/b/deep/x", "srv/app/c/now/dir"} <= set(world.tree()) and "srv/app/gone" not in world.tree()


async def test_a_disk_that_gets_full_in_the_middle_of_the_swap_leaves_a_way_back(disk: Path, tmp_path: Path) -> None:
    bundles = World(tmp_path / "bundles")
    world = World(disk)
    world.tmp, world.fetcher = bundles.tmp, bundles.fetcher
    await world.deploy(OLD)
    command, former = world.command(NEW), world.tree()
    await world.installer().prepare(command)
    with contextlib.ExitStack() as filled:
        world.step = lambda name: name == "installed" and filled.enter_context(only(disk, 0))  # type: ignore[assignment]
        with pytest.raises(ShiftworkError, match="No space left on device"):
            await world.installer().install(command)
        assert world.tree() == former
    world.step = lambda name: None
    await world.installer().install(command)
    assert world.installer().installed("g").installed == command.revision.identity


async def test_a_read_only_disk_changes_nothing(disk: Path, tmp_path: Path) -> None:
    bundles = World(tmp_path / "bundles")
    world = World(disk)
    world.tmp, world.fetcher = bundles.tmp, bundles.fetcher
    await world.deploy(OLD)
    former, command = world.tree(), world.command(NEW)
    for prepared in (False, True):
        if prepared:
            await world.installer().prepare(command)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(ShiftworkError, match="Read-only file system"):
            await world.installer().prepare(command)
            await world.installer().install(command)
        assert world.tree() == former
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    await world.installer().install(command)
    assert world.tree() != former


async def test_the_ledger_waits_for_room_and_forgets_nothing(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftwork_agent.ledger.RETRY", 0.01)
    ledger = Ledger(disk / "ledger")
    ledger.open()
    ledger.append(b"first")
    await ledger.flush()
    async with asyncio.TaskGroup() as tasks:
        with only(disk, 0):
            ledger.append(b"x" * 10_000)
            tasks.create_task(ledger.flush())
            waiting = tasks.create_task(ledger.durable())
            await asyncio.wait({waiting}, timeout=0.05)
            assert not waiting.done() and (disk / "ledger").read_bytes() == b"first\n"
    ledger.close()
    later = Ledger(disk / "ledger")
    assert later.open() == [b"first", b"x" * 10_000]
    later.close()
