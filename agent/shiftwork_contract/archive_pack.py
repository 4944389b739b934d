"""A directory as a bundle: the same tree always packs to the same bytes."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shiftwork_contract.errors import InvalidRequest


def pack(directory: Path, out: BinaryIO, *, level: int = 6) -> int:
    """Writes `directory` to `out` as a gzipped tar: sorted by name, owned by nobody in particular, modes and whole
    seconds of mtimes kept, links as links. Returns the number of entries.

    Raises InvalidRequest for what no agent would unpack: devices, sockets, setuid bits, names that are not UTF-8.
    """
    if not directory.is_dir():
        raise InvalidRequest(f"cannot pack {directory}: it is not a directory")
    count, around = 0, _around(directory)
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0, compresslevel=level) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _walk(directory):
            _add(tar, path, around + path.relative_to(directory).as_posix())
            count += 1
    return count


def _around(directory: Path) -> str:
    """A directory on top of one that stands alone: whoever unpacks takes one off, and must find the same tree."""
    entries = list(os.scandir(directory))
    return "bundle/" if len(entries) == 1 and entries[0].is_dir(follow_symlinks=False) else ""


def _walk(directory: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(directory), key=lambda e: os.fsencode(e.name)):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = _info(path, name)
    if info.isreg():
        with path.open("rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _info(path: Path, name: str) -> tarfile.TarInfo:
    found = path.lstat()
    info = tarfile.TarInfo(_utf8(name, path))
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISLNK(found.st_mode):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, _utf8(str(path.readlink()), path), 0o777
    elif stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif not stat.S_ISREG(found.st_mode):
        raise InvalidRequest(f"cannot pack {path}: it is a device, a socket or a FIFO; remove it from the directory")
    if info.mode & 0o6000:
        raise InvalidRequest(f"cannot pack {path}: it has the setuid or setgid bit; remove it")
    return info


def _utf8(text: str, path: Path) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise InvalidRequest(f"cannot pack {os.fsencode(path)!r}: its name is not UTF-8; rename it") from err
    return text
