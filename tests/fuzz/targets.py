"""What is fuzzed, and what must hold for any bytes whatever: only our own refusals come out, nothing gets outside."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from shiftwork_agent.bundle import unpack
from shiftwork_contract.appspec import parse_server
from shiftwork_contract.archive import Limits, inspect
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType

KINDS = (BundleType.TAR, BundleType.TGZ, BundleType.ZIP)
LIMITS = Limits(entries=200, unpacked_bytes=1 << 20)
MEMORY = "/dev/shm"
CORPUS = Path(__file__).parent / "corpus"


def appspec(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        parse_server(data)


def unpacker(data: bytes) -> None:
    """The first byte says as what the rest is unpacked. A plain tar's checksums are put right, so that it is read."""
    kind = KINDS[data[0] % len(KINDS)] if data else BundleType.TAR
    body = summed(data[1:]) if kind is BundleType.TAR else data[1:]
    where = MEMORY if Path(MEMORY).is_dir() else None
    with tempfile.TemporaryDirectory(dir=where, prefix="shiftwork-fuzz-", ignore_cleanup_errors=True) as outer:
        into = Path(outer) / "in"
        into.mkdir()
        (Path(outer) / "witness").write_text("untouched")
        try:
            found = unpack(io.BytesIO(body), kind, into, LIMITS).tree
        except InvalidRequest:
            found = ""
        _check(Path(outer), into)
        if found:
            assert inspect(io.BytesIO(body), kind, LIMITS).identity == found, "two readings, two trees"


def _check(outer: Path, into: Path) -> None:
    assert sorted(path.name for path in outer.iterdir()) == ["in", "witness"], (
        "something was written beside the directory"
    )
    assert (outer / "witness").read_text() == "untouched", "a file outside was changed"
    for directory, names, files in os.walk(into):
        for name in (*names, *files):
            mode = (Path(directory) / name).lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), f"{name!r} is a special file"
            assert stat.S_ISLNK(mode) or not mode & 0o6000, f"{name!r} has mode {mode:o}"


def summed(data: bytes) -> bytes:
    """Each block that could be a tar header gets the checksum that makes it one."""
    blocks = bytearray(data)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return bytes(blocks)


TARGETS: dict[str, Callable[[bytes], None]] = {"appspec": appspec, "unpacker": unpacker}
