"""Files beside the database: bundles by what they contain, hook output by where it came from."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

from shiftwork_contract.errors import ContractViolation, InvalidRequest
from shiftwork_contract.revision import DIGEST

OUTPUT_LIMIT = 64 << 20
"""Bytes of output kept of one event on one target."""
CUT = b"\n[shiftwork: output cut here; the rest is on the instance]\n"
MISSING = b"\n[shiftwork: output is missing here]\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Bundles:
    """Archives by identity. What is there is complete: a file is renamed into place after it was synced."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, identity: str) -> Path:
        """Where the archive lies or would lie. Raises InvalidRequest for anything that is no digest."""
        if not DIGEST.fullmatch(identity):
            raise InvalidRequest(f"cannot look up the bundle {identity[:80]!r}: it is not sha256: and 64 hex digits")
        return self._directory / identity.removeprefix("sha256:")

    def has(self, identity: str) -> bool:
        return self.path(identity).is_file()

    def temporary(self) -> Path:
        """A new file name in the same file system, for an upload."""
        return self._directory / f".upload-{os.urandom(8).hex()}"

    def keep(self, temporary: Path, identity: str) -> None:
        """Moves a complete upload into place."""
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(self.path(identity))
        _sync_directory(self._directory)

    def remove(self, identity: str) -> None:
        self.path(identity).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Bytes of each archive, by identity."""
        found = {f"sha256:{path.name}": path for path in self._directory.iterdir()}
        return {identity: path.stat().st_size for identity, path in found.items() if DIGEST.fullmatch(identity)}

    def changed_at(self, identity: str) -> float | None:
        """None when it is not there."""
        try:
            return self.path(identity).stat().st_mtime
        except FileNotFoundError:
            return None

    def touch(self, identity: str) -> None:
        """Says that it is wanted still: a round of pruning that began before leaves it."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(identity))

    def remove_uploads(self, before: float) -> int:
        """Removes what uploads left behind that ended without `keep`; how many."""
        return sum(_removed_if_older(path, before) for path in self._directory.glob(".upload-*"))


class Outputs:
    """Hook output as bytes. Pieces may come twice and late; where one is missing, the file says so until it comes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, deployment_id: str, instance: str, event: str) -> Path:
        for name in (deployment_id, instance, event):
            if not _NAME.fullmatch(name):
                raise InvalidRequest(f"cannot use {name[:80]!r} in the name of an output file")
        return self._directory / deployment_id / instance / f"{event}.log"

    def append(self, deployment_id: str, instance: str, event: str, offset: int, data: bytes) -> None:
        """Writes `data` at `offset`; what lies past OUTPUT_LIMIT is dropped, and the file says so once."""
        path = self.path(deployment_id, instance, event)
        if offset < 0:
            raise ContractViolation(f"cannot keep output of {event} on {instance} at offset {offset}: it is below 0")
        with _open(path) as file:
            if offset < OUTPUT_LIMIT:
                _mark_gap(file, offset)
                file.seek(offset)
                file.write(data[: OUTPUT_LIMIT - offset])
            if offset + len(data) > OUTPUT_LIMIT:
                _mark_cut(file)

    def read(self, deployment_id: str, instance: str, event: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Up to `limit` bytes from `offset`; empty when there is no more, or nothing at all."""
        try:
            with self.path(deployment_id, instance, event).open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def events(self, deployment_id: str) -> dict[str, list[str]]:
        """Instance -> events that have output."""
        root = self._directory / deployment_id
        if not _NAME.fullmatch(deployment_id) or not root.is_dir():
            return {}
        return {d.name: sorted(f.stem for f in d.glob("*.log")) for d in sorted(root.iterdir())}

    def sizes(self) -> dict[str, int]:
        """Bytes of output of each deployment that has any. Skips what is no deployment's, as `.snapshot`."""
        if not self._directory.is_dir():
            return {}
        ours = [d for d in self._directory.iterdir() if _NAME.fullmatch(d.name) and d.is_dir()]
        return {d.name: sum(f.stat().st_size for f in d.rglob("*.log")) for d in ours}

    def remove(self, deployment_id: str) -> None:
        """Removes all output of a deployment; none is fine."""
        if not _NAME.fullmatch(deployment_id):
            raise InvalidRequest(f"cannot remove the output of {deployment_id[:80]!r}: it is no deployment's id")
        shutil.rmtree(self._directory / deployment_id, ignore_errors=True)


def _removed_if_older(path: Path, before: float) -> bool:
    """An upload may end, and its file be gone, between any two looks at it."""
    try:
        if path.stat().st_mtime >= before:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("r+b")
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("w+b")


def _mark_gap(file: BinaryIO, offset: int) -> None:
    """Says at the start of a gap that something is missing; the piece itself overwrites that if it comes late."""
    end = file.seek(0, os.SEEK_END)
    if end < offset:
        file.write(MISSING if len(MISSING) <= offset - end else b"?" * (offset - end))


def _mark_cut(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - len(CUT)))
    if file.read() != CUT:
        file.write(CUT)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
