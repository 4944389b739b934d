"""Hooks that were put on Auto Scaling groups, and the instances that wait for them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, String, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for table, name in (("scaling_hooks", "scaling_group"), ("launches", "cloud_id")):
        keys = [Column(key, String, primary_key=True) for key in ("group_id", name)]
        leaving = Column("leaving", Boolean, primary_key=True)
        op.create_table(table, *keys, leaving, Column("body", Text, nullable=False))
