"""Roles of AWS whose holders may join."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    id = Column("id", String, primary_key=True, autoincrement=False)
    op.create_table("trusted_roles", id, Column("body", Text, nullable=False))
