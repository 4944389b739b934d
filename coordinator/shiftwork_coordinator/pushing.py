"""A pushed archive: inspected for tricks, its AppSpec parsed, then kept by its digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec import APPSPEC_NAMES, appspec_name, parse_server
from shiftwork_contract.archive import Inspection, inspect
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType, Revision, Signed
from shiftwork_contract.statement import facts, fitting
from shiftwork_coordinator.model.rows import StoredRevision
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit, Bundles, Put, Store

SHOWN = 20
"""Applications that an error names."""


class Push(msgspec.Struct, frozen=True):
    """`appspec` names the AppSpec that is checked; it does not count for what the revision is."""

    application: str
    bundle_type: BundleType
    description: str = ""
    appspec: str = ""


async def refuse_unknown(store: Store, application: str) -> None:
    """An application is there once one of its groups was applied: a revision of any other could never be deployed."""
    known = await store.applications()
    if application not in known:
        others = f"there are {', '.join(known[:SHOWN])}{', …' * (len(known) > SHOWN)}" if known else "there is none yet"
        raise InvalidRequest(
            f"cannot push to the application {application!r}: it is not there; {others};"
            " `shiftwork apply` makes applications and their groups",
            code="ApplicationDoesNotExistException",
        )


async def keep(
    home: Coordinator, bundles: Bundles, temporary: Path, asked: Push, who: str
) -> tuple[StoredRevision, bool, list[str]]:
    """The stored revision, whether it is new to the application, and warnings. Refuses what agents would refuse.

    A tree is kept as the archive in which it came first, and every application's row describes that one.
    """
    names = (appspec_name(asked.appspec),) if asked.appspec else APPSPEC_NAMES
    found = await asyncio.to_thread(_inspected, temporary, asked.bundle_type, names)
    warnings = _appspec_warnings(found, names)
    bundles.touch(found.identity)  # before the look: from here on no pruning removes what is seen
    known = await home.store.revision(asked.application, found.identity)
    if known is not None and bundles.has(found.identity):
        return known, False, warnings
    if not bundles.has(found.identity):  # nothing is awaited before it is there
        bundles.keep(temporary, found.identity)
    revision = await asyncio.to_thread(_described, bundles.path(found.identity), found.identity)
    if known is not None:
        revision = replace(revision, signed=known.revision.signed)
    row = StoredRevision(
        asked.application,
        revision,
        revision.size,
        found.entries,
        home.clock.now(),
        pushed_by=who,
        description=asked.description,
    )
    audit = Audit(who, "revision.push", f"{asked.application} {found.identity}", home.clock.now())
    await home.store.write(Put(row), audit)
    return row, True, warnings


async def attach(home: Coordinator, application: str, identity: str, signed: Signed, who: str) -> StoredRevision:
    """Keeps the signature with the revision. Raises InvalidRequest unless it fits; whose it is, hosts decide."""
    stored = await home.store.revision(application, identity)
    if stored is None:
        raise InvalidRequest(
            f"cannot sign revision {identity[:80]} of application {application[:80]!r}: it was not pushed;"
            " run `shiftwork push` first",
            code="RevisionDoesNotExistException",
        )
    fitting(signed, application, identity)
    row = replace(stored, revision=replace(stored.revision, signed=signed))
    about = f"{application} {identity} by {facts(signed).signer}"
    await home.store.write(Put(row), Audit(who, "revision.sign", about, home.clock.now()))
    return row


def _described(path: Path, identity: str) -> Revision:
    """The revision whose archive is the file at `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Revision(
            identity=identity,
            url="coordinator:",
            digest_of="tree",
            bundle_type=_kind(file),
            archive_sha256=digest,
            size=file.tell(),
        )


def _kind(file: BinaryIO) -> BundleType:
    """Of an archive that was inspected, so its first bytes decide."""
    end = file.tell()
    file.seek(0)
    start = file.read(4)
    file.seek(end)
    if start == b"PK\x03\x04":  # no tar begins so: names have no control characters
        return BundleType.ZIP
    return BundleType.TGZ if start.startswith(b"\x1f\x8b") else BundleType.TAR


def sweep(directory: Path) -> None:
    """Takes away what uploads left behind that were cut by the end of the process."""
    for path in directory.glob(".upload-*"):
        path.unlink()


def _inspected(path: Path, kind: BundleType, names: tuple[str, ...]) -> Inspection:
    """On disk for good afterwards, so that keeping it takes no time."""
    with path.open("rb") as file:
        found = inspect(file, kind, appspec_names=names)
        os.fsync(file.fileno())
        return found


def _appspec_warnings(found: Inspection, names: tuple[str, ...]) -> list[str]:
    if found.appspec is None:
        raise InvalidRequest(
            f"cannot push this bundle: it has no {names[0]} at its top; add one, push the folder that has it, or name"
            " another with --appspec",
            code="InvalidAppSpec",
        )
    return list(parse_server(found.appspec, found.appspec_name).warnings)
