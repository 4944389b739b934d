"""What the ELF files of a tree need from the host, read with readelf."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path


def elf_files(tree: Path) -> list[Path]:
    return [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink() and _is_elf(path)]


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _readelf(option: str, files: Iterable[Path]) -> str:
    command = ["readelf", option, "--wide", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def needed(files: list[Path]) -> set[str]:
    """Names of the shared libraries that these files are linked with."""
    return set(re.findall(r"\(NEEDED\).*\[(.+?)\]", _readelf("--dynamic", files)))


def symbol_versions(files: list[Path]) -> dict[str, set[str]]:
    """Of each library: the versions of its symbols that are asked for, like GLIBC_2.34."""
    found: dict[str, set[str]] = {}
    library = ""
    for line in _readelf("--version-info", files).splitlines():
        if match := re.search(r"Version: 1  File: (\S+)", line):
            library = match[1]
        elif match := re.search(r"Name: (\S+)  Flags:", line):
            found.setdefault(library, set()).add(match[1])
    return found


def from_host(tree: Path) -> dict[str, set[str]]:
    """Libraries that the tree needs and does not bring itself, with the versions of their symbols."""
    files = elf_files(tree)
    own = {path.name for path in files}
    versions = symbol_versions(files)
    return {name: versions.get(name, set()) for name in sorted(needed(files) - own) if not name.startswith("ld-linux")}


def deb_depends(libraries: dict[str, set[str]]) -> list[str]:
    """The Debian packages that have the libraries on this machine; libc6 with the version that is really asked for."""
    packages = {_debian_package(name) for name in libraries} - {"libc6"}
    return [f"libc6 (>= {_glibc(libraries)})", *sorted(packages)]


def _debian_package(library: str) -> str:
    done = subprocess.run(["dpkg", "-S", f"*/{library}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cannot say which Debian package has {library}: none that is installed here; install it")
    return done.stdout.split(":", 1)[0].split(",")[0]


def _glibc(libraries: dict[str, set[str]]) -> str:
    asked = {version for versions in libraries.values() for version in versions}
    numbers = [match[1] for version in asked if (match := re.fullmatch(r"GLIBC_([\d.]+)", version))]
    return max(numbers, key=lambda number: [int(part) for part in number.split(".")])


def rpm_requires(libraries: dict[str, set[str]]) -> list[str]:
    """In the words that rpm's own dependency generator uses, so that every distribution knows who provides them."""
    plain = [f"{name}()(64bit)" for name in libraries]
    versioned = [f"{name}({version})(64bit)" for name, versions in libraries.items() for version in sorted(versions)]
    return sorted(plain + versioned)
