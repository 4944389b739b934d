"""Hosts that ask to join and wait for an operator."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    fingerprint = Column("fingerprint", String, primary_key=True, autoincrement=False)
    op.create_table("join_requests", fingerprint, Column("body", Text, nullable=False))
