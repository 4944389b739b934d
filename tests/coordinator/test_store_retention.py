"""Retention: what is old goes, what something still needs stays, and a run that was cut off is made good."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.config import PREDEFINED
from shiftwork_coordinator.model.rows import (
    Asked,
    CommandRow,
    Deployment,
    Group,
    History,
    HookRun,
    Installed,
    LifecycleEventRow,
    Request,
    StoredRevision,
    Target,
)
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.store import (
    Add,
    Audit,
    Bundles,
    Fenced,
    Lease,
    Limits,
    Outputs,
    Put,
    PutEvent,
    Store,
    prune,
    retention,
)
from shiftwork_coordinator.store.tables import OF_A_DEPLOYMENT, metadata

SETTINGS = GroupSettings(Instances(names=("web-1",)))
CONFIG = PREDEFINED["CodeDeployDefault.OneAtATime"]
GROUP = Group("g-1", "web", "production", SETTINGS)
NOW = 1000.0
AGE_ONLY = Limits(deployments_for=100.0, deployments_of_a_group=1, revisions_for=100.0, revisions_of_an_application=1)


def revision(digit: str) -> Revision:
    return Revision("sha256:" + digit * 64, "coordinator:")


def deployment(serial: int, at: float, status: DeploymentStatus = DeploymentStatus.SUCCEEDED) -> Deployment:
    ended = at if status is not DeploymentStatus.IN_PROGRESS else None
    return Deployment(
        f"d-{serial}",
        serial,
        "web",
        "production",
        "g-1",
        revision("f"),
        CONFIG,
        SETTINGS,
        at,
        status,
        completed_at=ended,
    )


class Place:
    def __init__(self, store: Store, path: Path) -> None:
        self.store, self.bundles, self.outputs = store, Bundles(path / "bundles"), Outputs(path / "output")

    async def push(self, digit: str, at: float, application: str = "web", size: int = 1) -> str:
        row = StoredRevision(application, revision(digit), size, 1, at)
        self.file(digit, at, size)
        await self.store.write(Put(row))
        return row.revision.identity

    def file(self, digit: str, at: float, size: int = 1) -> None:
        path = self.bundles.path(revision(digit).identity)
        path.write_bytes(b"x" * size)
        os.utime(path, (at, at))

    async def prune(self, limits: Limits, epoch: int | None = None) -> object:
        return await prune(self.store, self.bundles, self.outputs, NOW, limits, epoch=epoch)

    async def left(self) -> list[str]:
        return [d.id for d in reversed(await self.store.deployments())]

    def bundles_left(self) -> str:
        return "".join(sorted(identity[-1] for identity in self.bundles.sizes()))


@pytest.fixture
async def place(tmp_path: Path, database: Path) -> AsyncIterator[Place]:
    store = await Store.open(database)
    await store.write(Put(GROUP))
    yield Place(store, tmp_path)
    await store.close()


async def test_old_deployments_go_and_running_newest_and_last_good_ones_stay(place: Place) -> None:
    rows = (
        deployment(1, 10.0),
        deployment(2, 20.0),
        deployment(3, 30.0, DeploymentStatus.IN_PROGRESS),
        deployment(4, 950.0),
        deployment(5, 40.0, DeploymentStatus.FAILED),
        deployment(6, 50.0),
    )
    await place.store.write(*(Put(row) for row in rows), Put(replace(GROUP, last_good_deployment="d-2")))
    await place.prune(AGE_ONLY)
    assert await place.left() == ["d-2", "d-3", "d-4", "d-6"]


async def test_everything_of_a_deployment_goes_with_it_and_nothing_of_another(place: Place) -> None:
    await place.store.write(Put(deployment(2, 900.0)))
    for id in ("d-1", "d-2"):
        command = Command(f"{id}.web-1.1", id, "g-1", "web", "production", 1, revision("f"))
        rows = (Request(id), Target(id, "web-1"), CommandRow(command, "web-1", 1, 1.0), Asked(id, "web-1", "register"))
        rows += (HookRun(id, "web-1", "BeforeAllowTraffic", f"{id}.web-1.BeforeAllowTraffic", "check", 1.0),)
        event = PutEvent(id, "web-1", 0, LifecycleEventRow("Install", EventStatus.SUCCEEDED))
        await place.store.write(
            *(Put(row) for row in rows), event, Add(History(id, 1.0, "x")), Audit("me", "x", id, 1.0)
        )
        place.outputs.append(id, "web-1", "Install", 0, b"x")
    await place.store.write(Put(deployment(1, 10.0)))
    await place.prune(AGE_ONLY)
    assert place.outputs.sizes() == {"d-2": 1}
    for table in OF_A_DEPLOYMENT:
        sql = f"select deployment_id from {table.name}"
        found = await place.store.in_writer(lambda c, sql=sql: c.exec_driver_sql(sql).scalars().all())  # type: ignore[misc]
        assert found == ["d-2"], table.name
    assert len(await place.store.audit()) == 2


def test_every_table_with_a_deployment_is_covered() -> None:
    assert set(OF_A_DEPLOYMENT) == {table for table in metadata.sorted_tables if "deployment_id" in table.c}


async def test_too_much_output_goes_oldest_first_and_never_of_a_running_one(place: Place) -> None:
    running = deployment(1, 900.0, DeploymentStatus.IN_PROGRESS)
    await place.store.write(Put(running), *(Put(deployment(n, 900.0)) for n in (2, 3, 4)))
    for n in (1, 2, 3, 4):
        place.outputs.append(f"d-{n}", "web-1", "Install", 0, b"x" * 10)
    place.outputs.append("d-gone", "web-1", "Install", 0, b"x")
    await place.prune(Limits(output_bytes=25))
    assert place.outputs.sizes() == {"d-1": 10, "d-4": 10}
    assert await place.left() == ["d-1", "d-2", "d-3", "d-4"]


async def test_old_revisions_go_unless_something_needs_them(place: Place) -> None:
    for n, digit in enumerate("0123456789"):
        await place.push(digit, float(n))
    await place.push("a", 950.0)
    await place.push("b", 960.0)
    before = replace(deployment(1, 910.0), revision=revision("6"), previous_revision=revision("7"))
    latest = replace(deployment(2, 920.0), revision=revision("1"), previous_revision=revision("2"))
    running = replace(deployment(3, 10.0, DeploymentStatus.IN_PROGRESS), group_id="g-2", revision=revision("3"))
    installed = Installed("g-1", "web-1", revision("4").identity)
    behind_it = replace(deployment(4, 990.0, DeploymentStatus.QUEUED), group_id="g-2", revision=revision("a"))
    await place.store.write(*(Put(row) for row in (before, latest, running, behind_it, installed)))
    await place.store.write(Put(replace(GROUP, last_good=revision("5"))))
    await place.prune(AGE_ONLY)
    assert place.bundles_left() == "12345ab"
    assert {r.revision.identity[-1] for r in await place.store.revisions("web")} == set("12345ab")


async def test_a_bundle_stays_while_another_application_has_it_among_its_newest(place: Place) -> None:
    await place.push("1", 1.0)
    await place.push("2", 2.0)
    await place.push("1", 1.0, application="api")
    await place.prune(AGE_ONLY)
    assert place.bundles_left() == "12"


async def test_too_many_bytes_take_the_oldest_even_when_it_is_young(place: Place) -> None:
    for n, digit in enumerate("1234"):
        await place.push(digit, 990.0 + n, size=10)
    await place.prune(Limits(revisions_of_an_application=1, bundle_bytes=25))
    assert place.bundles_left() == "34"


async def test_a_bundle_without_a_row_goes_when_no_push_can_still_be_under_way(place: Place) -> None:
    place.file("1", at=100.0)
    place.file("2", at=990.0)
    await place.prune(Limits(uploads_for=50.0))
    assert place.bundles_left() == "2"


async def test_only_the_one_that_leads_may_prune(place: Place) -> None:
    await place.store.write(Put(deployment(1, 10.0)), Put(deployment(2, 20.0)))
    stale = await Lease.take(place.store, SystemClock(), "one")
    leader = await Lease.take(place.store, SystemClock(), "two")
    with pytest.raises(Fenced):
        await place.prune(AGE_ONLY, epoch=stale.epoch)
    assert await place.left() == ["d-1", "d-2"]
    await place.prune(AGE_ONLY, epoch=leader.epoch)
    assert await place.left() == ["d-2"]


@pytest.mark.parametrize("meanwhile", ["create", "push", "push again", "nothing"])
async def test_a_bundle_that_comes_to_be_needed_during_the_round_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """The need comes after the round has read the rows, and before it removes anything."""
    await place.push("1", 1.0)
    await place.push("2", 2.0)
    needed = retention._needed

    async def overtaken(*args: Any) -> set[str]:
        found = await needed(*args)
        if meanwhile == "create":
            running = replace(deployment(9, NOW, DeploymentStatus.QUEUED), revision=revision("1"))
            await place.store.write(Put(running))
        elif meanwhile == "push":
            await place.store.write(Put(StoredRevision("api", revision("1"), 1, 1, NOW)))
        elif meanwhile == "push again":
            place.bundles.touch(revision("1").identity)
        return found

    monkeypatch.setattr(retention, "_needed", overtaken)
    await place.prune(AGE_ONLY)
    left = "2" if meanwhile == "nothing" else "12"
    assert place.bundles_left() == left
    assert {r.revision.identity[-1] for r in await place.store.revisions("web")} == set(left)
