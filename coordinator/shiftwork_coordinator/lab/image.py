"""The lab's images: built once from the checkout, named by a hash of everything that goes into them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.lab.docker_cli import attempt, docker
from shiftwork_coordinator.lab.runtime import Say

REPOSITORY = "shiftwork-lab"
PYTHON = "3.11"
"""Of the image's Debian; dependencies are downloaded for it, whatever Python runs the lab."""
PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}


def checkout() -> Path | None:
    """The source tree this package runs from; None when it was installed without one."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "packaging" / "docker" / "Dockerfile").exists() else None


def ensure(say: Say) -> str:
    """The tag of the images for this very source, built if there are none. Takes a minute then, else milliseconds."""
    root = checkout()
    if root is None:
        raise InvalidRequest("cannot build the lab's image: that needs the source tree; use --runtime process")
    tag = _digest(root)
    if attempt("image", "inspect", f"{REPOSITORY}:{tag}", f"{REPOSITORY}:{tag}-balancer") is None:
        _build(root, tag, say)
        _forget_others(tag)
    return f"{REPOSITORY}:{tag}"


def _forget_others(tag: str) -> None:
    """Images of earlier states of the source, but for those that a lab still runs: Docker itself refuses these."""
    listed = attempt("image", "ls", REPOSITORY, "--format", "{{.Tag}}") or ""
    for other in {line.removesuffix("-balancer") for line in listed.split()} - {tag}:
        for image in (f"{REPOSITORY}:{other}", f"{REPOSITORY}:{other}-balancer"):
            attempt("image", "rm", image)


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(_inputs(root)):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _inputs(root: Path) -> Iterable[Path]:
    yield from (root / "pyproject.toml", root / "packaging" / "docker" / "Dockerfile")
    for folder in ("agent", "coordinator"):
        yield from (p for p in (root / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _build(root: Path, tag: str, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="shiftwork-image-") as name:
        context = Path(name)
        wheels = _dependencies(root, say)
        shutil.copytree(wheels, context / "wheels", copy_function=_link_or_copy)
        say("Building the wheel ...")
        _pip("wheel", "--no-deps", "--wheel-dir", str(context / "own"), str(root))
        shutil.copytree(Path(__file__).with_name("scripts"), context / "scripts")
        shutil.copy(root / "packaging" / "docker" / "Dockerfile", context)
        for target, suffix in (("balancer", "-balancer"), ("shiftwork", "")):
            say(f"Building the image of the {'load balancer' if suffix else 'hosts'} ...")
            name_tag = f"{REPOSITORY}:{tag}{suffix}"
            _build_target(target, name_tag, context)


def _build_target(target: str, tag: str, context: Path) -> None:
    try:
        docker("build", "-q", "--target", target, "-t", tag, str(context), within=900)
    except Unavailable as err:
        raise Unavailable(f"{err.message}\nThe lab runs without containers too: --runtime process") from err


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _dependencies(root: Path, say: Say) -> Path:
    """A folder with every wheel that agent and coordinator need, kept between builds."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["coordinator"]
    machine = PLATFORMS.get(arch := docker("version", "--format", "{{.Server.Arch}}"), arch)
    key = hashlib.sha256(repr((wanted, machine, PYTHON)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shiftwork"
    folder = cache / f"wheels-{key}"
    if not folder.exists():
        say("Downloading dependencies (once) ...")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            _pip("download", *_for_image(machine), "--dest", f"{partial}/wheels", *wanted)
            Path(partial, "wheels").rename(folder)
    return folder


def _for_image(machine: str) -> list[str]:
    tags = [f"manylinux_2_{minor}_{machine}" for minor in (34, 28, 17)] + [f"manylinux2014_{machine}"]
    platforms = [option for tag in tags for option in ("--platform", tag)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]


def _pip(*args: str) -> None:
    command = [sys.executable, "-m", "pip", args[0], "-q", "--disable-pip-version-check", *args[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise Unavailable(f"cannot prepare the lab's image, pip {args[0]} failed: {done.stderr.strip()[-1500:]}")
