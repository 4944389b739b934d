"""Hook functions' runs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    keys = [Column(name, String, primary_key=True) for name in ("deployment_id", "instance", "event")]
    op.create_table("hook_runs", *keys, Column("body", Text, nullable=False))
