"""Directories reached without following a single link, and the few calls on them that Python lacks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import PurePosixPath
from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY = 1 << 30
_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Open directories below a root, each reached component by component with O_NOFOLLOW.

    `at` gives the parent's descriptor and the last name of a path: calls that take `dir_fd` then cannot be led
    elsewhere by a link that appears in between. Raises OSError (ELOOP, ENOTDIR) where a component is a link.
    """

    def __init__(self, root: str, keep: int = 64) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._keep = keep
        self._open: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> Directories:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()
        os.close(self._root)

    def at(self, path: str) -> tuple[int, str]:
        """`path` is relative to the root. The descriptor stays open until the next call."""
        parent, _, name = path.strip("/").rpartition("/")
        return self.open(parent), name

    def open(self, path: str) -> int:
        """The descriptor of a directory; open until the next call."""
        if not path:
            return self._root
        missing = []
        while path and path not in self._open:
            missing.append(path)
            path = path.rpartition("/")[0]
        if path:
            self._open.move_to_end(path)
        found = self._open[path] if path else self._root
        for step in reversed(missing):
            found = self._open[step] = os.open(step.rpartition("/")[2], _DIRECTORY, dir_fd=found)
            if len(self._open) > self._keep:
                os.close(self._open.popitem(last=False)[1])
        return found

    def forget(self) -> None:
        """Closes what is open, because names have been given to other directories."""
        while self._open:
            os.close(self._open.popitem()[1])


def syncfs(descriptor: int) -> None:
    """Everything written to this file system so far is on the disk when this returns."""
    if _libc.syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def exchange(one: str, other: str) -> None:
    """Two names change places in one step: at no moment is either of them missing."""
    at, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if _libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), flag) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), other)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """A single write may take less than it is given, where the disk is nearly full."""
    done = os.write(descriptor, data)
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])


def copy_content(source: int, target: int) -> None:
    """Copies what is left of one descriptor to another, in the kernel where it can."""
    try:
        while os.copy_file_range(source, target, _COPY):
            pass
    except OSError:
        with open(source, "rb", closefd=False) as reading, open(target, "wb", closefd=False) as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)


def remove(name: str, directory: int) -> None:
    """Removes a file, a link, or a directory with all it holds; what is not there counts as removed."""
    try:
        kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(kind):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


@contextlib.contextmanager
def opened(name: str, flags: int, directory: int, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of a file in an open directory; a link is never followed."""
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def joined(root: str, path: str) -> str:
    """`path` put below `root`, whatever it starts with."""
    return str(PurePosixPath(root) / path.lstrip("/"))
