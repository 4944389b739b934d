"""The tables of the first version, as they were then: written out, so that tables.py may go on changing.

Later versions add to them here, one file each (expand now, contract a version later).
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Column, Float, Integer, String, Text, UniqueConstraint

revision = "0001"
down_revision = None


def upgrade() -> None:
    _deployments()
    _groups()
    _instances()
    _lines()
    _bookkeeping()


def _table(name: str, *parts: Any) -> None:
    op.create_table(name, *parts, Column("body", Text, nullable=False))


def _key(name: str, kind: Any = String) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _deployments() -> None:
    serial = Column("serial", Integer, nullable=False, unique=True)
    searched = (Column(name, String) for name in ("application", "grp", "group_id", "status"))
    _table("deployments", _key("id"), serial, *searched)
    for column in ("application", "group_id", "status"):
        op.create_index(f"ix_deployments_{column}", "deployments", [column])
    _table("requests", _key("deployment_id"))
    target = ("deployment_id", "instance")
    _table("targets", *map(_key, target))
    _table("lifecycle_events", *map(_key, (*target, "event")), Column("position", Integer))
    _table("commands", *map(_key, target), _key("stage", Integer), Column("status", String, nullable=False))
    op.create_index("ix_commands_instance_status", "commands", ["instance", "status"])
    _table("asked", *map(_key, (*target, "verb")))


def _groups() -> None:
    names = (Column(name, String, nullable=False) for name in ("application", "name"))
    _table("groups", _key("id"), *names, UniqueConstraint("application", "name", name="uq_groups_application_name"))
    for table in ("installed", "health"):
        _table(table, _key("group_id"), _key("instance"))
    _table("configs", _key("name"))
    _table("revisions", _key("application"), _key("identity"), Column("pushed_at", Float))


def _instances() -> None:
    _table("instances", _key("name"))
    _table("tokens", _key("id"))


def _lines() -> None:
    _table("history", Column("number", Integer, primary_key=True, autoincrement=True), Column("deployment_id", String))
    op.create_index("ix_history_deployment_id", "history", ["deployment_id"])
    _table("audit", Column("number", Integer, primary_key=True, autoincrement=True), Column("hash", String))


def _bookkeeping() -> None:
    lease = (Column("holder", String), Column("epoch", Integer), Column("expires_at", Float))
    op.create_table("leases", _key("name"), *lease)
    op.create_table("meta", _key("name"), Column("value", Text))
