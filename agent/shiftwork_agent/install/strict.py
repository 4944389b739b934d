"""What `compat: strict` changes about an install: links, directories and modes come out as CodeDeploy's agent has them.

Its dangerous side is left out: a link is followed only to a directory inside the bundle.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shiftwork_agent.install.host import thing
from shiftwork_agent.install.model import Look, Thing
from shiftwork_agent.install.wanted import IMPLIED_MODE, Listing, Wanted
from shiftwork_contract.archive_limits import Limits
from shiftwork_contract.errors import InvalidRequest


def followed(tree: Path) -> tuple[Listing, Mapping[str, str]]:
    """The bundle with links to its directories replaced by what these hold, and where each such path really lies."""
    walk = _Walk(tree)
    walk.directory("", "", ())
    return walk.found, walk.real


class _Walk:
    def __init__(self, tree: Path) -> None:
        self._tree, self._limits = os.path.realpath(tree), Limits()
        self.found: dict[str, Thing] = {}
        self.real: dict[str, str] = {}

    def directory(self, path: str, real: str, above: tuple[str, ...]) -> None:
        for name in sorted(os.listdir(posixpath.join(self._tree, real))):  # noqa: PTH208 - str, not Path, all over
            self._entry(posixpath.join(path, name), posixpath.join(real, name), (*above, real))

    def _entry(self, path: str, real: str, above: tuple[str, ...]) -> None:
        if len(self.found) >= self._limits.entries or len(above) > self._limits.depth:
            raise InvalidRequest(
                f"cannot follow the links of the bundle: they lead to over {self._limits.entries} entries, or over"
                f" {self._limits.depth} levels deep; deploy without compat: strict"
            )
        here = os.lstat(posixpath.join(self._tree, real))
        inside = self._inside(real, above) if stat.S_ISLNK(here.st_mode) else ""
        if inside:
            here, real = os.lstat(posixpath.join(self._tree, inside)), inside
        self.found[path] = thing(here)
        if path != real:
            self.real[path] = real
        if stat.S_ISDIR(here.st_mode):
            self.directory(path, real, above)

    def _inside(self, link: str, above: tuple[str, ...]) -> str:
        """The directory of the bundle that the link leads to; empty for others, and for one that holds the link."""
        target = os.path.realpath(posixpath.join(self._tree, link))
        if not target.startswith(self._tree + "/") or not Path(target).is_dir():
            return ""
        inside = target[len(self._tree) + 1 :]
        return "" if inside in above else inside


def as_codedeploy(wanted: Mapping[str, Wanted], real: Mapping[str, str]) -> dict[str, Wanted]:
    return {
        path: msgspec.structs.replace(
            one,
            source=real.get(one.source, one.source),
            mode=IMPLIED_MODE if one.kind == "dir" else one.mode,
            look=one.look if one.kind == "dir" else _without_setuid(one.look),
        )
        for path, one in wanted.items()
    }


def _without_setuid(look: Look) -> Look:
    """The owner is changed after the mode there, which takes these bits away."""
    if look.mode is None or (look.uid is None and look.gid is None):
        return look
    return msgspec.structs.replace(look, mode=look.mode & 0o1777)
