"""Tables: keys, the columns that queries search by, and the row itself as JSON (ADR 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

from shiftwork_coordinator.model import launches as launching
from shiftwork_coordinator.model import rows, upgrades

metadata = MetaData()


def _key(name: str, kind: Any = String) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _table(name: str, *parts: Column[Any] | UniqueConstraint | Index) -> Table:
    return Table(name, metadata, *parts, Column("body", Text, nullable=False))


class Stored(msgspec.Struct, frozen=True):
    """How a row type is kept: its table, and the columns beside `body` read off a row. Keys are the primary key."""

    table: Table
    columns: Callable[[Any], dict[str, Any]]


def _fields(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda row: {name: getattr(row, name) for name in names}


deployments = _table(
    "deployments",
    _key("id"),
    Column("serial", Integer, unique=True, nullable=False),
    Column("application", String, index=True),
    Column("grp", String),
    Column("group_id", String, index=True),
    Column("status", String, index=True),
)
requests = _table("requests", _key("deployment_id"))
targets = _table("targets", _key("deployment_id"), _key("instance"))
lifecycle_events = _table(
    "lifecycle_events", _key("deployment_id"), _key("instance"), _key("event"), Column("position", Integer)
)
commands = _table(
    "commands",
    _key("deployment_id"),
    _key("instance"),
    _key("stage", Integer),
    Column("status", String, nullable=False),
    Index("ix_commands_instance_status", "instance", "status"),
)
asked = _table("asked", _key("deployment_id"), _key("instance"), _key("verb"))
hook_runs = _table("hook_runs", _key("deployment_id"), _key("instance"), _key("event"))
installed = _table("installed", _key("group_id"), _key("instance"))
health = _table("health", _key("group_id"), _key("instance"))
groups = _table(
    "groups",
    _key("id"),
    Column("application", String, nullable=False),
    Column("name", String, nullable=False),
    UniqueConstraint("application", "name", name="uq_groups_application_name"),
)
configs = _table("configs", _key("name"))
revisions = _table("revisions", _key("application"), _key("identity"), Column("pushed_at", Float))
pins = _table("pins", _key("url"), _key("identity"))
instances = _table("instances", _key("name"))
tokens = _table("tokens", _key("id"))
join_requests = _table("join_requests", _key("fingerprint"))
trusted_roles = _table("trusted_roles", _key("id"))
packages = _table("packages", _key("version"), _key("format"), _key("machine"))
agent_upgrades = _table("agent_upgrades", _key("id"), Column("status", String), Column("created_at", Float))
agent_upgrade_targets = _table("agent_upgrade_targets", _key("upgrade_id"), _key("instance"))
scaling_hooks = _table("scaling_hooks", _key("group_id"), _key("scaling_group"), _key("leaving", Boolean))
launches = _table("launches", _key("group_id"), _key("cloud_id"), _key("leaving", Boolean))
history = _table(
    "history",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("deployment_id", String, index=True),
)
audit = _table("audit", Column("number", Integer, primary_key=True, autoincrement=True), Column("hash", String))
leases = Table(
    "leases",
    metadata,
    _key("name"),
    Column("holder", String),
    Column("epoch", Integer),
    Column("expires_at", Float),
)
meta = Table("meta", metadata, _key("name"), Column("value", Text))


def _deployment(row: rows.Deployment) -> dict[str, Any]:
    return {**_fields("id", "serial", "application", "group_id", "status")(row), "grp": row.group}


def _command(row: rows.CommandRow) -> dict[str, Any]:
    return {
        "deployment_id": row.command.deployment_id,
        "instance": row.instance,
        "stage": row.stage,
        "status": row.status,
    }


def _revision(row: rows.StoredRevision) -> dict[str, Any]:
    return {"application": row.application, "identity": row.revision.identity, "pushed_at": row.pushed_at}


def _pin(row: rows.Pin) -> dict[str, Any]:
    return {"url": row.revision.url, "identity": row.revision.identity}


OF_A_DEPLOYMENT = (requests, targets, lifecycle_events, commands, asked, hook_runs, history)
"""What goes when the deployment goes."""

STORED: dict[type, Stored] = {
    rows.Deployment: Stored(deployments, _deployment),
    rows.Request: Stored(requests, _fields("deployment_id")),
    rows.Target: Stored(targets, _fields("deployment_id", "instance")),
    rows.CommandRow: Stored(commands, _command),
    rows.Asked: Stored(asked, _fields("deployment_id", "instance", "verb")),
    rows.HookRun: Stored(hook_runs, _fields("deployment_id", "instance", "event")),
    rows.Installed: Stored(installed, _fields("group_id", "instance")),
    rows.Health: Stored(health, _fields("group_id", "instance")),
    rows.Group: Stored(groups, _fields("id", "application", "name")),
    rows.CustomConfig: Stored(configs, _fields("name")),
    rows.StoredRevision: Stored(revisions, _revision),
    rows.Pin: Stored(pins, _pin),
    rows.Instance: Stored(instances, _fields("name")),
    rows.Token: Stored(tokens, _fields("id")),
    rows.TrustedRole: Stored(trusted_roles, _fields("id")),
    rows.JoinRequest: Stored(join_requests, _fields("fingerprint")),
    launching.ScalingHook: Stored(scaling_hooks, _fields("group_id", "scaling_group", "leaving")),
    launching.Launch: Stored(launches, _fields("group_id", "cloud_id", "leaving")),
    upgrades.AgentPackage: Stored(packages, _fields("version", "format", "machine")),
    upgrades.AgentUpgrade: Stored(agent_upgrades, _fields("id", "status", "created_at")),
    upgrades.AgentUpgradeTarget: Stored(agent_upgrade_targets, _fields("upgrade_id", "instance")),
}
