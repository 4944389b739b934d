"""Unpacking a bundle: into a fresh directory, with nothing but checked members, and its digest computed on the way."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

import msgspec

from shiftwork_agent.disk import Directories, opened, syncfs, write_all
from shiftwork_contract.appspec import APPSPEC_NAMES
from shiftwork_contract.archive import Content, Limits, Member, members
from shiftwork_contract.archive_tree import IMPLIED_MODE, Tree
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import shown
from shiftwork_contract.revision import BundleType, Revision
from shiftwork_contract.statement import read

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Unpacked(msgspec.Struct, frozen=True):
    """`tree` is the tree digest, `top` the directory to be taken off, empty for none; `size` is in bytes."""

    tree: str
    top: str
    size: int
    entries: int
    appspec_name: str


def unpack(
    archive: BinaryIO,
    bundle_type: BundleType,
    into: Path,
    limits: Limits | None = None,
    appspec_names: tuple[str, ...] = APPSPEC_NAMES,
) -> Unpacked:
    """Unpacks into the empty directory `into` and has all of it on disk at return.

    Raises HostileBundle or InvalidRequest; the caller then removes `into`, nothing is anywhere else.
    """
    tree, modes = Tree(appspec_names), dict[bytes, tuple[int, int]]()
    with Directories(str(into)) as directories:
        for member, content in members(archive, bundle_type, limits or Limits()):
            _make_parents(directories, member.path)
            tree.add(member, _write(directories, member, content, tree))
            if member.kind == "dir":
                modes[member.path] = (member.mode, member.mtime)
        _settle(directories, modes)
        syncfs(directories.open(""))
    found = tree.appspec()
    return Unpacked(tree.identity(), os.fsdecode(tree.top()), tree.size, len(tree.entries()), found[0] if found else "")


class Measured:
    """An archive that is measured while it is read. Its bytes are digested only where their digest is the pin: a tree
    has one of its own."""

    def __init__(self, content: BinaryIO, revision: Revision) -> None:
        self._content, self._revision = content, revision
        self._digest = hashlib.sha256() if revision.digest_of == "archive" else None
        self._size = 0

    def read(self, count: int = -1) -> bytes:
        piece = self._content.read(count)
        self._size += len(piece)
        if self._digest is not None:
            self._digest.update(piece)
        return piece

    def verify(self) -> None:
        """After the last byte: raises InvalidRequest unless the archive is the one that the revision is pinned to."""
        revision = self._revision
        if revision.size and self._size != revision.size:
            raise _other(revision, f"it has {self._size} bytes instead of {revision.size}")
        found = f"sha256:{self._digest.hexdigest()}" if self._digest is not None else revision.identity
        if found != revision.identity:
            raise _other(revision, f"its digest is {found} instead of {revision.identity}")


def verify_tree(unpacked: Unpacked, revision: Revision) -> None:
    """Raises InvalidRequest unless the tree is the one that the revision is pinned to, and that was signed."""
    if revision.digest_of == "tree" and unpacked.tree != revision.identity:
        raise _other(revision, f"its tree digest is {unpacked.tree} instead of {revision.identity}")
    signed = read(revision.signed.statement).revision if revision.signed else unpacked.tree
    if signed != unpacked.tree:
        raise _other(revision, f"its tree digest is {unpacked.tree}, and {signed} was signed")


def _other(revision: Revision, difference: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot use the bundle from {shown(revision.url)}: {difference}; it was changed after the deployment was"
        " created, or damaged on the way",
        code="DigestMismatch",
    )


def _write(directories: Directories, member: Member, content: Content, tree: Tree) -> str:
    parent, name = directories.at(os.fsdecode(member.path))
    if member.kind == "dir":
        _make_directory(name, parent)
    elif member.kind == "link":
        os.symlink(os.fsdecode(member.target), name, dir_fd=parent)
        os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
    elif member.kind == "hardlink":
        return _write_copy(directories, member, tree)
    else:
        return _write_file(name, parent, member, content, tree)
    return ""


def _write_file(name: str, parent: int, member: Member, content: Content, tree: Tree) -> str:
    digest, keep = hashlib.sha256(), tree.keeper(member)
    with opened(name, _CREATE, parent) as target:
        for piece in content:
            digest.update(piece)
            keep(piece)
            write_all(target, piece)
        os.fchmod(target, member.mode)
        os.utime(target, (member.mtime, member.mtime))
    return digest.hexdigest()


def _write_copy(directories: Directories, member: Member, tree: Tree) -> str:
    tree.keeper(member)
    first, first_name = directories.at(os.fsdecode(member.target))
    held = os.dup(first)
    try:
        parent, name = directories.at(os.fsdecode(member.path))
        os.link(first_name, name, src_dir_fd=held, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(held)
    return ""


def _make_parents(directories: Directories, path: bytes) -> None:
    parent = path.rpartition(b"/")[0]
    if not parent:
        return
    try:
        directories.open(os.fsdecode(parent))
    except FileNotFoundError:
        _make_parents(directories, parent)
        above, name = directories.at(os.fsdecode(parent))
        _make_directory(name, above)


def _make_directory(name: str, parent: int) -> None:
    """A member may list a directory that another one has implied; its own mode is set at the end."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.chmod(name, IMPLIED_MODE, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise


def _settle(directories: Directories, modes: dict[bytes, tuple[int, int]]) -> None:
    """Modes last, deepest first: a directory may be unwritable, and writing into it changes its mtime."""
    for path in sorted(modes, reverse=True):
        mode, mtime = modes[path]
        descriptor = directories.open(os.fsdecode(path))
        os.utime(descriptor, (mtime, mtime))
        os.fchmod(descriptor, mode)
