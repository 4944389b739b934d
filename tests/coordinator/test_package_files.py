"""What a package file says of itself: .deb files put together here, an .rpm's header by hand."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.packages import About, about


def deb(fields: str, *, control: str = "control.tar.gz", mode: str = "w:gz") -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("./control")
        member.size = len(fields)
        archive.addfile(member, io.BytesIO(fields.encode()))
    found = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), (control, packed.getvalue()), ("data.tar.gz", b"x" * 9)):
        found += f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return io.BytesIO(found)


def rpm(**tags: str) -> io.BytesIO:
    numbers = {"name": 1000, "version": 1001, "release": 1002, "arch": 1022}
    data, index = b"", b""
    for name, value in tags.items():
        index += struct.pack(">IIII", numbers[name], 6, len(data), 1)
        data += value.encode() + b"\0"
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", len(tags), len(data)) + index + data
    signature = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 5) + struct.pack(">IIII", 62, 7, 0, 5) + b"abcde"
    return io.BytesIO(b"\xed\xab\xee\xdb" + bytes(92) + signature + bytes(-len(signature) % 8) + header)


CONTROL = "Package: shiftwork-agent\nVersion: {}\nArchitecture: {}\nDescription: runs\n Version: no\n"


@pytest.mark.parametrize(
    ("version", "told"),
    [("0.2.0", "0.2.0"), ("0.2.0-1", "0.2.0"), ("1:0.2.0~rc1-1", "0.2.0rc1"), ("0.2.0+g1a", "0.2.0+g1a")],
)
def test_a_deb(version: str, told: str) -> None:
    assert about(deb(CONTROL.format(version, "amd64"))) == About(told, "deb", "x86_64")


def test_a_deb_packed_with_xz_and_one_for_arm() -> None:
    found = about(deb(CONTROL.format("1", "arm64"), control="control.tar.xz", mode="w:xz"))
    assert found == About("1", "deb", "aarch64")


def test_an_rpm() -> None:
    found = about(rpm(name="shiftwork-agent", version="0.2.0", release="1", arch="aarch64"))
    assert found == About("0.2.0", "rpm", "aarch64")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (io.BytesIO(b"PK\x03\x04 and so on"), "neither a .deb nor an .rpm"),
        (io.BytesIO(b""), "neither a .deb nor an .rpm"),
        (io.BytesIO(b"!<arch>\nshort"), "cannot read the package"),
        (io.BytesIO(deb(CONTROL.format("1", "amd64")).getvalue()[:90]), "cannot read the package"),
        (deb(CONTROL.format("1", "amd64"), control="control.tar.zst"), "compressed with zstd"),
        (deb("Package: nginx\nVersion: 1\nArchitecture: amd64\n"), "'nginx': it is not shiftwork-agent"),
        (deb("Package: shiftwork-agent\n"), "cannot read the package"),
        (deb(CONTROL.format("1", "m68k")), "a package for 'm68k'"),
        (deb(CONTROL.format("../1", "amd64")), "it is none of ours"),
        (io.BytesIO(rpm(name="x").getvalue()[:100]), "cannot read the package"),
        (rpm(name="shiftwork-agent"), "cannot read the package"),
    ],
)
def test_what_is_refused(file: io.BytesIO, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        about(file)
