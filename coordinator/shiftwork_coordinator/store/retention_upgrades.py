"""What is kept of agents' upgrades and packages. What an instance runs, or may have to go back to, is never removed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import msgspec
from sqlalchemy import Connection, delete, select

from shiftwork_coordinator.model.status import ENDED, DeploymentStatus
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade
from shiftwork_coordinator.store import tables
from shiftwork_coordinator.store.blobs import Bundles
from shiftwork_coordinator.store.retention import DEFAULT, Limits
from shiftwork_coordinator.store.store import Store
from shiftwork_coordinator.store.writer import check_fence


class PrunedUpgrades(msgspec.Struct, frozen=True):
    upgrades: tuple[str, ...]
    packages: tuple[str, ...]
    uploads: int


async def prune_upgrades(
    store: Store, packages: Bundles, now: float, limits: Limits = DEFAULT, *, epoch: int | None = None
) -> PrunedUpgrades:
    """Like `prune`. Packages stay as they are while an upgrade is active, and when one begins meanwhile."""
    over = outlived(await store.agent_upgrades(limit=None), now, limits)
    for id in over:
        await store.in_writer(partial(_forget, upgrade_id=id, epoch=epoch))
    uploads = await asyncio.to_thread(packages.remove_uploads, now - limits.uploads_for)
    rows = await store.packages()
    running = {row.agent_version for row in await store.instances() if row.revoked_at is None}
    for row in excess(rows, running, limits):
        await store.in_writer(partial(_drop_row, row=row, epoch=epoch))
    gone = []
    for identity in await asyncio.to_thread(packages.sizes):
        drop = partial(_drop_file, packages=packages, identity=identity, before=now - limits.uploads_for, epoch=epoch)
        gone += [identity] if await store.in_writer(drop) else []
    return PrunedUpgrades(tuple(over), tuple(gone), uploads)


def outlived(upgrades: Sequence[AgentUpgrade], now: float, limits: Limits) -> list[str]:
    """Ended upgrades that are too old; `upgrades` come newest first, of which so many stay."""
    return [
        upgrade.id
        for upgrade in upgrades[limits.upgrades :]
        if upgrade.status in ENDED and (upgrade.completed_at or upgrade.created_at) < now - limits.upgrades_for
    ]


def excess(rows: Iterable[AgentPackage], running: Collection[str], limits: Limits) -> list[AgentPackage]:
    """Packages beyond the newest of their format and machine, but for versions that an agent is."""
    newer: Counter[tuple[str, str]] = Counter()
    found = []
    for row in sorted(rows, key=lambda row: row.added_at, reverse=True):
        newer[row.format, row.machine] += 1
        if newer[row.format, row.machine] > limits.agent_versions and row.version not in running:
            found.append(row)
    return found


def _drop_row(connection: Connection, row: AgentPackage, epoch: int | None) -> None:
    """Unless it was given again since it was looked at, or an upgrade is active that may want it."""
    check_fence(connection, epoch)
    c = tables.packages.c
    this = (c.version == row.version, c.format == row.format, c.machine == row.machine)
    body = connection.execute(select(c.body).where(*this)).scalar()
    if body is not None and msgspec.json.decode(body, type=AgentPackage) == row and not _active(connection):
        connection.execute(delete(tables.packages).where(*this))


def _drop_file(connection: Connection, packages: Bundles, identity: str, before: float, epoch: int | None) -> bool:
    """Whether it went: one without a row, which no upload can still be about to get one for."""
    check_fence(connection, epoch)
    bodies = connection.execute(select(tables.packages.c.body)).scalars()
    held = any(identity.removeprefix("sha256:") in body for body in bodies)
    if held or (packages.changed_at(identity) or before) >= before or _active(connection):
        return False
    packages.remove(identity)
    return True


def _active(connection: Connection) -> bool:
    status = tables.agent_upgrades.c.status
    found = connection.execute(select(status).where(status == str(DeploymentStatus.IN_PROGRESS)).limit(1)).first()
    return found is not None


def _forget(connection: Connection, upgrade_id: str, epoch: int | None) -> None:
    check_fence(connection, epoch)
    targets, upgrades = tables.agent_upgrade_targets, tables.agent_upgrades
    connection.execute(delete(targets).where(targets.c.upgrade_id == upgrade_id))
    connection.execute(delete(upgrades).where(upgrades.c.id == upgrade_id))
