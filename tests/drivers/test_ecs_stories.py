"""Whole deployments of a service: coordinator and real driver, on a twin of AWS or on moto; and killed at any call."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.drivers.ecs_account import READS, Account, Site, in_moto, twin

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_coordinator import alarms, shifters
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.config import AllAtOnce, DeploymentConfig, MinimumHealthyHosts, TimeBasedCanary
from shiftwork_coordinator.model.rows import CustomConfig, Deployment, Group
from shiftwork_coordinator.model.settings import Alarms, Aws, Ecs, GroupSettings, Limits, Originals, Ready
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus
from shiftwork_coordinator.operations import (
    continue_deployment,
    create_deployment,
    rollback_deployment,
    stop_deployment,
)
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.ports import HookAnswer
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.store import Outputs, Put, Store
from shiftwork_coordinator.testing import MemoryAlarms, MemoryShifter

D = DeploymentStatus
APPSPEC = """
version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: web:2
        LoadBalancerInfo: {ContainerName: app, ContainerPort: 80}
Hooks:
  - BeforeInstall: check
  - AfterAllowTestTraffic: smoke
"""
AT_FIRST = {"primary": ["1"], "others": [], "green": [0, 0], "suspended": 0, "noted": False}
AT_THE_END = {"primary": ["2"], "others": [], "green": [100, 100], "suspended": 0, "noted": False}
SUCCESS = [
    "modify_listener", "create_task_set", "tag_resource", "register_scalable_target", "modify_listener",
    "modify_listener", "modify_listener", "update_service_primary_task_set", "register_scalable_target",
    "untag_resource", "delete_task_set",
]  # fmt: skip


def config(name: str, traffic: Any) -> CustomConfig:
    hosts = MinimumHealthyHosts("HOST_COUNT", 0)
    return CustomConfig(name, DeploymentConfig(name, hosts, max_failed=0, traffic=traffic, platform="ECS"))


class Shop:
    """A coordinator with one group of platform ECS, whose service is in `site`."""

    def __init__(self, store: Store, data: Path, site: Site) -> None:
        self.store, self.data, self.site, self.epoch = store, data, site, 0
        self.home: Coordinator

    async def start(self) -> None:
        from shiftwork_coordinator.store.lease import _take

        self.epoch = await self.store.in_writer(lambda connection: _take(connection, "test", 0.0))
        self.home = Coordinator(self.store, Outputs(self.data / "output"), SystemClock(), self.epoch)
        await self.home.start()

    async def restart(self) -> None:
        """What is left after a kill: rows, and AWS."""
        await self.home.stop()
        await self.start()

    async def settle(self, **settings: Any) -> None:
        group = await self.store.group("web", "live")
        await self.store.write(Put(replace(group, settings=replace(group.settings, **settings))))

    async def deploy(self, **options: Any) -> str:
        asked = CreateDeployment("web", "live", **({"appspec_content": APPSPEC} | options))
        return (await create_deployment(self.home, asked, "tester")).id

    async def ended(self, id: str) -> Deployment:
        async with asyncio.timeout(60):
            while (row := await self.store.deployment(id)) is None or row.status not in ENDED:
                await asyncio.sleep(0.01)
        return row

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)

    async def waits(self, id: str, code: str) -> None:
        await self.until(lambda: any(r.code == code for r in self.home.reasons(id)))


@asynccontextmanager
async def opened(data: Path, site: Site, region: str = "") -> AsyncIterator[Shop]:
    data.mkdir(exist_ok=True)
    store = await Store.open(data / "shiftwork.db")
    settings = GroupSettings(
        platform="ECS", config="Canary", ecs=Ecs("c", "s", (site.pair,)), aws=Aws(region=region),
        limits=Limits(steady_within=60, allow_within=60),
    )  # fmt: skip
    configs = (config("Canary", TimeBasedCanary(10, 0.05)), config("Slow", TimeBasedCanary(10, 60)))
    if await store.group("web", "live") is None:
        await store.write(*map(Put, (*configs, config("All", AllAtOnce()))))
    await store.write(Put(Group("g-1", "web", "live", settings)))
    shop = Shop(store, data, site)
    await shop.start()
    try:
        yield shop
    finally:
        await shop.home.stop()
        await store.close()


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> MemoryShifter:
    memory = MemoryShifter(hooks={"check": HookAnswer("Succeeded"), "smoke": HookAnswer("Succeeded")})
    monkeypatch.setattr(shifters, "hook_functions", lambda settings: memory)
    return memory


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
async def shop(
    tmp_path: Path, database: Path, account: Account, hooks: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    site = twin(account)
    monkeypatch.setattr(asking, "of", lambda at: site.ask)
    async with opened(tmp_path, site) as found:
        yield found


async def test_moto_a_canary_and_its_calls_then_all_at_once_back(
    aws: Any, tmp_path: Path, hooks: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = in_moto(asking.of(Aws()))
    monkeypatch.setattr(asking, "of", lambda at: site.ask)
    async with opened(tmp_path, site) as shop:
        ended = await shop.ended(await shop.deploy())
        assert (ended.status, ended.error_message) == (D.SUCCEEDED, "")
        assert await site.stands() == AT_THE_END
        assert site.changes == SUCCESS
        assert [call.event for call in hooks.invoked] == ["BeforeInstall", "AfterAllowTestTraffic"]
        back = await rollback_deployment(shop.home, ended.id, who="tester")
        assert (await shop.ended(back.id)).status is D.SUCCEEDED
        assert await site.stands() == AT_FIRST


async def test_all_at_once_by_the_short_form_and_the_events_in_order(shop: Shop) -> None:
    ended = await shop.ended(await shop.deploy(appspec_content="", task_definition="web:2", config="All"))
    assert ended.status is D.SUCCEEDED
    assert await shop.site.stands() == AT_THE_END
    assert shop.site.changes == SUCCESS[:5] + SUCCESS[6:], "one weight instead of two"
    events = (await shop.store.events(ended.id))["c:s"]
    assert [e for e, row in events.items() if str(row.status) == "Succeeded"] == [
        "Install", "AllowTestTraffic", "AllowTraffic"
    ]  # fmt: skip


async def test_the_weight_over_time_is_in_the_history(shop: Shop) -> None:
    id = await shop.deploy()
    await shop.ended(id)
    history = await shop.store.history(id)
    assert [row.data["weight"] for _, row in history if row.kind == "weight"] == [0.1, 1.0]


async def test_a_hook_on_the_test_listener_fails(shop: Shop, hooks: MemoryShifter) -> None:
    hooks.hooks["smoke"] = HookAnswer("Failed", "it answers 500")
    ended = await shop.ended(await shop.deploy())
    assert ended.status is D.FAILED
    assert "it answers 500" in (await shop.store.targets(ended.id))["c:s"].error_message
    assert await shop.site.stands() == AT_FIRST


async def test_a_replacement_that_is_never_steady(shop: Shop, account: Account) -> None:
    account.steady_after = 10_000
    await shop.settle(limits=Limits(steady_within=1, allow_within=60))
    ended = await shop.ended(await shop.deploy())
    target = (await shop.store.targets(ended.id))["c:s"]
    assert (ended.status, target.error_code) == (D.FAILED, "TIMEOUT")
    assert "not provisioned within 1 s: 0 of 2 tasks run, 0 are starting: STABILIZING" in target.error_message
    assert await shop.site.stands() == AT_FIRST


async def test_a_crash_loop_ends_it_long_before_the_limit(shop: Shop, account: Account) -> None:
    account.crashes = 3
    ended = await shop.ended(await shop.deploy())
    target = (await shop.store.targets(ended.id))["c:s"]
    assert (ended.status, target.error_code) == (D.FAILED, "ECS_UPDATE_ERROR")
    assert "Essential container exited (app: exit code 1) (×3)" in target.error_message
    assert await shop.site.stands() == AT_FIRST


async def test_what_aws_refuses_thrice_ends_it(shop: Shop, account: Account) -> None:
    account.denied = {"create_task_set"}
    ended = await shop.ended(await shop.deploy())
    target = (await shop.store.targets(ended.id))["c:s"]
    assert (ended.status, target.error_code) == (D.FAILED, "ECS_UPDATE_ERROR")
    assert "cannot call ecs:create_task_set: not allowed" in target.error_message
    assert shop.site.changes.count("create_task_set") == 3
    assert await shop.site.stands() == AT_FIRST


async def test_a_stop_in_the_middle_of_the_shift_also_after_a_restart(shop: Shop) -> None:
    id = await shop.deploy(config="Slow")
    await shop.waits(id, "SHIFT")
    assert (await shop.site.stands())["green"] == [10, 100]
    await shop.restart()
    await shop.waits(id, "SHIFT")
    await stop_deployment(shop.home, id, now=False, rollback=None, who="tester")
    assert (await shop.ended(id)).status is D.STOPPED
    assert await shop.site.stands() == AT_FIRST
    assert shop.site.changes.count("create_task_set") == 1


async def test_continue_promotes_and_ends_the_wait_with_the_originals(shop: Shop) -> None:
    await shop.settle(originals=Originals(keep_for=600), ready=Ready(manual=True))
    id = await shop.deploy(config="Slow")
    for code in ("READY", "SHIFT", "ORIGINALS"):
        await shop.waits(id, code)
        await continue_deployment(shop.home, id, who="tester")
    assert (await shop.ended(id)).status is D.SUCCEEDED
    assert await shop.site.stands() == AT_THE_END


async def test_an_alarm_while_the_originals_are_kept_goes_back_to_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemoryAlarms()
    monkeypatch.setattr(alarms, "connect", lambda settings: source)
    await shop.settle(originals=Originals(keep_for=600), alarms=Alarms(cloudwatch=("errors",), every=1.0))
    id = await shop.deploy()
    await shop.waits(id, "ORIGINALS")
    assert (await shop.site.stands())["others"] == ["1"]
    source.red["errors"] = "it burns"
    ended = await shop.ended(id)
    assert (ended.status, ended.error_code) == (D.STOPPED, "ALARM_ACTIVE")
    assert await shop.site.stands() == AT_FIRST


async def test_a_rollback_waits_for_no_person_and_keeps_nothing(shop: Shop) -> None:
    ended = await shop.ended(await shop.deploy())
    await shop.settle(originals=Originals(keep_for=600), ready=Ready(manual=True))
    deployment = replace(ended, settings=(await shop.store.group("web", "live")).settings)
    await shop.store.write(Put(deployment))
    back = await rollback_deployment(shop.home, ended.id, who="tester")
    assert (await shop.ended(back.id)).status is D.SUCCEEDED
    assert await shop.site.stands() == AT_FIRST


async def test_a_wait_costs_few_calls(shop: Shop) -> None:
    id = await shop.deploy(config="Slow")
    await shop.waits(id, "SHIFT")
    await asyncio.sleep(0.3)
    before = shop.site.reads
    await asyncio.sleep(1.0)
    assert shop.site.reads - before <= 4, "one look at most: nothing is awaited"


@pytest.mark.parametrize(
    ("options", "change", "code", "expected"),
    [
        ({}, {"controller": "CODE_DEPLOY"}, "INVALID_ECS_SERVICE", "its deployment controller is CODE_DEPLOY"),
        ({}, {"status": "DRAINING"}, "INVALID_ECS_SERVICE", "it is DRAINING"),
        ({}, {"sets": []}, "INVALID_ECS_SERVICE", "it has no primary task set"),
        ({"task_definition": "web:2"}, {}, "RevisionRequiredException", "give an AppSpec"),
        ({"appspec_content": "", "task_definition": "web:7"}, {}, "INVALID_REVISION", "there is none"),
        ({"appspec_content": APPSPEC.replace("80}", "81}")}, {}, "INVALID_REVISION", "has no port 81"),
        ({"config": "LambdaAllAtOnce"}, {}, "InvalidDeploymentConfigNameException", "it is for Lambda"),
    ],
)
async def test_what_is_wrong_is_refused_at_creation(
    shop: Shop, account: Account, options: Any, change: Any, code: str, expected: str
) -> None:
    for name, value in change.items():
        setattr(account, name, value)
    with pytest.raises(InvalidRequest, match=expected) as raised:
        await shop.deploy(**options)
    assert raised.value.code == code
    assert (shop.site.changes, await shop.store.deployments()) == ([], [])


async def test_a_plan_touches_nothing_and_a_second_deployment_cannot_be_queued(shop: Shop) -> None:
    found = await plan(shop.home, CreateDeployment("web", "live", appspec_content=APPSPEC))
    assert (found["problems"], shop.site.changes) == ([], [])
    id = await shop.deploy(config="Slow")
    await shop.waits(id, "SHIFT")
    with pytest.raises(Conflict, match="already has the active deployment"):
        await shop.deploy(queue=True)


# Killed at every call


class Killed:
    """Hangs at the n-th call that changes something (or reads), before AWS has done it or after: it is dead."""

    def __init__(self, site: Site, at: int, *, after: bool, reads: bool = False) -> None:
        self._real, self._at, self._after, self._reads = site.real, at, after, reads
        self.dead, self.over = asyncio.Event(), False

    async def __call__(self, service: str, operation: str, /, **parameters: Any) -> Any:
        counts = not self.over and operation.startswith(READS) is self._reads
        self._at -= counts
        if counts and self._at < 0:
            if self._after:
                await self._real(service, operation, **parameters)
            self.dead.set()
            await asyncio.Event().wait()
        return await self._real(service, operation, **parameters)


async def killed(shop: Shop, killer: Killed) -> DeploymentStatus:
    """How a deployment ends whose coordinator is killed on the way and started again."""
    id = await shop.deploy()
    real, shop.site.real = shop.site.real, killer
    ending, dying = asyncio.ensure_future(shop.ended(id)), asyncio.ensure_future(killer.dead.wait())
    await asyncio.wait((ending, dying), return_when=asyncio.FIRST_COMPLETED)
    killer.over, shop.site.real = True, real
    if not ending.done():
        await shop.restart()
    dying.cancel()
    return (await ending).status


async def all_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: list[tuple[int, bool, bool]]
) -> list[tuple[DeploymentStatus, Any]]:
    """How each case ends and what stands then: each in an account of its own, all at the same time."""
    sites = {f"r{number}": twin(Account()) for number, _ in enumerate(cases)}
    monkeypatch.setattr(asking, "of", lambda at: sites[at.region].ask)
    async with opened(tmp_path / "empty", twin(Account())):
        pass
    async with AsyncExitStack() as stack:
        for name in sites:  # to make a database takes longer than all that follows
            shutil.copytree(tmp_path / "empty", tmp_path / name)
        shops = [await stack.enter_async_context(opened(tmp_path / name, sites[name], name)) for name in sites]

        async def one(shop: Shop, case: tuple[int, bool, bool]) -> tuple[DeploymentStatus, Any]:
            killer = Killed(shop.site, case[0], after=case[1], reads=case[2])
            status = await killed(shop, killer)
            assert killer.dead.is_set() or case[2], "there are fewer changes than that"
            return status, await shop.site.stands()

        return await asyncio.gather(*map(one, shops, cases))


EVERY_CHANGE = [(n, after, False) for n in range(len(SUCCESS)) for after in (False, True)]


async def test_killed_at_every_change_it_goes_on_to_its_end(
    tmp_path: Path, hooks: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await all_killed(tmp_path, monkeypatch, EVERY_CHANGE)
    for case, (status, stands) in zip(EVERY_CHANGE, found, strict=True):
        assert (status, stands) == (D.SUCCEEDED, AT_THE_END), case


async def test_killed_at_every_change_on_the_way_back_it_still_leaves_nothing_behind(
    tmp_path: Path, hooks: MemoryShifter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' hook fails: five changes forward, four back."""
    hooks.hooks["smoke"] = HookAnswer("Failed", "no")
    cases = [(n, after, False) for n in range(9) for after in (False, True)]
    found = await all_killed(tmp_path, monkeypatch, cases)
    for case, (status, stands) in zip(cases, found, strict=True):
        assert (status, stands) == (D.FAILED, AT_FIRST), case


async def test_killed_while_it_reads(tmp_path: Path, hooks: MemoryShifter, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(n, False, True) for n in range(0, 42, 6)]
    found = await all_killed(tmp_path, monkeypatch, cases)
    assert {status for status, _ in found} == {D.SUCCEEDED}
    assert all(stands == AT_THE_END for _, stands in found)
