"""Brings a database's schema up to date when it is opened."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from shiftwork_contract.errors import InvalidRequest

HERE = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Runs the missing migrations in one transaction. Refuses a database written by a newer version."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found == head:
        return
    if found is not None and found not in {s.revision for s in script.walk_revisions()}:
        raise InvalidRequest(
            f"cannot open the database: its schema {found} is newer than this version's {head};"
            " run the version that wrote it, or a later one"
        )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
