"""A host of its own for a test: an install root, the agent's state, and bundles made on the spot."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shiftwork_agent.fetch.target import Sink
from shiftwork_agent.installer import Installer
from shiftwork_agent.store import Store
from shiftwork_contract.archive import inspect, pack
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import BundleType, Revision

Tree = Mapping[str, Any]
"""path -> text of a file, ("link", target), ("dir",), or (text, mode)"""

FILES = "version: 0.0\nos: linux\nfiles:\n  - source: app\n    destination: /srv/app\n"


class FromDirectory:
    """Fetches by packing a directory of the test."""

    def __init__(self) -> None:
        self.archives: dict[str, Path] = {}
        self.fetched: list[str] = []

    async def fetch(self, revision: Revision, sink: Sink) -> None:
        self.fetched.append(revision.identity)
        await sink.begin()
        await sink.write(self.archives[revision.identity].read_bytes())


class World:
    def __init__(self, tmp: Path) -> None:
        self.tmp, self.root, self.state = tmp, tmp / "root", tmp / "state"
        self.root.mkdir(parents=True, exist_ok=True)
        self.fetcher = FromDirectory()
        self.step: Callable[[str], None] = lambda name: None
        self.keep = 5
        self.count = 0

    def installer(self) -> Installer:
        store = Store(self.state, keep=self.keep)
        return Installer(self.state, self.root, self.fetcher, store=store, step=lambda name: self.step(name))

    def command(self, files: Tree, appspec: str | None = FILES, group: str = "g", **options: Any) -> Command:
        self.count += 1
        source = self.tmp / f"bundle{self.count}"
        write(source, files)
        if appspec is not None:
            (source / "appspec.yml").write_text(appspec)
        archive = self.tmp / f"bundle{self.count}.tgz"
        with archive.open("wb") as out:
            pack(source, out)
        with archive.open("rb") as made:
            identity = inspect(made, BundleType.TGZ).identity
        self.fetcher.archives[identity] = archive
        return Command(
            id=f"c{self.count}", deployment_id=f"d-{self.count}", group_id=group, application="a", group="g",
            sequence=self.count, revision=Revision(identity, "coordinator:"), **options,
        )  # fmt: skip

    async def deploy(self, files: Tree, appspec: str = FILES, **options: Any) -> Command:
        command = self.command(files, appspec, **options)
        installer = self.installer()
        await installer.prepare(command)
        await installer.install(command)
        return command

    def tree(self) -> dict[str, tuple[Any, ...]]:
        return snapshot(self.root)


def write(root: Path, files: Tree) -> None:
    for name, what in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, tuple) and what[0] == "link":
            path.symlink_to(what[1])
        elif isinstance(what, tuple) and what[0] == "dir":
            path.mkdir(exist_ok=True)
        else:
            text, mode = what if isinstance(what, tuple) else (what, 0o644)
            path.write_text(text)
            path.chmod(mode)
            os.utime(path, (1_700_000_000, 1_700_000_000))


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, info = str(path.relative_to(root)), path.lstat()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("dir", stat.S_IMODE(info.st_mode))
        else:
            found[name] = (
                "file",
                path.read_bytes(),
                stat.S_IMODE(info.st_mode),
                info.st_uid,
                info.st_gid,
                info.st_mtime_ns,
            )
    return found


OLD: Tree = {
    "app/same": "1", "app/mode": ("1", 0o644), "app/gone": "1", "app/gonedir/x": "1", "app/was_file": "1",
    "app/was_dir/x": "1", "app/was_dir/deep/y": "1", "app/was_link": ("link", "x"), "app/emptied/x": "1",
}  # fmt: skip
NEW: Tree = {
    "app/same": "2", "app/mode": ("2", 0o755), "app/was_file/now/dir": "2", "app/was_dir": "2", "app/was_link": "2",
    "app/new/deep/file": "2", "app/new/link": ("link", "deep"), "app/foreign": "2", "app/foreign_link": "2",
}  # fmt: skip
FOREIGN: Tree = {
    "srv/app/foreign": ("mine", 0o640), "srv/app/foreign_link": ("link", "/mine"), "srv/app/emptied/mine": "mine",
    "srv/other": "mine",
}  # fmt: skip
MODES = FILES + "file_exists_behavior: OVERWRITE\npermissions:\n  - object: /srv/app/same\n    mode: 600\n"


async def old_and_command(world: World) -> Command:
    await world.deploy({**OLD, "app/replaced": "1"})
    write(world.root, FOREIGN)
    command = world.command(NEW, MODES)
    await world.installer().prepare(command)
    return command
