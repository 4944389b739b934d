"""Retention of agents' packages and upgrades: bounded, and never what an agent is or may have to go back to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade, AgentUpgradeTarget
from shiftwork_coordinator.store import Bundles, Fenced, Lease, Limits, Put, Store, prune_upgrades, retention_upgrades

NOW = 1000.0
LIMITS = Limits(upgrades_for=100.0, upgrades=1, agent_versions=2, uploads_for=50.0)


class Place:
    def __init__(self, store: Store, path: Path) -> None:
        self.store, self.packages = store, Bundles(path / "packages")

    async def give(self, version: str, at: float, digit: str = "", machine: str = "x86_64") -> AgentPackage:
        row = AgentPackage(version, "deb", machine, (digit or version) * 64, 1, at)
        self.file(row.sha256, at)
        await self.store.write(Put(row))
        return row

    def file(self, digest: str, at: float) -> None:
        path = self.packages.path(f"sha256:{digest}")
        path.write_bytes(b"x")
        os.utime(path, (at, at))

    async def upgrade(self, id: str, at: float, status: DeploymentStatus = DeploymentStatus.SUCCEEDED) -> None:
        ended = None if status is DeploymentStatus.IN_PROGRESS else at
        row = AgentUpgrade(id, "2", 1, created_at=at, status=status, completed_at=ended)
        await self.store.write(Put(row), Put(AgentUpgradeTarget(id, "web-1")))

    async def prune(self, epoch: int | None = None) -> None:
        await prune_upgrades(self.store, self.packages, NOW, LIMITS, epoch=epoch)

    async def left(self) -> str:
        """Versions with a row; there must be a file for each."""
        rows = await self.store.packages()
        assert {f"sha256:{row.sha256}" for row in rows} <= self.packages.sizes().keys()
        return "".join(row.version for row in rows)

    def files(self) -> str:
        return "".join(sorted(identity[-1] for identity in self.packages.sizes()))


@pytest.fixture
async def place(tmp_path: Path, database: Path) -> AsyncIterator[Place]:
    store = await Store.open(database)
    yield Place(store, tmp_path)
    await store.close()


async def test_the_newest_packages_stay_and_what_an_agent_is(place: Place) -> None:
    for number, version in enumerate("12345"):
        await place.give(version, 100.0 + number)
    await place.give("0", 10.0, machine="aarch64")
    revoked = Instance("gone", agent_version="1", revoked_at=5.0)
    await place.store.write(Put(Instance("web-1", agent_version="2")), Put(revoked))
    await place.prune()
    assert await place.left() == place.files() == "0245"


async def test_a_file_whose_row_names_another_goes_when_no_upload_can_be_about_it(place: Place) -> None:
    await place.give("1", 100.0, digit="a")
    await place.give("1", 200.0, digit="b")
    place.file("c" * 64, NOW - 10.0)
    await place.prune()
    assert place.files() == "bc"


async def test_while_an_upgrade_is_active_packages_stay(place: Place) -> None:
    for number, version in enumerate("1234"):
        await place.give(version, 100.0 + number)
    place.file("a" * 64, 100.0)
    await place.upgrade("u-1", 900.0, DeploymentStatus.IN_PROGRESS)
    await place.prune()
    assert (await place.left(), place.files()) == ("1234", "1234a")


@pytest.mark.parametrize("meanwhile", ["given again", "upgrade", "nothing"])
async def test_a_package_that_comes_to_be_wanted_during_the_round_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    rows = [await place.give(version, 100.0 + number) for number, version in enumerate("123")]
    excess = retention_upgrades.excess
    monkeypatch.setattr(retention_upgrades, "excess", lambda *args: chosen.extend(excess(*args)) or chosen)
    chosen: list[AgentPackage] = []
    in_writer = place.store.in_writer

    async def overtaken(job: Any) -> Any:
        if chosen and meanwhile == "given again":
            await place.give(rows[0].version, NOW)
        elif chosen and meanwhile == "upgrade":
            await place.upgrade("u-1", NOW, DeploymentStatus.IN_PROGRESS)
        return await in_writer(job)

    monkeypatch.setattr(place.store, "in_writer", overtaken)
    await place.prune()
    assert await place.left() == ("23" if meanwhile == "nothing" else "123")


async def test_old_upgrades_go_with_their_targets_and_active_and_newest_ones_stay(place: Place) -> None:
    active = DeploymentStatus.IN_PROGRESS
    for id, at, status in (
        ("u-1", 10.0, active),
        ("u-2", 20.0, DeploymentStatus.FAILED),
        ("u-3", 950.0, DeploymentStatus.STOPPED),
        ("u-4", 960.0, DeploymentStatus.SUCCEEDED),
    ):
        await place.upgrade(id, at, status)
    await place.prune()
    assert [row.id for row in await place.store.agent_upgrades()] == ["u-4", "u-3", "u-1"]
    assert [len(await place.store.agent_upgrade_targets(f"u-{n}")) for n in (1, 2, 3, 4)] == [1, 0, 1, 1]


async def test_an_old_upgrade_stays_where_it_is_among_the_newest(place: Place) -> None:
    await place.upgrade("u-1", 10.0)
    await place.prune()
    assert [row.id for row in await place.store.agent_upgrades()] == ["u-1"]


async def test_only_the_one_that_leads_may_prune(place: Place) -> None:
    for number, version in enumerate("123"):
        await place.give(version, 100.0 + number)
    stale = await Lease.take(place.store, SystemClock(), "one")
    leader = await Lease.take(place.store, SystemClock(), "two")
    with pytest.raises(Fenced):
        await place.prune(epoch=stale.epoch)
    assert await place.left() == "123"
    await place.prune(epoch=leader.epoch)
    assert await place.left() == "23"
