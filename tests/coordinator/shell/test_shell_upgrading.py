"""Upgrades of agents by a real coordinator without HTTP, killed at each of its writes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest, Unavailable
from shiftwork_contract.messages import FromCoordinator, Hello, HostFacts, Upgrade, Upgraded
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.model.upgrades import AgentPackage, AgentUpgrade
from shiftwork_coordinator.shell import upgrading
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Change, Outputs, Put, Store
from shiftwork_coordinator.store.lease import _take
from shiftwork_coordinator.upgrades import CreateUpgrade, create_upgrade

NAMES = ("a-1", "a-2", "a-3")


class Agent:
    """Installs what it is told, once per id, over a new link. `broken`: versions that do not work here."""

    def __init__(self, name: str, site: Site) -> None:
        self.name, self.site = name, site
        self.version, self.broken = "1", set[str]()
        self.installs: list[str] = []
        self.state: Upgraded | None = None
        self.epochs: list[int] = []
        self.deaf = False

    def send(self, message: FromCoordinator) -> None:
        if isinstance(message, Upgrade) and not self.deaf:
            self.site.later(self._upgrade(message))

    def close(self, reason: str) -> None: ...

    async def connect(self) -> None:
        host = HostFacts("x86_64", "debian", "12", "deb")
        hello = Hello(1, 1, self.version, "boot", 1, features=("upgrade",), host=host)
        with contextlib.suppress(Unavailable):  # killed meanwhile: it connects again to the next process
            await self.site.home.connected(self.name, hello, self)
            self.say()

    def say(self) -> None:
        if self.state is not None:
            self.site.home.upgrades.told(self.name, self.state)

    async def _upgrade(self, message: Upgrade) -> None:
        self.epochs.append(message.epoch)
        if self.state is None or self.state.id != message.id:
            self.installs.append(message.package.version)
            self.site.most = max(self.site.most, self.site.installing + 1)
            self.site.installing += 1
            self.state = Upgraded(message.id, "installing")
            self.say()
            await asyncio.sleep(0.01)
            self.site.home.disconnected(self.name, self)
            works = message.package.version not in self.broken
            self.version = message.package.version if works else self.version
            self.state = Upgraded(message.id, "done" if works else "returned", "" if works else "it did not connect")
            self.site.installing -= 1
            await self.connect()
        else:
            self.say()


class Site:
    """`before` and `after` are called around each write, with its number."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store, self.data = store, data
        self.agents = {name: Agent(name, self) for name in NAMES}
        self.home: Coordinator
        self.installing = self.most = 0
        self.writes = -1
        self.before: Callable[[int], bool] = lambda number: False
        self.after: Callable[[int], bool] = lambda number: False
        self.crashed, self.revived = asyncio.Event(), asyncio.Event()
        self._write = store.write
        store.write = self._guarded  # type: ignore[method-assign]
        self._tasks: asyncio.TaskGroup

    def later(self, work: Any) -> None:
        self._tasks.create_task(work)

    async def _guarded(self, *changes: Change, epoch: int | None = None) -> None:
        self.writes += 1
        number = self.writes
        await self._dies(self.before(number))
        await self._write(*changes, epoch=epoch)
        await self._dies(self.after(number))

    async def _dies(self, now: bool) -> None:
        if now:
            self.crashed.set()
            await self.revived.wait()
            raise Unavailable("the process was killed here")

    async def start(self) -> None:
        epoch = await self.store.in_writer(lambda connection: _take(connection, "test", 0.0))
        self.home = Coordinator(self.store, Outputs(self.data / "output"), SystemClock(), epoch)
        await self.home.start()
        for agent in self.agents.values():
            await agent.connect()

    async def ended(self, upgrade_id: str) -> AgentUpgrade:
        async with asyncio.timeout(60):
            while True:
                row = await self.store.agent_upgrade(upgrade_id)
                if row is not None and row.status in ENDED:
                    return row
                await asyncio.sleep(0.01)

    async def statuses(self, upgrade_id: str) -> dict[str, str]:
        return {name: str(t.status) for name, t in (await self.store.agent_upgrade_targets(upgrade_id)).items()}

    async def create(self, **wish: Any) -> AgentUpgrade:
        return await create_upgrade(self.home, CreateUpgrade(**{"version": "2", "settle": 0.0, **wish}), "root")


@pytest.fixture
async def site(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(upgrading, "REST", 0.0)
    store = await Store.open(database)
    packages = [AgentPackage(version, "deb", "x86_64", version * 64, 1) for version in "123"]
    await store.write(*(Put(package) for package in packages), *(Put(Instance(name)) for name in NAMES))
    site = Site(store, tmp_path)
    async with asyncio.TaskGroup() as site._tasks:
        await site.start()
        yield site
    await site.home.stop()
    await store.close()


async def test_all_agents_become_the_new_version_two_at_once(site: Site) -> None:
    upgrade = await site.create(at_once=2)
    ended = await site.ended(upgrade.id)
    assert (str(ended.status), ended.batch) == ("Succeeded", 2)
    assert {agent.version for agent in site.agents.values()} == {"2"}
    assert site.most == 2
    row = await site.store.instance("a-1")
    assert row is not None and (row.host.package, row.features) == ("deb", ("upgrade",))


async def test_an_agent_that_connects_while_its_row_is_read_is_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.agents["a-1"].deaf = True
    upgrade = await site.create(instances=("a-1",))
    read, reading = site.store.instance, asyncio.Event()

    async def slow(name: str) -> Instance | None:
        row = await read(name)
        if row is not None and not reading.is_set():
            reading.set()
            await site.store.write(Put(replace(row, agent_version="2")))
            site.home.upgrades.changed(name)
        return row

    monkeypatch.setattr(site.store, "instance", slow)
    site.home.upgrades.changed("a-1")
    assert str((await site.ended(upgrade.id)).status) == "Succeeded"


async def test_one_that_is_put_back_halts_it(site: Site) -> None:
    site.agents["a-1"].broken.add("2")
    upgrade = await site.create(at_once="100%")
    ended = await site.ended(upgrade.id)
    assert (str(ended.status), ended.error_code) == ("Failed", "TOO_MANY_FAILED")
    assert await site.statuses(upgrade.id) == {"a-1": "Failed", "a-2": "Skipped", "a-3": "Skipped"}
    assert [agent.version for agent in site.agents.values()] == ["1", "1", "1"]


async def test_a_second_one_is_refused_until_the_first_has_ended(site: Site) -> None:
    site.agents["a-1"].deaf = True
    upgrade = await site.create()
    with pytest.raises(Conflict, match=f"{upgrade.id} .to 2. has not ended"):
        await site.create(version="3")
    await site.home.upgrades.stop(upgrade.id, "root")
    site.agents["a-1"].deaf = False
    await site.agents["a-1"].connect()
    ended = await site.ended(upgrade.id)
    assert (str(ended.status), ended.stop_by) == ("Stopped", "root")
    with pytest.raises(Conflict, match="already Stopped"):
        await site.home.upgrades.stop(upgrade.id, "root")
    assert str((await site.ended((await site.create(version="3")).id)).status) == "Succeeded"


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"version": "9"}, "no package of it .it has 1, 2, 3."),
        ({"instances": ("nope",)}, "the agents of nope: no such instance"),
        ({"tags": {"Role": "db"}}, "no joined instance is chosen"),
        ({"at_once": "ten"}, "'ten' agents at once"),
        ({"at_once": "0%"}, "0% agents at once"),
        ({"at_once": "200%"}, "200% agents at once"),
        ({"at_once": 0}, "0 agents at once"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_stored(
    site: Site, wish: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        await site.create(**wish)
    assert await site.store.agent_upgrades() == []


async def test_without_the_package_to_go_back_to_it_is_refused(site: Site) -> None:
    site.agents["a-2"].version = "0"
    await site.agents["a-2"].connect()
    with pytest.raises(InvalidRequest, match=r"deb package of version 0 for x86_64 .to go back to.*--no-return"):
        await site.create()
    upgrade = await site.create(no_return=True)
    assert str((await site.ended(upgrade.id)).status) == "Succeeded"


async def test_a_share_is_rounded_down_but_never_to_none(site: Site) -> None:
    assert (await site.create(at_once="10%")).at_once == 1


async def test_a_revoked_instance_is_passed_over(site: Site) -> None:
    site.agents["a-1"].deaf = True
    upgrade = await site.create()
    for name in ("a-1", "a-2"):
        row = await site.store.instance(name)
        assert row is not None
        await site.store.write(Put(replace(row, revoked_at=1.0)))
        site.home.disconnected(name, site.agents[name])
    ended = await site.ended(upgrade.id)
    assert (str(ended.status), await site.statuses(upgrade.id)) == (
        "Failed",
        {"a-1": "Failed", "a-2": "Skipped", "a-3": "Skipped"},
    )


@pytest.mark.parametrize("broken", [False, True], ids=["all work", "one is put back"])
async def test_killed_at_each_write_it_goes_on_and_no_agent_installs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    monkeypatch.setattr(upgrading, "REST", 0.0)
    store = await Store.open(tmp_path / "empty.db")
    packages = [AgentPackage(version, "deb", "x86_64", version * 64, 1) for version in "12"]
    await store.write(*(Put(package) for package in packages), *(Put(Instance(name)) for name in NAMES))
    await store.close()
    covered = 0
    for moment in ("after",) if broken else ("before", "after"):
        for number in range(100):
            data = tmp_path / f"{moment}-{number}"
            data.mkdir()
            shutil.copy(tmp_path / "empty.db", data / "shiftwork.db")
            if not await _killed(data, moment, number, broken):
                break
            covered += 1
    assert covered >= 5


async def _killed(data: Path, moment: str, number: int, broken: bool) -> bool:
    """False when the upgrade had no write of that number any more."""
    store = await Store.open(data / "shiftwork.db")
    site = Site(store, data)
    if broken:
        site.agents["a-2"].broken.add("2")
    async with asyncio.TaskGroup() as site._tasks:
        await site.start()
        site.writes = -1
        setattr(site, moment, lambda n: n == number)
        asking = site._tasks.create_task(site.create(at_once=1))
        crash = site._tasks.create_task(site.crashed.wait())
        if await _ended_or_crashed(site, crash):
            asking.cancel()
            await site.home.stop()
            site.revived.set()
            await site.start()
            if not await store.agent_upgrades():  # it died before anything was written, and nothing was done
                assert not any(agent.installs for agent in site.agents.values())
                await site.create(at_once=1)
        crashed = site.crashed.is_set()
        crash.cancel()
        upgrade = (await store.agent_upgrades())[0]
        ended = await site.ended(upgrade.id)
        expected = "Failed" if broken else "Succeeded"
        assert str(ended.status) == expected, f"{moment} write {number}"
        assert all(agent.installs in (["2"], []) for agent in site.agents.values()), f"{moment} write {number}"
        assert site.most == 1
        versions = [agent.version for agent in site.agents.values()]
        assert versions == (["2", "1", "1"] if broken else ["2", "2", "2"])
    await site.home.stop()
    await store.close()
    return crashed


async def _ended_or_crashed(site: Site, crash: asyncio.Task[Any]) -> bool:
    async with asyncio.timeout(60):
        while not crash.done():
            rows = await site.store.agent_upgrades()
            if rows and rows[0].status in ENDED:
                await asyncio.sleep(0.02)
                return site.crashed.is_set()
            await asyncio.sleep(0.005)
    return True
