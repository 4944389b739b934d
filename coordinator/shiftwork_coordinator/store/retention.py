"""What is kept and for how long. Nothing that is running, installed or a rollback's aim is ever removed.

Rows go before files: what a crash leaves behind in between is a file without a row, which a later run removes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import msgspec
from sqlalchemy import Connection, delete, select

from shiftwork_coordinator.model.rows import Deployment, Group, StoredRevision
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.store import tables
from shiftwork_coordinator.store.blobs import Bundles, Outputs
from shiftwork_coordinator.store.store import Store
from shiftwork_coordinator.store.writer import check_fence

DAY = 86400.0


class Limits(msgspec.Struct, frozen=True):
    """Ages are seconds. The newest of a group and of an application stay whatever their age and size; past that, what
    is older than its age goes, and the oldest goes first where bytes are too many. Of the agent's packages the newest
    `agent_versions` of each format and machine stay, with what some agent runs."""

    deployments_for: float = 90 * DAY
    deployments_of_a_group: int = 20
    output_bytes: int = 10 << 30
    revisions_for: float = 90 * DAY
    revisions_of_an_application: int = 20
    bundle_bytes: int = 50 << 30
    uploads_for: float = DAY
    upgrades_for: float = 90 * DAY
    upgrades: int = 20
    agent_versions: int = 5


class Pruned(msgspec.Struct, frozen=True):
    deployments: tuple[str, ...]
    outputs: tuple[str, ...]
    revisions: tuple[str, ...]
    uploads: int


DEFAULT = Limits()


async def prune(
    store: Store, bundles: Bundles, outputs: Outputs, now: float, limits: Limits = DEFAULT, *, epoch: int | None = None
) -> Pruned:
    """Removes what the limits no longer allow, and says what. May be cut off and run again at any time.

    Raises Fenced when the lease is no longer `epoch`'s. The audit log is never shortened. A bundle that a push or a
    stored deployment came to need meanwhile stays; a deployment whose revision was looked up but that is not stored
    yet does not count.
    """
    written = await asyncio.to_thread(outputs.sizes)
    deployments, groups = await store.deployments(limit=None), await store.groups()
    old = outlived(deployments, groups, now, limits)
    for id in old:
        await store.in_writer(partial(_forget, deployment_id=id, epoch=epoch))
    kept = [d for d in deployments if d.id not in set(old)]
    silenced = excess_output(written, kept, limits)
    await asyncio.to_thread(_each, outputs.remove, silenced)
    uploads = await asyncio.to_thread(bundles.remove_uploads, now - limits.uploads_for)
    revisions = await _prune_revisions(store, bundles, kept, groups, now, limits, epoch)
    return Pruned(tuple(old), tuple(silenced), tuple(revisions), uploads)


def outlived(deployments: Sequence[Deployment], groups: Iterable[Group], now: float, limits: Limits) -> list[str]:
    """Ended deployments that are too old; `deployments` come newest first."""
    aims = {group.last_good_deployment for group in groups}
    newer: Counter[str] = Counter()
    found = []
    for deployment in deployments:
        newer[deployment.group_id] += 1
        too_many = newer[deployment.group_id] > limits.deployments_of_a_group
        ended_at = deployment.completed_at or deployment.created_at
        too_old = deployment.status in ENDED and ended_at < now - limits.deployments_for
        if too_many and too_old and deployment.id not in aims:
            found.append(deployment.id)
    return found


def excess_output(written: Mapping[str, int], kept: Sequence[Deployment], limits: Limits) -> list[str]:
    """Whose output goes: that of deployments which are no more, then the oldest ended ones' until the rest fits."""
    known = {d.id for d in kept}
    gone = [id for id in written if id not in known]
    total = sum(size for id, size in written.items() if id in known)
    for deployment in reversed(kept):
        if total <= limits.output_bytes:
            break
        if deployment.status in ENDED and deployment.id in written:
            gone.append(deployment.id)
            total -= written[deployment.id]
    return gone


def excess_revisions(
    rows: Sequence[StoredRevision], sizes: Mapping[str, int], needed: Collection[str], now: float, limits: Limits
) -> list[str]:
    """Identities that nothing needs and that are too old, or too big together; `rows` come newest first."""
    newer: Counter[str] = Counter()
    pushed_at: dict[str, float] = {}
    held = set(needed)
    for row in rows:
        identity = row.revision.identity
        newer[row.application] += 1
        pushed_at.setdefault(identity, row.pushed_at)
        if newer[row.application] <= limits.revisions_of_an_application:
            held.add(identity)
    total = sum(sizes.values())
    found = []
    for identity, at in sorted(pushed_at.items(), key=lambda item: item[1]):
        if identity not in held and (at < now - limits.revisions_for or total > limits.bundle_bytes):
            found.append(identity)
            total -= sizes.get(identity, 0)
    return found


async def _prune_revisions(
    store: Store,
    bundles: Bundles,
    kept: Sequence[Deployment],
    groups: Sequence[Group],
    now: float,
    limits: Limits,
    epoch: int | None,
) -> list[str]:
    sizes = await asyncio.to_thread(bundles.sizes)
    seen = {identity: bundles.changed_at(identity) for identity in sizes}
    rows = await store.revisions()
    needed = await _needed(store, kept, groups)
    excess = excess_revisions(rows, sizes, needed, now, limits)
    rowless = sizes.keys() - {row.revision.identity for row in rows} - needed
    abandoned = [i for i in rowless if (seen[i] or now) < now - limits.uploads_for]
    gone = []
    for identity in [*excess, *abandoned]:
        known = {row.application: row.pushed_at for row in rows if row.revision.identity == identity}
        drop = partial(_drop, bundles=bundles, identity=identity, seen=seen.get(identity), epoch=epoch)
        if known and not await store.in_writer(partial(drop, known=known)):
            continue
        await store.in_writer(partial(drop, known={}))
        gone += [identity] if known else []
    return gone


def _drop(
    connection: Connection,
    bundles: Bundles,
    identity: str,
    known: Mapping[str, float],
    seen: float | None,
    epoch: int | None,
) -> bool:
    """Removes the rows that are `known`, or the bundle when there are none; neither, and False, when a push or a
    deployment came since they were looked at.

    Runs in the writer's thread: no row can be written between the look and the removal.
    """
    check_fence(connection, epoch)
    r, d = tables.revisions.c, tables.deployments.c
    held = connection.execute(select(r.application, r.pushed_at).where(r.identity == identity)).all()
    active = select(d.body).where(d.status.not_in([str(status) for status in ENDED]))
    wanted = any(identity in body for body in connection.execute(active).scalars())
    if wanted or {row.application: row.pushed_at for row in held} != known or bundles.changed_at(identity) != seen:
        return False
    if known:
        connection.execute(delete(tables.revisions).where(r.identity == identity))
    else:
        bundles.remove(identity)
    return True


async def _needed(store: Store, kept: Sequence[Deployment], groups: Iterable[Group]) -> set[str]:
    """What may be sent to an agent or be asked of a host: running, installed, last good, or one rollback away."""
    newest = {d.group_id: d.id for d in reversed(kept)}
    wanted = [d for d in kept if d.status not in ENDED or newest[d.group_id] == d.id]
    needed = {revision.identity for d in wanted for revision in (d.revision, d.previous_revision) if revision}
    for group in groups:
        needed.update(row.installed for row in (await store.installed(group.id)).values())
        if group.last_good is not None:
            needed.add(group.last_good.identity)
    return needed


def _forget(connection: Connection, deployment_id: str, epoch: int | None) -> None:
    check_fence(connection, epoch)
    for table in tables.OF_A_DEPLOYMENT:
        connection.execute(delete(table).where(table.c.deployment_id == deployment_id))
    connection.execute(delete(tables.deployments).where(tables.deployments.c.id == deployment_id))


def _each(remove: Callable[[str], None], names: Iterable[str]) -> None:
    for name in names:
        remove(name)
