"""Places outside that revisions lie in, looked up once when a deployment is created and shown to agents as they fetch.

Rows remember what was found: no object is read twice, and no agent is shown what no deployment was pinned to.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from shiftwork_contract.archive import inspect
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import Commit, Reference, S3Object, place_of
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.rows import Pin
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.sources.content import Opened, seekable
from shiftwork_coordinator.sources.github import GitHub
from shiftwork_coordinator.sources.s3 import S3
from shiftwork_coordinator.store import Put, Store

log = structlog.get_logger()


class Outside:
    """`ports.Sources`. Zip archives are kept below `temporary` while they are looked into."""

    def __init__(self, store: Store, clock: Clock, s3: S3, github: GitHub, temporary: Path) -> None:
        self._store, self._clock, self._s3, self._github = store, clock, s3, github
        self._temporary = temporary
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pin(self, wanted: Reference) -> Revision:
        found = await self._looked_up(wanted)
        async with self._looking.setdefault(found.url, asyncio.Lock()):
            known = await self._known(found, wanted)
            if known is not None:
                return known
            pinned = await self._pinned(found, wanted)
            await self._store.write(Put(Pin(pinned, self._clock.now())))
            return pinned

    async def _looked_up(self, wanted: Reference) -> Revision:
        """All but its identity: of an object its version, ETag and size as of now."""
        if isinstance(wanted.place, Commit):
            return Revision("", wanted.place.url, bundle_type=wanted.bundle_type)
        return await asyncio.to_thread(self._s3.look_up, wanted.place, wanted.bundle_type)

    async def _known(self, found: Revision, wanted: Reference) -> Revision | None:
        by_archive = bool(wanted.digest) and isinstance(wanted.place, S3Object)
        for pin in await self._store.pins(found.url):
            known = pin.revision
            same = (known.etag, known.size, known.bundle_type) == (found.etag, found.size, found.bundle_type)
            of = "archive" if by_archive else "tree"
            if same and known.digest_of == of and wanted.digest in ("", known.identity.removeprefix("sha256:")):
                return known
        return None

    async def _pinned(self, found: Revision, wanted: Reference) -> Revision:
        identity = f"sha256:{wanted.digest}"
        if not wanted.digest:
            return _with(found, await self._digest(found, wanted.place), "tree")
        if isinstance(wanted.place, Commit):  # GitHub may pack the same tree into other bytes tomorrow
            return _with(found, identity, "tree")
        return _with(found, identity, "archive")

    async def _digest(self, found: Revision, place: S3Object | Commit) -> str:
        log.info("reading a bundle to find its digest", revision=found.url, size=found.size)
        if isinstance(place, Commit):
            location = await self._github.locate(place)
            digest = await asyncio.to_thread(self._inspected, found, lambda: self._github.open(location, place))
        else:
            digest = await asyncio.to_thread(self._inspected, found, lambda: self._s3.open(found))
        log.info("found the digest of a bundle", revision=found.url, identity=digest)
        return digest

    def _inspected(self, found: Revision, opened: Opened) -> str:
        with opened() as content, seekable(content, found, self._temporary) as archive:
            return inspect(archive, found.bundle_type).identity

    async def location(self, identity: str, url: str) -> str:
        pins = [pin for pin in await self._store.pins(url) if pin.revision.identity == identity]
        if not pins:
            raise InvalidRequest(f"cannot show {url}: no deployment was pinned to {identity} there", code="NotFound")
        revision = pins[0].revision
        place = place_of(revision)
        if isinstance(place, Commit):
            return await self._github.locate(place)
        assert place is not None, "pins are of places"
        return await asyncio.to_thread(self._s3.presign, place)


def _with(found: Revision, identity: str, digest_of: str) -> Revision:
    from msgspec.structs import replace

    archive = identity.removeprefix("sha256:") if digest_of == "archive" else ""
    return replace(found, identity=identity, digest_of=digest_of, archive_sha256=archive)
