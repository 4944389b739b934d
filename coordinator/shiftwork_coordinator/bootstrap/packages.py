"""Which package file fits which host. Pure but for `load`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftwork_contract.errors import InvalidRequest

NAME = "shiftwork-agent"
_FILE = re.compile(
    rf"{NAME}[_-](?P<version>\d[\w.+~-]*?)[_.](?P<machine>amd64|arm64|x86_64|aarch64|all|noarch)\.(?P<format>deb|rpm)"
)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "all": "", "noarch": ""}
"""Names of architectures in packages, as `uname -m` has them; "" fits every one."""


@dataclass(frozen=True)
class Package:
    """A file to install. `machine` as `uname -m` names it, "" = any; `digest` is its SHA-256 in hex."""

    path: Path
    version: str
    format: str
    machine: str
    digest: str = ""
    size: int = 0

    def __str__(self) -> str:
        return f"{self.format} for {self.machine or 'any machine'}"


def described(path: Path) -> Package:
    """What the file's name says. Raises InvalidRequest for any other name."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise InvalidRequest(
            f"cannot tell what the package {path} is for: its name must be {NAME}_VERSION_ARCH.deb or .rpm, as"
            " `make deb rpm` writes it"
        )
    machine = MACHINES.get(match["machine"], match["machine"])
    return Package(path, match["version"], match["format"], machine)


def load(paths: Iterable[Path]) -> tuple[Package, ...]:
    """Reads each file once. Raises InvalidRequest for a name that says nothing, and for two that fit the same host."""
    found: dict[tuple[str, str], Package] = {}
    for path in paths:
        named = described(path)
        if other := found.get((named.format, named.machine)):
            raise InvalidRequest(f"cannot choose between {other.path} and {path}: both are a {named}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        found[named.format, named.machine] = Package(path, named.version, named.format, named.machine, digest, size)
    return tuple(found.values())


def choose(packages: Sequence[Package], format: str, machine: str) -> Package | None:
    """The one for such a host; one made for its very architecture before one for any."""
    fitting = [each for each in packages if each.format == format and each.machine in (machine, "")]
    return max(fitting, key=lambda each: bool(each.machine), default=None)


def upstream(version: str) -> str:
    """The program's own version, without the package's revision and epoch: `1:0.2.0-1` is 0.2.0."""
    return version.rpartition(":")[2].partition("-")[0]


def newer(one: str, other: str) -> bool:
    """Whether version `one` comes after `other`, by the order that dpkg and rpm share."""
    return _order(one) > _order(other)


def _order(version: str) -> list[tuple[int, int, str]]:
    """`~` sorts before the end, the end before letters, letters before numbers."""
    kinds = {"~": (0, 0, "")}
    parts = re.findall(r"~|[0-9]{1,18}|[A-Za-z]+", version)
    known = [kinds.get(part) or ((3, int(part), "") if part.isdigit() else (2, 0, part)) for part in parts]
    return [*known, (1, 0, "")]
