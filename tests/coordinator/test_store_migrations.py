"""Migrations: from nothing to the tables that the code uses, all of it or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from shiftwork_coordinator.store import Store
from shiftwork_coordinator.store import migrate as migrate_module
from shiftwork_coordinator.store.migrate import migrate
from shiftwork_coordinator.store.store import engine_for
from shiftwork_coordinator.store.tables import metadata


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "db")
    assert await store.in_writer(differences) == []
    await store.close()


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    await (await Store.open(tmp_path / "db")).close()
    before = (tmp_path / "db").read_bytes()
    await (await Store.open(tmp_path / "db")).close()
    assert (tmp_path / "db").read_bytes() == before


def test_a_migration_that_breaks_off_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(str(tmp_path / "db"))
    upgrade = migrate_module.command.upgrade

    def broken(*given: object) -> None:
        upgrade(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate_module.command, "upgrade", broken)
    with pytest.raises(KeyboardInterrupt):
        migrate(engine)
    assert inspect(engine).get_table_names() == []
    monkeypatch.undo()
    migrate(engine)
    assert "deployments" in inspect(engine).get_table_names()
    engine.dispose()


@pytest.mark.parametrize(
    ("setting", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", 5000), ("foreign_keys", 1)]
)
def test_sqlite_is_durable_at_each_commit(tmp_path: Path, setting: str, value: object) -> None:
    engine = engine_for(str(tmp_path / "db"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"pragma {setting}").scalar() == value
    engine.dispose()
