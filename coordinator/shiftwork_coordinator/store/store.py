"""The store: reads return rows, writes go through the one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.model.config import DeploymentConfig
from shiftwork_coordinator.model.launches import Launch, ScalingHook
from shiftwork_coordinator.model.rows import (
    Asked,
    CommandRow,
    CustomConfig,
    Deployment,
    Group,
    Health,
    History,
    HookRun,
    Installed,
    Instance,
    JoinRequest,
    LifecycleEventRow,
    Pin,
    Request,
    Row,
    StoredRevision,
    Target,
    Token,
    TrustedRole,
)
from shiftwork_coordinator.model.status import OPEN, DeploymentStatus
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade, AgentUpgradeTarget
from shiftwork_coordinator.store import tables
from shiftwork_coordinator.store.audit import AuditLine, first_break
from shiftwork_coordinator.store.changes import Change
from shiftwork_coordinator.store.migrate import migrate
from shiftwork_coordinator.store.tables import STORED
from shiftwork_coordinator.store.writer import Writer

R = TypeVar("R", bound=Row)
T = TypeVar("T")
READERS = 4


def engine_for(url: str) -> Engine:
    """An engine for a database URL, or for a path: then SQLite in WAL mode, durable at each commit."""
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_settings)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy says BEGIN itself: savepoints need it
    for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


class Store:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = Writer(engine)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._serial: int | None = None

    @classmethod
    async def open(cls, where: str | Path) -> Store:
        """Opens the database and brings its schema up to date."""
        engine = engine_for(str(where))
        await asyncio.to_thread(migrate, engine)
        return cls(engine)

    @property
    def shared(self) -> bool:
        """Whether other coordinators can be on the same database."""
        return self._engine.dialect.name != "sqlite"

    async def close(self) -> None:
        await self._writer.close()
        self._readers.shutdown()
        self._engine.dispose()

    async def write(self, *changes: Change, epoch: int | None = None) -> None:
        """One unit: all of it durable on return, or none. Raises Fenced when the lease is no longer `epoch`'s."""
        await self._writer.write(changes, epoch)

    async def in_writer(self, job: Callable[[Connection], T]) -> T:
        """Runs `job` in a transaction of its own, between two groups of the one writer.

        Raises what it raises, and Unavailable when the database failed.
        """
        return await self._writer.run(job)

    # Deployments

    async def deployment(self, id: str) -> Deployment | None:
        return await self._one(Deployment, tables.deployments.c.id == id)

    async def deployments(
        self,
        *,
        application: str | None = None,
        group: str | None = None,
        statuses: Collection[str] | None = None,
        limit: int | None = 50,
        before_serial: int | None = None,
    ) -> list[Deployment]:
        """Newest first."""
        c = tables.deployments.c
        wanted: list[ColumnElement[bool]] = []
        if application is not None:
            wanted.append(c.application == application)
        if group is not None:
            wanted.append(c.grp == group)
        if statuses is not None:
            wanted.append(c.status.in_([str(s) for s in statuses]))
        if before_serial is not None:
            wanted.append(c.serial < before_serial)
        return await self._many(Deployment, *wanted, order=c.serial.desc(), limit=limit)

    async def next_serial(self) -> int:
        """Higher than every deployment's, and never given out twice by this process."""
        if self._serial is None:
            found = await self._read(lambda c: c.execute(select(func.max(tables.deployments.c.serial))).scalar())
            self._serial = max(self._serial or 0, found or 0)
        self._serial += 1
        return self._serial

    async def targets(self, deployment_id: str) -> dict[str, Target]:
        rows = await self._many(Target, tables.targets.c.deployment_id == deployment_id)
        return {row.instance: row for row in rows}

    async def events(self, deployment_id: str) -> dict[str, dict[str, LifecycleEventRow]]:
        """By instance, then by event in order."""
        c = tables.lifecycle_events.c
        query = select(c.instance, c.body).where(c.deployment_id == deployment_id).order_by(c.position)
        found: dict[str, dict[str, LifecycleEventRow]] = {}
        for instance, body in await self._read(lambda conn: conn.execute(query).all()):
            row = msgspec.json.decode(body, type=LifecycleEventRow)
            found.setdefault(instance, {})[row.event] = row
        return found

    async def commands(self, deployment_id: str) -> dict[tuple[str, int], CommandRow]:
        rows = await self._many(CommandRow, tables.commands.c.deployment_id == deployment_id)
        return {(row.instance, row.stage): row for row in rows}

    async def open_commands(self, instance: str) -> list[CommandRow]:
        """Those of all deployments that its agent may still report on."""
        c = tables.commands.c
        return await self._many(CommandRow, c.instance == instance, c.status.in_([str(s) for s in OPEN]))

    async def request(self, deployment_id: str) -> Request | None:
        return await self._one(Request, tables.requests.c.deployment_id == deployment_id)

    async def asked(self, deployment_id: str) -> dict[tuple[str, str], Asked]:
        rows = await self._many(Asked, tables.asked.c.deployment_id == deployment_id)
        return {(row.instance, row.verb): row for row in rows}

    async def hook_runs(self, deployment_id: str) -> dict[tuple[str, str], HookRun]:
        rows = await self._many(HookRun, tables.hook_runs.c.deployment_id == deployment_id)
        return {(row.instance, row.event): row for row in rows}

    async def history(self, deployment_id: str, after: int = 0) -> list[tuple[int, History]]:
        c = tables.history.c
        query = select(c.number, c.body).where(c.deployment_id == deployment_id, c.number > after).order_by(c.number)
        found = await self._read(lambda conn: conn.execute(query).all())
        return [(number, msgspec.json.decode(body, type=History)) for number, body in found]

    # Groups and what they deploy

    async def group(self, application: str, name: str) -> Group | None:
        c = tables.groups.c
        return await self._one(Group, c.application == application, c.name == name)

    async def group_by_id(self, id: str) -> Group | None:
        return await self._one(Group, tables.groups.c.id == id)

    async def groups(self) -> list[Group]:
        return await self._many(Group)

    async def applications(self) -> list[str]:
        """Those that have a group, by name."""
        c = tables.groups.c
        query = select(c.application).distinct().order_by(c.application)
        return await self._read(lambda conn: list(conn.execute(query).scalars()))

    async def configs(self) -> dict[str, DeploymentConfig]:
        return {row.name: row.config for row in await self._many(CustomConfig)}

    async def revision(self, application: str, identity: str) -> StoredRevision | None:
        c = tables.revisions.c
        return await self._one(StoredRevision, c.application == application, c.identity == identity)

    async def revisions(self, application: str | None = None) -> list[StoredRevision]:
        """Newest first; of one application or of all."""
        c = tables.revisions.c
        wanted = [] if application is None else [c.application == application]
        return await self._many(StoredRevision, *wanted, order=c.pushed_at.desc())

    async def pins(self, url: str) -> list[Pin]:
        """What was found at this place at one time or another."""
        return await self._many(Pin, tables.pins.c.url == url)

    async def installed(self, group_id: str) -> dict[str, Installed]:
        rows = await self._many(Installed, tables.installed.c.group_id == group_id)
        return {row.instance: row for row in rows}

    async def health(self, group_id: str) -> dict[str, Health]:
        rows = await self._many(Health, tables.health.c.group_id == group_id)
        return {row.instance: row for row in rows}

    # Instances and tokens

    async def instance(self, name: str) -> Instance | None:
        return await self._one(Instance, tables.instances.c.name == name)

    async def instances(self) -> list[Instance]:
        return await self._many(Instance, order=tables.instances.c.name)

    async def token(self, id: str) -> Token | None:
        return await self._one(Token, tables.tokens.c.id == id)

    async def tokens(self) -> list[Token]:
        return await self._many(Token)

    async def trusted_roles(self) -> list[TrustedRole]:
        return await self._many(TrustedRole)

    async def join_requests(self) -> list[JoinRequest]:
        return await self._many(JoinRequest)

    # Upgrades of agents

    async def packages(self) -> list[AgentPackage]:
        """In the order of versions' names, which says nothing of age."""
        c = tables.packages.c
        return await self._many(AgentPackage, order=c.version)

    async def agent_upgrade(self, id: str) -> AgentUpgrade | None:
        return await self._one(AgentUpgrade, tables.agent_upgrades.c.id == id)

    async def agent_upgrades(self, *, active: bool = False, limit: int | None = 50) -> list[AgentUpgrade]:
        """Newest first; with `active` those that have not ended."""
        c = tables.agent_upgrades.c
        wanted = [c.status == str(DeploymentStatus.IN_PROGRESS)] if active else []
        return await self._many(AgentUpgrade, *wanted, order=c.created_at.desc(), limit=limit)

    async def agent_upgrade_targets(self, upgrade_id: str) -> dict[str, AgentUpgradeTarget]:
        rows = await self._many(AgentUpgradeTarget, tables.agent_upgrade_targets.c.upgrade_id == upgrade_id)
        return {row.instance: row for row in rows}

    # Instances that Auto Scaling groups launch or end

    async def scaling_hooks(self) -> list[ScalingHook]:
        return await self._many(ScalingHook)

    async def launches(self, group_id: str | None = None) -> list[Launch]:
        """Of one deployment group or of all."""
        wanted = [] if group_id is None else [tables.launches.c.group_id == group_id]
        return await self._many(Launch, *wanted)

    # The rest

    async def meta(self, name: str) -> str | None:
        query = select(tables.meta.c.value).where(tables.meta.c.name == name)
        return await self._read(lambda conn: conn.execute(query).scalar())

    async def audit(self, limit: int | None = None) -> list[AuditLine]:
        """Oldest first; the last `limit` lines."""
        c = tables.audit.c
        query = select(c.number, c.hash, c.body).order_by(c.number.desc()).limit(limit)
        found = await self._read(lambda conn: conn.execute(query).all())
        return [AuditLine(number=n, hash=h, **msgspec.json.decode(body)) for n, h, body in reversed(found)]

    async def audit_break(self) -> int | None:
        """The number of the first line of the audit log that was tampered with; None when the chain holds."""
        c = tables.audit.c
        query = select(c.number, c.hash, c.body).order_by(c.number)
        found = await self._read(lambda conn: conn.execute(query).all())
        return first_break([(n, h, body) for n, h, body in found])

    # Reading

    async def _one(self, kind: type[R], *wanted: ColumnElement[bool]) -> R | None:
        found = await self._many(kind, *wanted, limit=1)
        return found[0] if found else None

    async def _many(
        self, kind: type[R], *wanted: ColumnElement[bool], order: Any = None, limit: int | None = None
    ) -> list[R]:
        query = select(STORED[kind].table.c.body).where(*wanted).order_by(order).limit(limit)
        bodies = await self._read(lambda conn: conn.execute(query).scalars().all())
        return [msgspec.json.decode(body, type=kind) for body in bodies]

    async def _read(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._in_connection, query)

    def _in_connection(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return query(connection)
        except DBAPIError as err:
            raise Unavailable(
                f"cannot read from the database: {err.orig}; check its disk and its server, then try again"
            ) from err
