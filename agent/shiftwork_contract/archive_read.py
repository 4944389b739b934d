"""The two archive formats as streams of raw members; what is dangerous in a format itself is refused here."""

from __future__ import annotations

import calendar
import itertools
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal, TypeVar, cast

import msgspec

from shiftwork_contract.archive_limits import Limits
from shiftwork_contract.errors import HostileBundle, InvalidRequest

Kind = Literal["file", "dir", "link", "hardlink"]
Piece = bytes | memoryview
"""Of a file's content. A view where copying it would cost as much as reading it."""
PIECE = 256 << 10
GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, NotImplementedError,
    RecursionError, struct.error,
)  # fmt: skip
T = TypeVar("T")
BLOCK = 512
LOCAL_HEADER = 30
ENTRY = b"PK\x01\x02"
"""How a zip's entry in the table of contents begins."""


class RawMember(msgspec.Struct, frozen=True):
    """A member as the archive states it; nothing in it is to be trusted."""

    name: bytes
    kind: Kind
    mode: int
    mtime: int
    size: int
    target: bytes = b""


class Member(msgspec.Struct, frozen=True):
    """A checked member: `path` is relative, normal, UTF-8 and below no link. `target` of a hard link is such a path
    of an earlier file; `target` of a link is anything."""

    path: bytes
    kind: Kind
    mode: int
    mtime: int
    size: int
    target: bytes = b""


class Meter:
    """Compares bytes coming out with bytes going in, so that a small archive cannot fill the disk."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.packed = self.unpacked = 0

    def out(self, count: int) -> None:
        limits = self.limits
        self.unpacked += count
        if self.unpacked > limits.ratio_free_bytes and self.unpacked > limits.ratio * max(self.packed, 1):
            raise HostileBundle(
                f"cannot unpack the bundle: {self.packed} bytes unpack to more than {self.unpacked - 1},"
                f" over the limit of {limits.ratio} to 1"
            )


def read_tar(archive: BinaryIO, meter: Meter, *, gzipped: bool) -> Iterator[tuple[RawMember, Iterator[Piece]]]:
    """A gzipped archive is also taken for a plain one, as tar does."""
    packed = _pieces(archive, meter)
    first = next(packed, b"")
    packed = itertools.chain((first,), packed)
    what = "a gzipped tar archive" if gzipped else "a tar archive"
    pieces = _gunzipped(packed, meter) if gzipped or first.startswith(GZIP_MAGIC) else packed
    return _translated(what, _tar_members(what, _Forward(pieces, meter.limits)))


def _tar_members(what: str, source: _Forward) -> Iterator[tuple[RawMember, Iterator[Piece]]]:
    with tarfile.open(fileobj=cast(BinaryIO, source), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (info := _next(tar, source)) is not None:
            raw = _from_tar(info)
            source.seek(info.offset_data)
            yield raw, _translated(what, source.take(info.size if raw.kind == "file" else 0))
    source.drain()


def _next(tar: tarfile.TarFile, source: _Forward) -> tarfile.TarInfo | None:
    source.budget = source.limits.header_bytes
    info = tar.next()
    if info is None and (len(source.last_read) != BLOCK or any(source.last_read)):
        raise EOFError("it is cut off or damaged")
    source.budget = None
    _forget_global(tar)
    tar.members.clear()  # type: ignore[attr-defined]
    return info


def _forget_global(tar: tarfile.TarFile) -> None:
    """Attributes for all members that follow: each member would get a copy of all of them. git writes a comment."""
    rename = {"path", "linkpath", "size", "hdrcharset"} & tar.pax_headers.keys()
    if rename:
        raise HostileBundle(
            f"cannot unpack the bundle: it sets {sorted(rename)[0]} for all members at once; pack it anew"
        )
    tar.pax_headers.clear()  # type: ignore[attr-defined]


def _from_tar(info: tarfile.TarInfo) -> RawMember:
    name = info.name.encode("utf-8", "surrogateescape")
    kind: Kind
    if info.size < 0:
        raise HostileBundle(f"cannot unpack {info.name!r}: its size is {info.size} bytes")
    if info.issparse() or info.type == tarfile.GNUTYPE_SPARSE:
        raise HostileBundle(f"cannot unpack {info.name!r}: it is a sparse file; pack it without sparse support")
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "dir"
    elif info.issym():
        kind = "link"
    elif info.islnk():
        kind = "hardlink"
    else:
        raise HostileBundle(f"cannot unpack {info.name!r}: it is a device, a FIFO or of an unknown kind")
    mtime = max(0, min(int(info.mtime), (1 << 33)))
    return RawMember(name, kind, info.mode, mtime, info.size, info.linkname.encode("utf-8", "surrogateescape"))


class _Forward:
    """Bytes that come once, as the file object that tarfile wants: it only ever steps back within the last block.

    While `budget` is set, reads are a member's headers, which tarfile holds in memory.
    """

    def __init__(self, pieces: Iterator[bytes], limits: Limits) -> None:
        self.limits = limits
        self.budget: int | None = limits.header_bytes
        self.last_read = b""
        self._pieces = pieces
        self._ahead = memoryview(b"")
        self._position = 0
        self._tail = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            back = self._position - position
            if back > len(self._tail):
                raise tarfile.ReadError("the archive refers back to what was read")
            self._ahead, self._tail = memoryview(self._tail[-back:] + bytes(self._ahead)), self._tail[:-back]
            self._position = position
        while self._position < position:
            if not self._take(min(PIECE, position - self._position)):
                raise EOFError("it is cut off")
        return position

    def read(self, count: int) -> bytes:
        if self.budget is not None:
            self.budget -= count
            if self.budget < 0:
                raise HostileBundle(
                    f"cannot unpack the bundle: a member has more than {self.limits.header_bytes} bytes of headers"
                )
        parts = []
        while count > 0 and (part := self._take(count)):
            parts.append(part)
            count -= len(part)
        self.last_read = b"".join(parts)
        return self.last_read

    def take(self, count: int) -> Iterator[Piece]:
        while count > 0:
            part = self._take(min(count, PIECE))
            if not part:
                raise EOFError("it is cut off")
            count -= len(part)
            yield part

    def drain(self) -> None:
        while self._take(PIECE):
            pass

    def _take(self, count: int) -> memoryview:
        if not self._ahead:
            self._ahead = memoryview(next(self._pieces, b""))
        part, self._ahead = self._ahead[:count], self._ahead[count:]
        self._position += len(part)
        self._tail = bytes(part[-BLOCK:]) if len(part) >= BLOCK else (self._tail + part)[-BLOCK:]
        return part


def _pieces(archive: BinaryIO, meter: Meter) -> Iterator[bytes]:
    while piece := archive.read(PIECE):
        meter.packed += len(piece)
        yield piece


def _gunzipped(packed: Iterator[bytes], meter: Meter) -> Iterator[bytes]:
    """Decompressed pieces of all gzip members; each one's checksum is verified by zlib."""
    inflate = None
    for piece in packed:
        rest = piece
        while rest or (inflate and inflate.unconsumed_tail):
            inflate = inflate or zlib.decompressobj(wbits=31)
            out = inflate.decompress(rest, PIECE)
            meter.out(len(out))
            if out:
                yield out
            rest = inflate.unconsumed_tail
            if inflate.eof:
                rest, inflate = inflate.unused_data.lstrip(b"\0"), None
    if inflate is not None:
        raise EOFError("it is cut off")


def read_zip(archive: BinaryIO, meter: Meter) -> Iterator[tuple[RawMember, Iterator[Piece]]]:
    meter.packed = archive.seek(0, 2)
    archive.seek(0)
    return _translated("a zip archive", _zip_members(archive, meter))


def _zip_members(archive: BinaryIO, meter: Meter) -> Iterator[tuple[RawMember, Iterator[Piece]]]:
    with zipfile.ZipFile(cast(BinaryIO, _Guarded(archive, meter.limits))) as opened:
        _refuse_overlaps(opened)
        for info in opened.infolist():
            raw = _from_zip(opened, info)
            content: Iterator[Piece] = _zip_content(opened, info, meter) if raw.kind == "file" else iter(())
            yield raw, _translated("a zip archive", content)


def _refuse_overlaps(opened: zipfile.ZipFile) -> None:
    """Members that share bytes unpack to much from little, and are read differently by different programs."""
    end = 0
    for info in sorted(opened.infolist(), key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise HostileBundle(f"cannot unpack {info.filename[:200]!r}: it overlaps another member")
        end = info.header_offset + LOCAL_HEADER + info.compress_size


class _Guarded:
    """A file object that refuses to read more at once than a table of contents may be, or one of too many entries."""

    def __init__(self, archive: BinaryIO, limits: Limits) -> None:
        self._archive, self._limit, self._entries = archive, limits.directory_bytes, limits.entries
        self.seek, self.tell = archive.seek, archive.tell

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count > self._limit:
            raise HostileBundle(f"cannot unpack the bundle: its table of contents is larger than {self._limit} bytes")
        data = self._archive.read(self._limit if count < 0 else count)
        if data.startswith(ENTRY) and data.count(ENTRY) > self._entries:
            raise HostileBundle(f"cannot unpack the bundle: it has more than {self._entries} entries")
        return data


def _from_zip(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> RawMember:
    name = _zip_name(info)
    if b"\\" in name:
        raise HostileBundle(f"cannot unpack {info.filename!r}: a zip name has a backslash; pack with forward slashes")
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise HostileBundle(f"cannot unpack {info.filename!r}: it is encrypted or not packed by deflate")
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    kind = _zip_kind(info, mode)
    target = b""
    if kind == "link":
        with opened.open(info) as content:
            target = content.read(1 << 14)
    permissions = stat.S_IMODE(mode) or (0o755 if kind == "dir" else 0o644)
    return RawMember(name, kind, permissions, _zip_mtime(info), info.file_size, target)


def _zip_kind(info: zipfile.ZipInfo, mode: int) -> Kind:
    if info.filename.endswith("/"):  # `is_dir` cannot bear a name that is empty, or begins with a NUL
        return "dir"
    form = stat.S_IFMT(mode)
    if form == stat.S_IFLNK:
        return "link"
    if form in (0, stat.S_IFREG):
        return "file"
    raise HostileBundle(f"cannot unpack {info.filename!r}: it is a device, a FIFO or of an unknown kind")


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "surrogateescape")


def _zip_mtime(info: zipfile.ZipInfo) -> int:
    """A zip states local time without saying whose; read as UTC it is at least the same on every host."""
    try:
        return max(0, calendar.timegm((*info.date_time, 0, 0, 0)))
    except ValueError:
        return 0


def _zip_content(opened: zipfile.ZipFile, info: zipfile.ZipInfo, meter: Meter) -> Iterator[bytes]:
    left = info.file_size
    with opened.open(info) as content:
        while piece := content.read(PIECE):
            meter.out(len(piece))
            left -= len(piece)
            yield piece
    if left:
        raise EOFError("it is cut off")


def _translated(what: str, pieces: Iterator[T]) -> Iterator[T]:
    try:
        yield from pieces
    except _DAMAGED as err:
        raise InvalidRequest(f"cannot read the bundle as {what}: {err}", code="InvalidBundle") from err
