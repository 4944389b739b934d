"""Every trick with an archive that we know, in every format that can carry it. `make fuzz` prints refused / tried."""

from __future__ import annotations

import gzip
import io
import itertools
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, cast

import pytest

from shiftwork_contract.appspec import parse_server
from shiftwork_contract.archive import Limits, inspect
from shiftwork_contract.errors import AppSpecError, HostileBundle, InvalidRequest
from shiftwork_contract.revision import BundleType

from .test_archive import HOSTILE_TARS, HOSTILE_ZIPS, file, info, tar_of, zip_of

DEFAULT = Limits()
TAR, TGZ, ZIP = BundleType.TAR, BundleType.TGZ, BundleType.ZIP


@dataclass(frozen=True)
class Case:
    make: Callable[[], BinaryIO]
    kind: BundleType
    limits: Limits = DEFAULT


def gzipped(make: Callable[[], BinaryIO]) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(gzip.compress(make().read()))


def pax(member: tarfile.TarInfo, **headers: str) -> Callable[[], BinaryIO]:
    member.pax_headers = {name.replace("__", "."): value for name, value in headers.items()}
    return lambda: tar_of((member, b"x" * 600), file("after"))


def globally(**headers: str) -> BinaryIO:
    """As `git archive` writes its comment, for all members at once."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        tar.addfile(info("f"), io.BytesIO(b""))
    out.seek(0)
    return out


def with_size(size: bytes, checksum: bool = True) -> BinaryIO:
    """A member whose size field holds these bytes."""
    block = bytearray(tar_of(file("a", b"x" * 600)).read())
    block[124:136] = size.ljust(12, b"\0")
    if checksum:
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block[:512])
    return io.BytesIO(bytes(block))


def overlapping() -> BinaryIO:
    """Two entries of the table of contents that lead to the same bytes."""
    data = zip_of(("a", b"x" * 100, 0o100644), ("b", b"x" * 100, 0o100644)).read()
    first, second = data.index(b"PK\x01\x02"), data.rindex(b"PK\x01\x02")
    changed = bytearray(data)
    changed[second + 42 : second + 46] = data[first + 42 : first + 46]
    return io.BytesIO(bytes(changed))


def renamed_inside() -> BinaryIO:
    data = zip_of(("harmless", b"x", 0o100644)).read()
    return io.BytesIO(data.replace(b"harmless", b"/etc/pwd", 1))


def zip_named(name: bytes) -> BinaryIO:
    return io.BytesIO(zip_of(("aXb", b"x", 0o100644)).read().replace(b"aXb", name))


def flagged(bit: int) -> BinaryIO:
    data = bytearray(zip_of(("a", b"x", 0o100644)).read())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + offset
        struct.pack_into("<H", data, place, struct.unpack_from("<H", data, place)[0] | bit)
    return io.BytesIO(bytes(data))


def zip_field(offset: int, form: str, value: int) -> BinaryIO:
    """One member, whose entry in the table of contents says something else."""
    data = bytearray(zip_of(("a", b"xyz" * 50, 0o100644)).read())
    struct.pack_into(form, data, data.index(b"PK\x01\x02") + offset, value)
    return io.BytesIO(bytes(data))


def zip64_huge() -> BinaryIO:
    """A zip64 field that claims an exabyte."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        entry = zipfile.ZipInfo("a")
        entry.extra = struct.pack("<HHQQ", 1, 16, 1 << 60, 1 << 60)
        entry.create_system = 3
        made.writestr(entry, b"x")
    data = bytearray(out.getvalue())
    place = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, place + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    return io.BytesIO(bytes(data))


def many_in_a_zip(count: int) -> BinaryIO:
    entry = zip_of(("a", b"", 0o100644)).read()
    start, end = entry.index(b"PK\x01\x02"), entry.index(b"PK\x05\x06")
    directory = entry[start:end] * count
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), start, 0)
    return io.BytesIO(entry[:start] + directory + tail)


class Endless(io.RawIOBase):
    """A tar archive of a million empty files that is never in memory, and remembers how much of it was read."""

    def __init__(self, entries: int = 1_000_000) -> None:
        self._blocks = self._made(entries)
        self.given = 0

    @staticmethod
    def _made(entries: int) -> Iterator[bytes]:
        for number in range(entries):
            yield info(f"f{number}").tobuf(tarfile.USTAR_FORMAT)
        yield from (bytes(512), bytes(512))

    def read(self, size: int = -1) -> bytes:
        piece = b"".join(itertools.islice(self._blocks, size // 512))
        self.given += len(piece)
        return piece


FLAT = bytes(4 << 20)
SMALL = Limits(ratio_free_bytes=1 << 20)
NEGATIVE = b"\xff" * 10 + b"\xfe\x00"
LINKED = [file("f", b"12345678"), *((info(f"h{n}", tarfile.LNKTYPE, target="f"), b"") for n in range(9))]

ODD_TARS: dict[str, tuple[Callable[[], BinaryIO], Limits]] = {
    "sparse": (pax(info("s"), GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="99"), DEFAULT),
    "an old sparse file": (lambda: tar_of((info("s", tarfile.GNUTYPE_SPARSE), b"")), DEFAULT),
    "a negative size": (lambda: with_size(NEGATIVE), DEFAULT),
    "a negative size that leads back": (pax(info("s"), size="-512"), DEFAULT),
    "a size beyond the end": (pax(info("s"), size=str(1 << 50)), DEFAULT),
    "a size that is no number": (lambda: with_size(b"zzzz"), DEFAULT),
    "a wrong checksum": (lambda: with_size(b"00000000001", checksum=False), DEFAULT),
    "a time that is no number": (pax(info("s"), mtime="nan"), DEFAULT),
    "a time beyond time": (pax(info("s"), mtime="inf"), DEFAULT),
    "a path in the attributes": (pax(info("s"), path="../../etc/cron.d/x"), DEFAULT),
    "a path for all members": (lambda: globally(path="/etc/cron.d/x"), DEFAULT),
    "a size for all members": (lambda: globally(size="5"), DEFAULT),
    "huge attributes": (pax(info("s"), comment="x" * (2 << 20)), DEFAULT),
    "case clash": (lambda: tar_of(file("a/Readme"), file("a/README")), DEFAULT),
    "case clash of directories": (lambda: tar_of(file("Lib/x"), file("lib/y")), DEFAULT),
    "case clash in another script": (lambda: tar_of(file("straße"), file("STRASSE")), DEFAULT),
    "more entries": (lambda: tar_of(*(file(f"f{n}") for n in range(5))), Limits(entries=4)),
    "more directories than are listed": (lambda: tar_of(file("/".join("abcdefgh") + "/i")), Limits(entries=5)),
    "more bytes": (lambda: tar_of(file("f", bytes(100))), Limits(unpacked_bytes=99)),
    "more bytes by hard links": (lambda: tar_of(*LINKED), Limits(unpacked_bytes=79)),
}  # fmt: skip
ODD_ZIPS: dict[str, Case] = {
    "not utf-8": Case(lambda: zip_named(b"a\xffb"), ZIP),
    "a socket": Case(lambda: zip_of(("s", b"", 0o140644)), ZIP),
    "setgid": Case(lambda: zip_of(("s", b"", 0o102755)), ZIP),
    "newline": Case(lambda: zip_of(("a\nb", b"", 0o100644)), ZIP),
    "part too long": Case(lambda: zip_of(("a" * 256, b"", 0o100644)), ZIP),
    "case clash": Case(lambda: zip_of(("a", b"", 0o100644), ("A", b"", 0o100644)), ZIP),
    "a link to nothing": Case(lambda: zip_of(("l", b"", 0o120777)), ZIP),
    "a link too long": Case(lambda: zip_of(("l", b"x" * 5000, 0o120777)), ZIP),
    "overlapping": Case(overlapping, ZIP),
    "another name inside": Case(renamed_inside, ZIP),
    "encrypted": Case(lambda: flagged(1), ZIP),
    "strongly encrypted": Case(lambda: flagged(0x41), ZIP),
    "patched": Case(lambda: flagged(0x20), ZIP),
    "an unknown packing": Case(lambda: zip_field(10, "<H", 99), ZIP),
    "another checksum": Case(lambda: zip_field(16, "<I", 7), ZIP),
    "more than it holds": Case(lambda: zip_field(24, "<I", 1 << 30), ZIP),
    "beyond the end": Case(lambda: zip_field(42, "<I", 1 << 30), ZIP),
    "an exabyte": Case(zip64_huge, ZIP),
    "a ratio bomb": Case(lambda: zip_of(("b", FLAT, 0o100644)), ZIP, SMALL),
    "a size bomb": Case(lambda: zip_of(("b", FLAT, 0o100644)), ZIP, Limits(unpacked_bytes=1 << 20)),
    "a million entries": Case(lambda: many_in_a_zip(600_000), ZIP, DEFAULT),
    "a larger table of contents": Case(lambda: many_in_a_zip(30), ZIP, Limits(directory_bytes=1000)),
}  # fmt: skip


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, entries in HOSTILE_TARS.items():
        found[f"tar: {name}"] = Case(lambda entries=entries: tar_of(*entries), TAR)
    for name, (make, limits) in ODD_TARS.items():
        found[f"tar: {name}"] = Case(make, TAR, limits)
    found |= {name.replace("tar", "tgz", 1): Case(gzipped(case.make), TGZ, case.limits) for name, case in found.items()}
    found["tgz: a ratio bomb"] = Case(gzipped(lambda: tar_of(file("b", FLAT))), TGZ, SMALL)
    found["tgz: a bomb in its end"] = Case(
        lambda: io.BytesIO(gzip.compress(tar_of(file("b")).read() + FLAT)), TGZ, SMALL
    )
    found["tgz: another checksum"] = Case(
        lambda: io.BytesIO(gzip.compress(tar_of(file("b")).read())[:-8] + bytes(8)), TGZ
    )
    for name, members in HOSTILE_ZIPS.items():
        found[f"zip: {name}"] = Case(lambda members=members: zip_of(*members), ZIP)
    return found | {f"zip: {name}": case for name, case in ODD_ZIPS.items()}


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name: str) -> None:
    case = CASES[name]
    with pytest.raises(InvalidRequest, match=r"cannot (unpack|read)"):
        inspect(case.make(), case.kind, case.limits)


def tally() -> tuple[int, int]:
    """How many of the tricks are refused, and how many there are."""
    refused = 0
    for case in CASES.values():
        try:
            inspect(case.make(), case.kind, case.limits)
        except InvalidRequest:
            refused += 1
    return refused, len(CASES)


def test_a_million_entries_are_refused_before_they_are_read() -> None:
    endless, limits = Endless(), Limits(entries=1_500)
    tracemalloc.start()
    with pytest.raises(HostileBundle, match="more than 1500 entries"):
        inspect(cast(BinaryIO, endless), TAR, limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert endless.given < (limits.entries + 1024) * 512
    assert peak < 4 << 20, f"{peak} bytes for {limits.entries} entries"


def test_attributes_for_all_members_are_not_copied_to_each() -> None:
    """Or one megabyte of them, and a hundred thousand members, would take hours."""
    member = tarfile.TarInfo.create_pax_global_header({f"comment.{n}": "x" for n in range(10_000)})
    data = member + b"".join(info(f"f{n}").tobuf(tarfile.USTAR_FORMAT) for n in range(1000)) + bytes(1024)
    assert inspect(io.BytesIO(data), TAR).entries == 1000


HARMLESS = {
    "a comment for all members": lambda: globally(comment="f5bfab9"),
    "a sticky directory": lambda: tar_of((info("d", tarfile.DIRTYPE, 0o1777), b"")),
    "a link anywhere": lambda: tar_of((info("l", tarfile.SYMTYPE, target="/usr/bin/python3"), b"")),
    "an empty archive": lambda: tar_of(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_it_is_odd_and_does_no_harm(name: str) -> None:
    assert inspect(HARMLESS[name](), TAR).entries <= 1


def test_zip_extras_of_other_programs_change_nothing() -> None:
    """Info-ZIP's owner and times, and a zip64 field of a small member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        entry = zipfile.ZipInfo("f")
        entry.extra = struct.pack("<HHBBIBI", 0x7875, 11, 1, 4, 0, 4, 0) + struct.pack("<HHBI", 0x5455, 5, 1, 0)
        with made.open(entry, "w", force_zip64=True) as member:
            member.write(b"x")
    assert inspect(out, ZIP).size == 1


HEAD = "version: 0.0\nos: linux\n"
YAML_BOMBS = {
    "a billion laughs": HEAD + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghij")),
    "deep": HEAD + "x: " + "[" * 100_000,
    "deep by indentation": HEAD + "".join(" " * n + f"k{n}:\n" for n in range(1000)),
    "many values": HEAD + "x: [" + "1," * 400_000 + "1]\n",
    "many keys": HEAD + "".join(f"k{n}: 1\n" for n in range(60_000)),
    "a long number in base 60": "version: " + "1:" * 400_000 + "1\nos: linux\n",
    "a long number in a hook": HEAD + "hooks:\n  AfterInstall:\n    - location: a\n      sudo: " + "1:" * 200_000 + "1",
    "large": HEAD + "x: " + "a" * (2 << 20),
    "a tag": HEAD + "x: !!python/object/apply:os.system [id]\n",
    "a merge": HEAD + "x: {<<: [1]}\n<<: *x\n",
}  # fmt: skip


@pytest.mark.parametrize("name", YAML_BOMBS)
def test_a_yaml_bomb_is_refused_in_few_words(name: str) -> None:
    with pytest.raises(AppSpecError) as err:
        parse_server(YAML_BOMBS[name])
    assert len(err.value.message) < 500
