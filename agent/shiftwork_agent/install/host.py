"""The host as an install sees it: everything below one root, links looked at and never followed."""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from shiftwork_agent.disk import Directories
from shiftwork_agent.install.model import Thing
from shiftwork_contract.errors import InvalidRequest

MOST_LINKS = 40
_KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "dir"}


class RealHost:
    """Answers from the file system below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def look(self, path: str) -> Thing | None:
        """What is at `path`; None where nothing is, or where a link or a file stands on the way."""
        if not self._root.exists():
            return None
        with Directories(str(self._root)) as directories:
            return look(directories, path)

    def below(self, path: str) -> list[str]:
        found = []
        start = self._root / path.lstrip("/")
        for directory, names, files in os.walk(start):
            inside = path + directory[len(str(start)) :]
            found += [posixpath.join(inside, name) for name in (*names, *files)]
        return found

    def resolve(self, path: str) -> str:
        """`path` with the links on its way followed: only below `/`, and only links nobody but root could have made.

        Others are refused: whoever may write there could lead a root process anywhere.
        """
        if self._root != Path("/"):
            return path
        done, ahead, links = "/", path.strip("/").split("/"), 0
        while ahead:
            part, *ahead = ahead
            place = posixpath.normpath(posixpath.join(done, part))
            if not Path(place).is_symlink():
                done = place
                continue
            links += 1
            if links > MOST_LINKS or not _is_trusted(place):
                raise InvalidRequest(
                    f"cannot install to {path}: {place} is a link that root has not made, or one of too many;"
                    " name the directory it leads to"
                )
            target = str(Path(place).readlink())
            done = "/" if target.startswith("/") else done
            ahead = [step for step in target.split("/") if step not in ("", ".")] + ahead
        return done


def look(directories: Directories, path: str) -> Thing | None:
    try:
        parent, name = directories.at(path)
        found = os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return thing(found)


def thing(found: os.stat_result) -> Thing:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    return Thing(kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)  # type: ignore[arg-type]


def listing(tree: Path) -> dict[str, Thing]:
    """What a bundle holds, by path relative to its root."""
    found: dict[str, Thing] = {}
    for directory, names, files in os.walk(tree):
        inside = directory[len(str(tree)) :].strip("/")
        for name in (*names, *files):
            path = posixpath.join(inside, name)
            found[path] = thing(os.lstat(posixpath.join(directory, name)))
    return found


def _is_trusted(link: str) -> bool:
    own = {0, os.geteuid()}
    holder = Path(link).parent.stat()
    return Path(link).lstat().st_uid in own and holder.st_uid in own and not holder.st_mode & 0o022
