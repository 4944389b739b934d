"""The revisions on this host: each unpacked once, under the digest that names it.

revisions/<64 hex digits>/about.json    written last: a revision without it is not there
revisions/<64 hex digits>/tree/         the bundle; hooks run here, so what they change is noticed later
staging/                                what is not yet, or no longer, a revision; emptied at start
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from shiftwork_agent.bundle import Measured, Unpacked, unpack, verify_tree
from shiftwork_agent.disk import exchange
from shiftwork_agent.layout import sync_directory, write_atomically
from shiftwork_contract.appspec import APPSPEC_NAMES
from shiftwork_contract.archive import Limits
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import DIGEST, BundleType, Revision

FORMAT = 1


class About(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a stored revision. `shape` sums up the tree as it was unpacked."""

    format: int
    identity: str
    tree: str
    size: int
    entries: int
    appspec_names: tuple[str, ...]
    shape: int


class Store:
    """Keeps at most `keep` revisions and `max_bytes` of them, and more only if more must stay."""

    def __init__(
        self,
        state: Path,
        *,
        keep: int = 5,
        max_bytes: int = 20 << 30,
        limits: Limits | None = None,
        appspec_names: tuple[str, ...] = APPSPEC_NAMES,
    ) -> None:
        self._revisions, self._staging = state / "revisions", state / "staging"
        self._keep, self._max_bytes, self._limits = keep, max_bytes, limits
        self.appspec_names = appspec_names

    def create(self) -> None:
        """Makes the directories; anyone may reach a tree, because hooks run as other users too."""
        for path, mode in ((self._revisions, 0o711), (self._staging, 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)

    def clear_staging(self) -> None:
        """Only at start: what a killed agent left half done is of no use."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self.create()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty directory on the store's file system, gone afterwards with all it holds."""
        self.create()
        path = Path(tempfile.mkdtemp(dir=self._staging))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def tree(self, identity: str) -> Path:
        return self._place(identity) / "tree"

    def about(self, identity: str) -> About | None:
        try:
            found = msgspec.json.decode((self._place(identity) / "about.json").read_bytes(), type=About)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return found if found.format <= FORMAT else None

    def is_pristine(self, identity: str) -> bool:
        """Whether the revision is here and its tree has the shape it was unpacked with: names, sizes, times, modes.

        A script that was made executable does not count as a change.
        """
        about = self.about(identity)
        return about is not None and shape(self.tree(identity)) == about.shape

    def add(self, content: BinaryIO, revision: Revision, staging: Path) -> About:
        """Unpacks and verifies what `content` gives, in one pass; afterwards the revision is here, whole and durable.

        A refused bundle leaves nothing but what is in `staging`; whatever was there before goes.
        """
        for path in staging.iterdir():
            shutil.rmtree(path)
        target = staging / "unpacked"
        target.mkdir()
        measured = Measured(content, revision)
        with _seekable(measured, revision.bundle_type, staging) as archive:
            unpacked = unpack(archive, revision.bundle_type, target, self._limits, self.appspec_names)
        measured.verify()
        verify_tree(unpacked, revision)
        return self._enter(revision.identity, target / unpacked.top if unpacked.top else target, unpacked, staging)

    def touch(self, identity: str) -> None:
        """Counts as used last, so it is pruned last."""
        with contextlib.suppress(OSError):
            os.utime(self._place(identity))

    def prune(self, stay: Collection[str]) -> list[str]:
        """Removes what was used longest ago until the limits hold, and returns the names. `stay` is never removed."""
        stored = self.stored()
        staying = [about for about in stored if about.identity in stay]
        others = [about for about in stored if about.identity not in stay]
        kept, size, removed = len(staying), sum(about.size for about in staying), []
        for about in sorted(others, key=lambda a: self._place(a.identity).stat().st_mtime, reverse=True):
            if kept < self._keep and size + about.size <= self._max_bytes:
                kept, size = kept + 1, size + about.size
            else:
                self._remove(about.identity)
                removed.append(about.identity)
        return removed

    def stored(self) -> list[About]:
        names = sorted(path.name for path in self._revisions.iterdir()) if self._revisions.is_dir() else []
        found = (self.about(f"sha256:{name}") for name in names if DIGEST.fullmatch(f"sha256:{name}"))
        return [about for about in found if about is not None]

    def _enter(self, identity: str, tree: Path, unpacked: Unpacked, staging: Path) -> About:
        about = About(
            FORMAT, identity, unpacked.tree, unpacked.size, unpacked.entries, self.appspec_names, shape(tree)
        )  # fmt: skip
        ready = staging / "ready"
        ready.mkdir(mode=0o711)
        tree.chmod(0o755)
        tree.rename(ready / "tree")
        write_atomically(ready / "about.json", msgspec.json.encode(about))
        if self._place(identity).exists():
            exchange(str(ready), str(self._place(identity)))
        else:
            ready.rename(self._place(identity))
        sync_directory(self._revisions)
        return about

    def _remove(self, identity: str) -> None:
        """First out of the store with one rename, so that no half of a revision is ever in it."""
        place = self._place(identity)
        if not place.exists():
            return
        with self.staging() as path:
            place.rename(path / "removed")
            sync_directory(self._revisions)

    def _place(self, identity: str) -> Path:
        if not DIGEST.fullmatch(identity):
            raise InvalidRequest(f"cannot use the revision {identity[:80]!r}: it is not sha256: and 64 hex digits")
        return self._revisions / identity.removeprefix("sha256:")


@contextlib.contextmanager
def _seekable(content: Measured, kind: BundleType, staging: Path) -> Iterator[BinaryIO]:
    """A zip's table of contents is at its end: it has to lie on disk, without a name, until it is unpacked."""
    if kind is not BundleType.ZIP:
        yield cast(BinaryIO, content)
        return
    with tempfile.TemporaryFile(dir=staging) as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.seek(0)
        yield file


def shape(tree: Path) -> int:
    """One number for all names, kinds, sizes, times and modes below `tree`; cheap, and no defence against malice."""
    total = 0
    for directory, names, files in os.walk(tree):
        for name in (*names, *files):
            path = os.path.join(directory, name)  # noqa: PTH118 - a hundred thousand Path objects are slow
            found = os.lstat(path)
            is_dir = stat.S_ISDIR(found.st_mode)
            facts = (os.fsencode(path)[len(os.fsencode(tree)) :], found.st_mode & ~0o111)
            times = () if is_dir else (found.st_size, found.st_mtime_ns)
            total = (total + _stable_hash((*facts, *times))) & ((1 << 63) - 1)
    return total


def _stable_hash(value: tuple[object, ...]) -> int:
    text = repr(value).encode()
    return zlib.crc32(text) << 31 ^ zlib.adler32(text)
