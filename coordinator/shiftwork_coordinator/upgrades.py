"""What people do with agents' packages and upgrades. The API and tests come through here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.creation import ID_ALPHABET, matching
from shiftwork_coordinator.engine.upgrading import missing_package
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.settings import Instances
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade, HostSeen, UpgradeSnapshot
from shiftwork_coordinator.packages import About, about
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.shell.upgrading import FEATURE
from shiftwork_coordinator.store import Audit, Bundles, Put

NAMED = 5
"""Instances or packages that an error names at most."""


class CreateUpgrade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An upgrade as it is asked for. Without `version`: the package that came last; without `instances` and `tags`:
    every instance. `at_once` is a count or, like `10%`, a share of them, rounded down but at least 1."""

    version: str = ""
    instances: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    at_once: int | str = "10%"
    max_failed: Annotated[int, msgspec.Meta(ge=0)] = 0
    settle: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0
    connect_within: Annotated[float, msgspec.Meta(ge=10, le=3600)] = 60.0
    no_return: bool = False


async def keep_package(home: Coordinator, packages: Bundles, temporary: Path, who: str) -> tuple[AgentPackage, bool]:
    """The package's row, and whether it is new. A later one of the same version, format and machine replaces it; the
    same again counts as the one that came last."""
    found, digest = await asyncio.to_thread(_read, temporary)
    row = AgentPackage(
        found.version, found.format, found.machine, digest, temporary.stat().st_size, home.clock.now(), who
    )
    known = next((one for one in await home.store.packages() if one.key == row.key), None)
    if known is not None and known.sha256 == digest and packages.has(f"sha256:{digest}"):
        packages.touch(f"sha256:{digest}")
        known = replace(known, added_at=row.added_at)
        await home.store.write(Put(known))
        return known, False
    packages.keep(temporary, f"sha256:{digest}")
    what = f"{row.version} {row.format} {row.machine} sha256:{digest}"
    await home.store.write(Put(row), Audit(who, "package.add", what, home.clock.now()))
    return row, True


def _read(path: Path) -> tuple[About, str]:
    with path.open("rb") as file:
        found = about(file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return found, digest


async def create_upgrade(home: Coordinator, asked: CreateUpgrade, who: str) -> AgentUpgrade:
    """Creates and starts it. Raises InvalidRequest or Conflict before anything is stored or touched."""
    packages = await home.store.packages()
    instances = _chosen(await home.store.instances(), asked)
    upgrade = AgentUpgrade(
        id="u-" + "".join(secrets.choice(ID_ALPHABET) for _ in range(9)),
        version=asked.version or _latest(packages),
        at_once=_at_once(asked.at_once, len(instances)),
        max_failed=asked.max_failed,
        settle=asked.settle,
        connect_within=asked.connect_within,
        no_return=asked.no_return,
        created_at=home.clock.now(),
        created_by=who,
    )
    _refuse_impossible(upgrade, instances, packages)
    names = [row.name for row in instances]
    what = f"{upgrade.id} to {upgrade.version} of {len(names)} instances"
    await home.upgrades.create(upgrade, names, Audit(who, "upgrade.create", what, home.clock.now()))
    return upgrade


def _latest(packages: Sequence[AgentPackage]) -> str:
    if not packages:
        raise InvalidRequest("cannot upgrade agents: no package is at the coordinator; give one with --package")
    return max(packages, key=lambda row: row.added_at).version


def _chosen(everybody: Sequence[Instance], asked: CreateUpgrade) -> list[Instance]:
    joined = [row for row in everybody if row.revoked_at is None]
    if not asked.instances and not asked.tags:
        found = joined
    else:
        unknown = set(asked.instances) - {row.name for row in joined}
        if unknown:
            names = ", ".join(sorted(unknown)[:NAMED])
            raise InvalidRequest(
                f"cannot upgrade the agents of {names}: no such instance has joined; `shiftwork instances` shows them"
            )
        tags = {key: [value] for key, value in asked.tags.items()}
        found = matching(joined, Instances(tags, tuple(asked.instances)))
    if not found:
        raise InvalidRequest("cannot upgrade agents: no joined instance is chosen", code="NO_INSTANCES")
    return found


def _at_once(asked: int | str, total: int) -> int:
    number, percent = (asked, "") if isinstance(asked, int) else (asked.rstrip("%"), asked[-1:])
    if isinstance(number, str) and not (number.isdigit() and percent in ("%", number[-1:])):
        raise InvalidRequest(
            f"cannot upgrade {asked!r} agents at once: write a count such as 5, or a share such as 10%"
        )
    count = int(number)
    if count < 1 or (percent == "%" and count > 100):
        raise InvalidRequest(f"cannot upgrade {asked} agents at once: write 1 or more, or 1% to 100%")
    return max(1, total * count // 100) if percent == "%" else count


def _refuse_impossible(upgrade: AgentUpgrade, instances: Sequence[Instance], packages: Sequence[AgentPackage]) -> None:
    """What is known now to be missing, all of it, before the first agent is touched."""
    if upgrade.version not in {row.version for row in packages}:
        known = ", ".join(sorted({row.version for row in packages})) or "none"
        raise InvalidRequest(
            f"cannot upgrade agents to {upgrade.version!r}: the coordinator has no package of it (it has {known});"
            " give one with --package"
        )
    snapshot = UpgradeSnapshot(upgrade, {}, {}, {row.key: row for row in packages}, 0)
    able = [row for row in instances if FEATURE in row.features and row.agent_version != upgrade.version]
    seen = (HostSeen(version=row.agent_version, host=row.host) for row in able)
    missing = sorted({text for one in seen if (text := missing_package(snapshot, one))})
    if missing:
        more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        hint = "" if upgrade.no_return else "; or say --no-return, and no agent is put back when the new one fails"
        raise InvalidRequest(f"cannot upgrade agents: {'; '.join(missing[:NAMED])}{more}{hint}", code="NO_PACKAGE")
