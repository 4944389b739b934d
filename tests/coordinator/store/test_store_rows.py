"""The store: rows come back as they went in, units stand or fall alone, and nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.config import PREDEFINED
from shiftwork_coordinator.model.launches import Launch, ScalingHook
from shiftwork_coordinator.model.rows import (
    Asked,
    CommandRow,
    CustomConfig,
    Deployment,
    Group,
    Health,
    History,
    HookRun,
    Installed,
    Instance,
    JoinRequest,
    LifecycleEventRow,
    Pin,
    Request,
    StoredRevision,
    Target,
    Token,
    TrustedRole,
)
from shiftwork_coordinator.model.settings import Aws, GroupSettings, Instances
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade, AgentUpgradeTarget
from shiftwork_coordinator.store import (
    Add,
    Audit,
    Bundles,
    DataDirectory,
    Delete,
    Fenced,
    Lease,
    Outputs,
    Put,
    PutEvent,
    PutMeta,
    Store,
    Unchanged,
)
from shiftwork_coordinator.store import blobs as blobs_module
from shiftwork_coordinator.store.tables import STORED

REVISION = Revision("sha256:" + "a" * 64, "coordinator:")
SETTINGS = GroupSettings(Instances(tags={"Role": ["web"]}), environment={"A": "ü"})
CONFIG = PREDEFINED["CodeDeployDefault.HalfAtATime"]
DEPLOYMENT = Deployment("d-1", 1, "web", "production", "g-1", REVISION, CONFIG, SETTINGS, 1.5)
COMMAND = Command("d-1.web-1.1", "d-1", "g-1", "web", "production", 101, REVISION, events=("Install",))
ROWS = (
    DEPLOYMENT,
    Request("d-1", stop="now", stop_rollback=True),
    Target("d-1", "web-1", cut=3),
    CommandRow(COMMAND, "web-1", 1, 2.0, ran=("Install",), diagnostics=Diagnostics(ErrorCode.SCRIPT_FAILED, "x")),
    Asked("d-1", "web-1", "register", asked_at=3.0),
    Installed("g-1", "web-1", "sha256:x", "d-0"),
    Health("g-1", "web-1", True),
    Group("g-1", "web", "production", SETTINGS, last_good=REVISION),
    CustomConfig("Careful", CONFIG),
    StoredRevision("web", REVISION, 10, 2, 4.0),
    Instance("web-1", tags={"Role": "web"}),
    Token("t1", "agent", "hash", 1.0, uses_left=1),
    HookRun("d-1", "orders", "BeforeAllowTraffic", "d-1.orders.BeforeAllowTraffic", "check", 1.0, status="Failed"),
    Pin(Revision("sha256:" + "b" * 64, "s3://bucket/key?versionId=1", etag="e"), 5.0),
    TrustedRole("r1", "123456789012", "web-*", {"Role": "web"}),
    JoinRequest("sha256:f", "web-2", "csr", state="approved"),
    AgentPackage("0.2.0", "deb", "x86_64", "c" * 64, 13),
    AgentUpgrade("u-1", "0.2.0", 4),
    AgentUpgradeTarget("u-1", "web-1", code="TIMEOUT"),
    ScalingHook("g-1", "web", leaving=False, aws=Aws("eu-west-1")),
    Launch("g-1", "i-1", leaving=True, scaling_group="web", since=6.0, outcome="CONTINUE"),
)


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    store = await Store.open(database)
    yield store
    await store.close()


def test_every_kind_of_row_is_covered_here() -> None:
    assert {type(row) for row in ROWS} == set(STORED)


async def test_rows_come_back_as_they_went_in(store: Store) -> None:
    await store.write(*(Put(row) for row in ROWS))
    found = (
        await store.deployment("d-1"),
        await store.request("d-1"),
        (await store.targets("d-1"))["web-1"],
        (await store.commands("d-1"))["web-1", 1],
        (await store.asked("d-1"))["web-1", "register"],
        (await store.installed("g-1"))["web-1"],
        (await store.health("g-1"))["web-1"],
        await store.group("web", "production"),
        CustomConfig("Careful", (await store.configs())["Careful"]),
        await store.revision("web", REVISION.identity),
        await store.instance("web-1"),
        await store.token("t1"),
        (await store.hook_runs("d-1"))["orders", "BeforeAllowTraffic"],
        *await store.pins("s3://bucket/key?versionId=1"),
        *await store.trusted_roles(),
        *await store.join_requests(),
        *await store.packages(),
        await store.agent_upgrade("u-1"),
        (await store.agent_upgrade_targets("u-1"))["web-1"],
        *await store.scaling_hooks(),
        *await store.launches("g-1"),
    )
    assert found == ROWS


async def test_a_later_row_replaces_an_earlier_one_and_delete_removes(store: Store) -> None:
    await store.write(Put(Target("d-1", "web-1")), Put(Target("d-1", "web-1", batch=2)))
    assert (await store.targets("d-1"))["web-1"].batch == 2
    await store.write(Delete(Target("d-1", "web-1")))
    assert await store.targets("d-1") == {}


async def test_deployments_are_found_by_group_and_status_newest_first(store: Store) -> None:
    done = replace(DEPLOYMENT, id="d-2", serial=2, status=DeploymentStatus.SUCCEEDED)
    other = replace(DEPLOYMENT, id="d-3", serial=3, group="staging", group_id="g-2")
    await store.write(Put(DEPLOYMENT), Put(done), Put(other))
    assert [d.id for d in await store.deployments()] == ["d-3", "d-2", "d-1"]
    assert [d.id for d in await store.deployments(application="web", group="production")] == ["d-2", "d-1"]
    assert [d.id for d in await store.deployments(statuses=[DeploymentStatus.CREATED])] == ["d-3", "d-1"]
    assert [await store.next_serial(), await store.next_serial()] == [4, 5]


async def test_events_keep_the_order_of_the_lifecycle(store: Store) -> None:
    for position, name in ((1, "Install"), (0, "ApplicationStop")):
        await store.write(PutEvent("d-1", "web-1", position, LifecycleEventRow(name, EventStatus.SUCCEEDED)))
    assert list((await store.events("d-1"))["web-1"]) == ["ApplicationStop", "Install"]


async def test_history_goes_on_after_a_number(store: Store) -> None:
    await store.write(*(Add(History("d-1", float(n), "event", data={"n": n})) for n in range(3)))
    lines = await store.history("d-1")
    assert [line.data["n"] for _, line in lines] == [0, 1, 2]
    assert [line.data["n"] for _, line in await store.history("d-1", after=lines[1][0])] == [2]


async def test_a_refused_unit_leaves_its_neighbours_alone(store: Store) -> None:
    await store.write(Put(DEPLOYMENT))
    changed = replace(DEPLOYMENT, description="other")
    results = await asyncio.gather(
        store.write(Put(Target("d-1", "web-1"))),
        store.write(Unchanged(changed, "somebody was faster"), Put(Target("d-1", "web-2"))),
        store.write(Put(Target("d-1", "web-3"))),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [type(None), Conflict, type(None)]
    assert set(await store.targets("d-1")) == {"web-1", "web-3"}


async def test_a_stale_epoch_changes_nothing(store: Store) -> None:
    clock = SystemClock()
    first = await Lease.take(store, clock, "one")
    await store.write(Put(DEPLOYMENT), epoch=first.epoch)
    second = await Lease.take(store, clock, "two")
    assert second.epoch == first.epoch + 1
    with pytest.raises(Fenced, match="another coordinator has taken over"):
        await store.write(Put(replace(DEPLOYMENT, description="stale")), epoch=first.epoch)
    with pytest.raises(Conflict, match="taken over"):
        await first.renew()
    await second.renew()
    assert (await store.deployment("d-1")) == DEPLOYMENT


async def test_stale_and_live_units_of_one_group_are_told_apart(store: Store) -> None:
    epoch = (await Lease.take(store, SystemClock(), "one")).epoch
    results = await asyncio.gather(
        store.write(Put(Target("d-1", "a")), epoch=epoch),
        store.write(Put(Target("d-1", "b")), epoch=epoch - 1),
        store.write(Put(Target("d-1", "c")), epoch=epoch),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [type(None), Fenced, type(None)]
    assert set(await store.targets("d-1")) == {"a", "c"}


async def test_the_lease_does_not_allow_a_call_that_outlasts_it(store: Store) -> None:
    class Clock(SystemClock):
        at = 100.0

        def monotonic(self) -> float:
            return self.at

    clock = Clock()
    lease = await Lease.take(store, clock, "one")
    assert lease.outlasts(5.0)
    clock.at += 11.0
    assert not lease.outlasts(5.0)
    await lease.renew()
    assert lease.outlasts(5.0)


async def test_the_audit_log_shows_where_it_was_tampered_with(store: Store) -> None:
    for action in ("one", "two", "three"):
        await store.write(PutMeta("x", action), Audit("me", action, "thing", 1.0))
    assert await store.audit_break() is None
    assert await store.meta("x") == "three"
    await store.in_writer(lambda c: c.execute(text("update audit set body = replace(body, 'two', 'TWO')")))
    assert await store.audit_break() == 2


async def test_a_newer_schema_is_refused_and_named(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "db")
    await store.in_writer(lambda c: c.execute(text("update alembic_version set version_num = '9999'")))
    await store.close()
    with pytest.raises(InvalidRequest, match=r"9999 is newer"):
        await Store.open(tmp_path / "db")


WRITES = """
import asyncio, sys
from shiftwork_coordinator.store import Store, PutMeta
async def main():
    store = await Store.open(sys.argv[1])
    for number in range(100000):
        await store.write(PutMeta("last", str(number)), PutMeta(f"n{number}", "x"))
        print(number, flush=True)
asyncio.run(main())
"""


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path / "db")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged = int(rest.split()[-1]) if rest.split() else acknowledged
    store = await Store.open(tmp_path / "db")
    last = int(await store.meta("last") or -1)
    assert last >= acknowledged
    assert await store.meta(f"n{last}") == "x", "half of a unit was written"
    await store.close()


# Files


def test_a_data_directory_has_one_owner_and_the_other_is_named(tmp_path: Path) -> None:
    owner = DataDirectory(tmp_path / "data")
    with pytest.raises(Conflict, match=f"process {os.getpid()} uses it"):
        DataDirectory(tmp_path / "data")
    owner.close()
    DataDirectory(tmp_path / "data").close()


def test_a_bundle_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    upload = bundles.temporary()
    upload.write_bytes(b"x")
    assert not bundles.has(REVISION.identity)
    bundles.keep(upload, REVISION.identity)
    assert bundles.path(REVISION.identity).read_bytes() == b"x"
    with pytest.raises(InvalidRequest):
        bundles.path("sha256:../../etc/passwd")


def test_output_takes_pieces_twice_and_out_of_order(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    for offset, data in ((3, b"def"), (0, b"abc"), (3, b"def")):
        outputs.append("d-1", "web-1", "Install", offset, data)
    assert outputs.read("d-1", "web-1", "Install") == b"abcdef"
    assert outputs.events("d-1") == {"web-1": ["Install"]}
    with pytest.raises(InvalidRequest):
        outputs.append("d-1", "..", "Install", 0, b"x")


def test_output_is_bounded_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "OUTPUT_LIMIT", 10)
    outputs = Outputs(tmp_path)
    for offset in (0, 8, 16, 24):
        outputs.append("d-1", "web-1", "Install", offset, b"x" * 8)
    assert outputs.read("d-1", "web-1", "Install") == b"x" * 10 + blobs_module.CUT
