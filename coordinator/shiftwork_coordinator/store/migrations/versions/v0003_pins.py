"""What places outside were found to hold when a deployment was created from them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    keys = (Column(name, String, primary_key=True, autoincrement=False) for name in ("url", "identity"))
    op.create_table("pins", *keys, Column("body", Text, nullable=False))
