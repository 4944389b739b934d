"""The tables of the first version. Later versions add to them here, one file each (expand now, contract later)."""

from alembic import op

from shiftwork_coordinator.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
