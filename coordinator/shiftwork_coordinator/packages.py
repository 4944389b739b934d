"""What a package file says of itself: name, version, format, machine. Read from the file, never from its name."""

from __future__ import annotations

import io
import re
import struct
import tarfile
from typing import BinaryIO

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.model.upgrades import Format

NAME = "shiftwork-agent"
CONTROL_LIMIT = 1 << 20
"""Bytes of a .deb's control archive, and of an .rpm's header."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "x86_64": "x86_64", "aarch64": "aarch64"}
VERSION = re.compile(r"[0-9][A-Za-z0-9.+_]{0,63}")
RPM_LEAD, RPM_HEADER = b"\xed\xab\xee\xdb", b"\x8e\xad\xe8\x01"
RPM_TAGS = {1000: "name", 1001: "version", 1022: "arch"}


class About(msgspec.Struct, frozen=True):
    version: str
    format: Format
    machine: str


def about(file: BinaryIO) -> About:
    """Raises InvalidRequest unless it is a package of the agent for a machine that we know."""
    file.seek(0)
    start = file.read(8)
    try:
        if start == b"!<arch>\n":
            return _checked("deb", _deb(file))
        if start[:4] == RPM_LEAD:
            return _checked("rpm", _rpm(file))
    except (ValueError, KeyError, EOFError, struct.error, tarfile.TarError, OSError) as err:
        raise InvalidRequest(f"cannot read the package: {err or type(err).__name__}; is it whole?") from err
    raise InvalidRequest("cannot use this as a package: it is neither a .deb nor an .rpm")


def _checked(format: Format, found: dict[str, str]) -> About:
    if found["name"] != NAME:
        raise InvalidRequest(f"cannot upgrade agents with the package {found['name'][:80]!r}: it is not {NAME}")
    if found["arch"] not in MACHINES:
        known = ", ".join(sorted(MACHINES))
        raise InvalidRequest(f"cannot use a package for {found['arch'][:40]!r}: known are {known}")
    version = as_the_agent_says(found["version"])
    if not VERSION.fullmatch(version):
        raise InvalidRequest(f"cannot use the version {found['version'][:80]!r} of the package: it is none of ours")
    return About(version, format, MACHINES[found["arch"]])


def as_the_agent_says(version: str) -> str:
    """A package's version as the agent in it calls itself: without epoch and package revision, `~rc1` as `rc1`."""
    return version.rpartition(":")[2].partition("-")[0].replace("~", "")


def _deb(file: BinaryIO) -> dict[str, str]:
    """From the control file of the second member of the `ar` archive."""
    while header := file.read(60):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("control.tar"):
            return _control(name, file.read(min(size, CONTROL_LIMIT)))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no control archive")


def _control(name: str, data: bytes) -> dict[str, str]:
    if name.endswith(".zst"):
        raise ValueError("its control archive is compressed with zstd; build it with gzip or xz")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        members = (m for m in archive if m.name.removeprefix("./") == "control")
        member = next(members, None)
        content = archive.extractfile(member) if member else None
        text = content.read(CONTROL_LIMIT).decode() if content else ""
    fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", text, re.M))
    return {"name": fields["Package"], "version": fields["Version"], "arch": fields["Architecture"]}


def _rpm(file: BinaryIO) -> dict[str, str]:
    """From the main header, which lies behind the lead (96 bytes) and the signature's header, padded to 8 bytes."""
    file.seek(96)
    size = _header_size(file)
    file.seek((16 + size + 7) // 8 * 8 + 96)
    return _tags(file)


def _header_size(file: BinaryIO) -> int:
    magic, _, entries, size = struct.unpack(">4s4sII", file.read(16))
    total = entries * 16 + size
    if magic != RPM_HEADER or total > CONTROL_LIMIT:
        raise ValueError("its header is broken")
    return int(total)


def _tags(file: BinaryIO) -> dict[str, str]:
    magic, _, entries, size = struct.unpack(">4s4sII", file.read(16))
    if magic != RPM_HEADER or entries * 16 + size > 16 * CONTROL_LIMIT:
        raise ValueError("its header is broken")
    index, data = file.read(entries * 16), file.read(size)
    found = {}
    for tag, _, offset, _ in struct.iter_unpack(">IIII", index):
        if tag in RPM_TAGS:
            found[RPM_TAGS[tag]] = data[offset : data.index(b"\0", offset)].decode()
    return found
