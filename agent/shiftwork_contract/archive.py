"""Archives, read with suspicion: every member is checked before anyone may write it anywhere.

Refused (HostileBundle): names that are absolute, climb, are not UTF-8, hold control characters or are too long;
devices, FIFOs, sparse files; setuid and setgid bits; hard links to anything but an earlier file of the same archive;
members below a symlink or a file of the archive; a name twice, or in two spellings that differ only in case (one of
them would be lost on a file system that knows no case); more entries, levels or bytes than the limits, or far more
bytes than the archive has. A symlink may point anywhere: it is data until someone follows it, and nobody here does.
A sticky bit is kept: it only takes rights away.

Pure: reads the file object it is given and writes nothing. Memory is bounded by the number of entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from shiftwork_contract.appspec import APPSPEC_NAMES
from shiftwork_contract.archive_limits import Limits as Limits
from shiftwork_contract.archive_pack import pack as pack
from shiftwork_contract.archive_read import Member, Meter, Piece, RawMember, read_tar, read_zip
from shiftwork_contract.archive_tree import Tree
from shiftwork_contract.errors import HostileBundle, InvalidRequest
from shiftwork_contract.revision import BundleType

Content = Iterator[Piece]
DEFAULT = Limits()


class Inspection(msgspec.Struct, frozen=True):
    """What an archive holds, after a single top-level directory around all of it is taken off.

    `identity` is the tree digest, `size` the bytes of all files, `appspec` the text of the AppSpec or None.
    """

    identity: str
    entries: int
    size: int
    appspec: bytes | None = None
    appspec_name: str = ""


def members(archive: BinaryIO, bundle_type: BundleType, limits: Limits = DEFAULT) -> Iterator[tuple[Member, Content]]:
    """The members in archive order, each with its content, which is to be read before the next member is asked for.

    What is left unread is read and dropped, so the checks always cover the whole archive. Raises HostileBundle, or
    InvalidRequest for what is no archive of this type or is cut off.
    """
    check = _Check(limits)
    for raw, content in _raw(archive, bundle_type, limits):
        member = check.member(raw)
        if member is None:
            continue
        counted = check.counted(member, content)
        yield member, counted
        for _ in counted:
            pass


def inspect(
    archive: BinaryIO,
    bundle_type: BundleType,
    limits: Limits = DEFAULT,
    *,
    appspec_names: tuple[str, ...] = APPSPEC_NAMES,
) -> Inspection:
    """Reads the whole archive once. Raises as `members` does; a missing AppSpec is not an error here."""
    tree = Tree(appspec_names)
    for member, content in members(archive, bundle_type, limits):
        tree.add(member, _digested(content, tree.keeper(member)))
    identity, found = tree.identity(), tree.appspec()
    return Inspection(
        identity=identity,
        entries=len(tree.entries()),
        size=tree.size,
        appspec=found[1] if found else None,
        appspec_name=found[0] if found else "",
    )


def _digested(content: Content, keep: Callable[[Piece], None]) -> str:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        keep(piece)
    return digest.hexdigest()


def _raw(archive: BinaryIO, bundle_type: BundleType, limits: Limits) -> Iterator[tuple[RawMember, Content]]:
    if bundle_type is BundleType.DIRECTORY:
        raise InvalidRequest("cannot read a directory as an archive; pack it first")
    if bundle_type is BundleType.ZIP:
        return read_zip(archive, Meter(limits))
    return read_tar(archive, Meter(limits), gzipped=bundle_type is BundleType.TGZ)


class _Check:
    """Remembers what came before, because most tricks need two members."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kinds: dict[bytes, str] = {}
        self._sizes: dict[bytes, int] = {}
        self._folded: set[str] = set()
        self._size = 0

    def member(self, raw: RawMember) -> Member | None:
        """The checked member; None for the root of the archive itself."""
        path = self._path(raw)
        if not path:
            return None
        if raw.mode & 0o6000:
            raise _hostile(raw.name, f"it has the setuid or setgid bit (mode {raw.mode:04o}); remove the bit")
        self._parents(path, raw)
        self._once(path, raw)
        target = self._target(path, raw)
        if len(self._kinds) > self._limits.entries:
            raise HostileBundle(f"cannot unpack the bundle: it has more than {self._limits.entries} entries")
        return Member(path, raw.kind, raw.mode & 0o7777, raw.mtime, raw.size, target)

    def counted(self, member: Member, content: Content) -> Content:
        """`content`, with every byte counted against the limit on the unpacked size."""
        if member.kind == "hardlink":
            self._count(self._sizes[member.target])
            self._sizes[member.path] = self._sizes[member.target]
        before = self._size
        for piece in content:
            self._count(len(piece))
            yield piece
        if member.kind == "file":
            self._sizes[member.path] = self._size - before

    def _count(self, count: int) -> None:
        self._size += count
        if self._size > self._limits.unpacked_bytes:
            raise HostileBundle(
                f"cannot unpack the bundle: its files are larger than {self._limits.unpacked_bytes} bytes together"
            )

    def _path(self, raw: RawMember) -> bytes:
        parts = [part for part in raw.name.split(b"/") if part not in (b"", b".")]
        if raw.name.startswith(b"/"):
            raise _hostile(raw.name, "its name is absolute")
        if b".." in parts:
            raise _hostile(raw.name, "its name climbs out of the bundle")
        self._check_text(raw.name, raw.name, "name")
        path = b"/".join(parts)
        if len(path) > self._limits.path_bytes or any(len(part) > 255 for part in parts):
            raise _hostile(raw.name[:80], f"its name is over {self._limits.path_bytes} bytes, or 255 in one part")
        if len(parts) > self._limits.depth:
            raise _hostile(raw.name[:80], f"it lies {len(parts)} levels deep, the limit is {self._limits.depth}")
        if not path and raw.kind != "dir":
            raise _hostile(raw.name, "its name is empty")
        return path

    def _parents(self, path: bytes, raw: RawMember) -> None:
        end = path.find(b"/")
        while end != -1:
            parent = path[:end]
            kind = self._kinds.get(parent) or self._entered(parent, "dir", raw)
            if kind == "link":
                raise _hostile(raw.name, f"it would be written through the link {_shown(parent)}")
            if kind != "dir":
                raise _hostile(raw.name, f"{_shown(parent)} is a file in the same bundle")
            end = path.find(b"/", end + 1)

    def _once(self, path: bytes, raw: RawMember) -> None:
        before = self._kinds.get(path)
        if before is not None and not (before == raw.kind == "dir"):
            raise _hostile(raw.name, "the bundle has it twice")
        if before is None:
            self._entered(path, "file" if raw.kind == "hardlink" else raw.kind, raw)

    def _entered(self, path: bytes, kind: str, raw: RawMember) -> str:
        folded = path.decode().casefold()
        if folded in self._folded:
            raise _hostile(raw.name, f"the bundle has another name that differs from {_shown(path)} only in case")
        self._folded.add(folded)
        self._kinds[path] = kind
        return kind

    def _target(self, path: bytes, raw: RawMember) -> bytes:
        if raw.kind == "link":
            if not raw.target or len(raw.target) > self._limits.path_bytes:
                raise _hostile(raw.name, f"the link's target is empty or longer than {self._limits.path_bytes} bytes")
            self._check_text(raw.target, raw.name, "target")
            return raw.target
        if raw.kind != "hardlink":
            return b""
        target = b"/".join(part for part in raw.target.split(b"/") if part not in (b"", b"."))
        if raw.target.startswith(b"/") or target not in self._sizes:
            raise _hostile(raw.name, f"it is a hard link to {_shown(raw.target)}, no earlier file of the bundle")
        return target

    def _check_text(self, value: bytes, name: bytes, what: str) -> None:
        if any(byte < 32 or byte == 127 for byte in value):
            raise _hostile(name, f"its {what} has control characters")
        try:
            value.decode()
        except UnicodeDecodeError as err:
            raise _hostile(name, f"its {what} is not UTF-8; rename it") from err


def _hostile(name: bytes, problem: str) -> HostileBundle:
    return HostileBundle(f"cannot unpack {_shown(name)}: {problem}")


def _shown(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))


__all__ = ["Content", "Inspection", "Limits", "Member", "inspect", "members", "pack"]
