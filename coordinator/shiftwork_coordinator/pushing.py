"""A pushed archive: inspected for tricks, its AppSpec parsed, then kept by its digest."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec

from shiftwork_contract.appspec import parse_server
from shiftwork_contract.archive import Inspection, inspect
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType, Revision
from shiftwork_coordinator.model.rows import StoredRevision
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit, Bundles, Put


class Push(msgspec.Struct, frozen=True):
    application: str
    bundle_type: BundleType
    description: str = ""


async def keep(
    home: Coordinator, bundles: Bundles, temporary: Path, asked: Push, who: str
) -> tuple[StoredRevision, bool, list[str]]:
    """The stored revision, whether it is new to the application, and warnings. Refuses what agents would refuse."""
    found, digest = await asyncio.to_thread(_inspected, temporary, asked.bundle_type)
    warnings = _appspec_warnings(found)
    known = await home.store.revision(asked.application, found.identity)
    if known is not None and bundles.has(found.identity):
        return known, False, warnings
    size = temporary.stat().st_size
    revision = Revision(
        identity=found.identity,
        url="coordinator:",
        digest_of="tree",
        bundle_type=asked.bundle_type,
        archive_sha256=digest,
        size=size,
    )
    stored = await _elsewhere(home, found.identity) if bundles.has(found.identity) else None
    if stored is None:
        await asyncio.to_thread(bundles.keep, temporary, found.identity)
    else:
        revision = stored.revision
    row = StoredRevision(
        asked.application, revision, size, found.entries, home.clock.now(), pushed_by=who, description=asked.description
    )
    audit = Audit(who, "revision.push", f"{asked.application} {found.identity}", home.clock.now())
    await home.store.write(Put(row), audit)
    return row, True, warnings


async def _elsewhere(home: Coordinator, identity: str) -> StoredRevision | None:
    """The same tree as another application pushed it: its archive is the one that is kept."""
    for application in {group.application for group in await home.store.groups()}:
        row = await home.store.revision(application, identity)
        if row is not None:
            return row
    return None


def sweep(directory: Path) -> None:
    """Takes away what uploads left behind that were cut by the end of the process."""
    for path in directory.glob(".upload-*"):
        path.unlink()


def _inspected(path: Path, kind: BundleType) -> tuple[Inspection, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return inspect(file, kind), digest


def _appspec_warnings(found: Inspection) -> list[str]:
    if found.appspec is None:
        raise InvalidRequest(
            "cannot push this bundle: it has no appspec.yml at its top; add one, or push the folder that has it",
            code="InvalidAppSpec",
        )
    return list(parse_server(found.appspec, found.appspec_name or "appspec.yml").warnings)
