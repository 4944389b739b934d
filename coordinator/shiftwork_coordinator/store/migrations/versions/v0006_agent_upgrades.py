"""Upgrades of agents: packages, upgrades and what each does to an instance."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, String, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    _table("packages", *(_key(name) for name in ("version", "format", "machine")))
    _table("agent_upgrades", _key("id"), Column("status", String), Column("created_at", Float))
    _table("agent_upgrade_targets", _key("upgrade_id"), _key("instance"))


def _table(name: str, *columns: Column[str] | Column[float]) -> None:
    op.create_table(name, *columns, Column("body", Text, nullable=False))


def _key(name: str) -> Column[str]:
    return Column(name, String, primary_key=True)
