"""What an Auto Scaling group launches gets what is good before it serves; what it ends is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.conftest import Agent
from tests.drivers.weighed_account import BLUE, GREEN, LISTENER, Weighed, web

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import HostFacts
from shiftwork_contract.resource import ScalingGroup
from shiftwork_contract.revision import Revision
from shiftwork_coordinator import fleets
from shiftwork_coordinator.balancers.elbv2 import TargetGroups
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.engine import launching as deciding
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.launches import Launch
from shiftwork_coordinator.model.rows import Deployment, Instance, Target
from shiftwork_coordinator.model.settings import AutoScaling, BlueGreen, Instances, Weights
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.operations import create_deployment
from shiftwork_coordinator.ports import Pace
from shiftwork_coordinator.shell import launching, watch_fleet
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import Machine, MemoryFleets
from shiftwork_coordinator.testing_hooks import MemoryHooks

V1, V2, V3 = (f"sha256:{digit * 64}" for digit in "123")
IDS = {f"web-{n}": f"i-{n:017x}" for n in range(1, 10)}


@pytest.fixture
async def scaling(world: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryHooks]:
    """Four instances of the group `web` of Auto Scaling, each with its agent, and room for more."""
    memory = MemoryFleets({IDS[f"web-{n}"]: Machine(group="web") for n in range(1, 5)})
    hooks = MemoryHooks(memory)
    monkeypatch.setattr(fleets, "connect", lambda at: memory)
    monkeypatch.setattr(fleets, "hooks_of", lambda at: hooks)
    for name in ("EASY", "OPEN", "WITH_QUEUE", "REST", "RETRY"):
        monkeypatch.setattr(launching, name, 0.02)
    monkeypatch.setattr(watch_fleet, "EASY", 0.02)
    for name, agent in world.agents.items():
        agent.host = HostFacts(instance_id=IDS[name])
    await choose(world)
    await world.restart()
    await world.until(lambda: bool(hooks.hooks))
    yield hooks
    for agent in world.agents.values():
        if task := getattr(agent, "task", None):
            task.cancel()


async def choose(world: Any, **scaling: Any) -> None:
    group = await world.store.group("web", "production")
    settings = {"autoscaling": AutoScaling(suspend=(), **scaling), "instances": Instances(autoscaling=("web",))}
    await world.store.write(Put(replace(group, settings=replace(group.settings, **settings))))


async def deploy(world: Any, revision: str = V1) -> Deployment:
    asked = CreateDeployment("web", "production", revision)
    return await world.ended((await create_deployment(world.home, asked, "tester")).id)


async def launch(world: Any, scaling: MemoryHooks, name: str, group: str = "web") -> str:
    """A new instance whose agent joins."""
    scaling.launch(IDS[name], group)
    await world.store.write(Put(Instance(name)))
    world.balancer.add(name)
    await world.balancer.deregister([type("S", (), {"instance": name})()])
    agent = world.agents[name] = Agent(name, world)
    agent.host = HostFacts(instance_id=IDS[name])
    agent.task = asyncio.ensure_future(agent.serve())
    await agent.connect()
    return IDS[name]


async def launched_meanwhile(world: Any, scaling: MemoryHooks) -> Deployment:
    """The deployment of v2, held on web-1, while web-5 came into service."""
    await deploy(world, V1)
    world.agents["web-1"].release.clear()
    running = await create_deployment(world.home, CreateDeployment("web", "production", V2), "tester")
    await world.until(lambda: any(one.deployment_id == running.id for one in world.agents["web-1"].commands))
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    return running


async def made(world: Any, creator: str) -> list[Deployment]:
    return [d for d in await world.store.deployments(limit=None) if d.creator == creator]


async def test_a_new_instance_gets_what_is_good_before_it_serves(world: Any, scaling: MemoryHooks) -> None:
    await deploy(world)
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    [deployment] = await made(world, "autoscaling")
    assert world.agents["web-5"].installed == V1
    assert [event for _, event in world.agents["web-5"].ran] == [
        "ApplicationStop", "DownloadBundle", "BeforeInstall", "Install", "AfterInstall", "ApplicationStart",
        "ValidateService", "BeforeAllowTraffic", "AfterAllowTraffic",
    ]  # fmt: skip
    assert "web-5" in world.balancer.in_traffic()
    assert deployment.status == "Succeeded" and list(await world.store.targets(deployment.id)) == ["web-5"]


async def test_before_anything_was_good_it_is_let_in_as_it_is(world: Any, scaling: MemoryHooks) -> None:
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    assert not await world.store.deployments() and not world.agents["web-5"].ran


async def test_what_does_not_come_up_is_not_launched_for_ever(world: Any, scaling: MemoryHooks) -> None:
    await deploy(world, V1)
    world.fails = lambda agent, command, event: event == "ValidateService" and command.creator == "autoscaling"
    gone = [await launch(world, scaling, name) for name in ("web-5", "web-6")]
    await world.until(lambda: all(scaling.fleet.machines[id].state == "terminated" for id in gone))
    kept = await launch(world, scaling, "web-7")
    await until(lambda: row(world, kept), lambda found: "kept waiting" in found.why)
    assert scaling.fleet.machines[kept].lifecycle == "Pending:Wait" and (kept, "ABANDON") not in scaling.answers
    world.fails = lambda agent, command, event: False
    await deploy(world, V2)
    await world.until(lambda: scaling.fleet.machines[kept].lifecycle == "InService")
    assert world.agents["web-7"].installed == V2


async def test_launched_meanwhile_it_is_updated_afterwards(world: Any, scaling: MemoryHooks) -> None:
    running = await launched_meanwhile(world, scaling)
    assert world.agents["web-5"].installed == V1
    world.agents["web-1"].release.set()
    assert (await world.ended(running.id)).status == "Succeeded"
    await world.until(lambda: world.agents["web-5"].installed == V2)
    [first] = await made(world, "CodeDeployAutoUpdate")
    assert (await world.ended(first.id)).status == "Succeeded"
    assert await world.store.launches() == []
    group = await world.store.group("web", "production")
    assert group.last_good.identity == V2, "what was launched with the old one does not say what is good"


async def test_a_deployment_that_ends_while_aws_is_asked_is_followed_up_too(world: Any, scaling: MemoryHooks) -> None:
    running = await launched_meanwhile(world, scaling)
    scaling.answering.clear()
    before = scaling.asked
    await world.until(lambda: scaling.asked > before)
    world.agents["web-1"].release.set()
    await world.ended(running.id)
    scaling.answering.set()
    await world.until(lambda: world.agents["web-5"].installed == V2)


async def test_what_is_launched_and_what_is_deployed_do_not_wait_for_each_other(
    world: Any, scaling: MemoryHooks
) -> None:
    await deploy(world, V1)
    id = await launch(world, scaling, "web-5")
    world.agents["web-5"].release.clear()
    await world.until(lambda: bool(world.agents["web-5"].commands))
    assert (await deploy(world, V2)).status == "Succeeded"
    world.agents["web-5"].release.set()
    await world.until(lambda: (id, "CONTINUE") in scaling.answers)
    assert world.agents["web-5"].installed == V2, "it does not come into service with what is outdated already"


async def test_a_coordinator_that_comes_back_goes_on(world: Any, scaling: MemoryHooks) -> None:
    await deploy(world, V1)
    id = await launch(world, scaling, "web-5")
    world.agents["web-5"].release.clear()
    await world.until(lambda: bool(world.agents["web-5"].commands))
    await world.restart()
    world.agents["web-5"].release.set()
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    assert len(await made(world, "autoscaling")) == 1


async def test_what_is_ended_is_stopped_in_order(world: Any, scaling: MemoryHooks) -> None:
    await choose(world, termination_hook=True)
    await deploy(world, V1)
    await world.until(lambda: len(scaling.hooks) == 2)
    scaling.end(IDS["web-1"])
    await world.until(lambda: scaling.fleet.machines[IDS["web-1"]].state == "terminated")
    [deployment] = await made(world, "autoscalingTermination")
    ran = [event for id, event in world.agents["web-1"].ran if id == deployment.id]
    assert ran == ["BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"]
    assert "web-1" not in world.balancer.in_traffic()
    assert (await world.ended(deployment.id)).status == "Succeeded"
    assert (await world.store.group("web", "production")).last_good.identity == V1


async def test_what_cannot_be_stopped_goes_all_the_same(world: Any, scaling: MemoryHooks) -> None:
    await choose(world, termination_hook=True)
    await deploy(world, V1)
    await world.until(lambda: len(scaling.hooks) == 2)
    world.fails = lambda agent, command, event: event == "BeforeBlockTraffic"
    scaling.end(IDS["web-1"])
    await world.until(lambda: scaling.fleet.machines[IDS["web-1"]].state == "terminated")


async def test_a_hook_that_vanished_is_put_back_at_the_next_deployment(world: Any, scaling: MemoryHooks) -> None:
    scaling.hooks.clear()
    await deploy(world, V1)
    await world.until(lambda: bool(scaling.hooks))


async def test_hooks_go_when_they_are_not_wanted_any_more(world: Any, scaling: MemoryHooks) -> None:
    await choose(world, launch_hook=False)
    world.home.launches.wake()
    await world.until(lambda: not scaling.hooks)
    await until(world.store.scaling_hooks, lambda found: not found)


async def test_a_hook_that_cannot_be_taken_away_keeps_no_other_from_being_put(world: Any, scaling: MemoryHooks) -> None:
    scaling.stuck = True
    group = await world.store.group("web", "production")
    await world.store.write(
        Put(replace(group, settings=replace(group.settings, instances=Instances(autoscaling=("b",)))))
    )
    world.home.launches.wake()
    await world.until(lambda: {hook.scaling_group for hook in scaling.hooks.values()} == {"web", "b"})
    scaling.stuck = False
    await until(world.store.scaling_hooks, lambda found: {hook.scaling_group for hook in found} == {"b"})
    assert [hook.scaling_group for hook in scaling.hooks.values()] == ["b"]


async def test_a_group_that_cannot_be_looked_after_keeps_no_other_waiting(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(world, V1)
    good = await world.store.group("web", "production")
    blocked = replace(good, last_good=Revision(V3, "coordinator:"))
    await world.store.write(Put(blocked), Put(replace(good, id="second", name="second")))
    signed = world.home.newly_signed

    async def newly_signed(application: str, revision: Revision) -> Revision:
        if revision.identity == V3:
            raise InvalidRequest("cannot use a revision that nobody signed")
        return await signed(application, revision)

    monkeypatch.setattr(world.home, "newly_signed", newly_signed)
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: world.agents["web-5"].installed == V1)
    await world.until(lambda: (id, "CONTINUE") in scaling.answers)


async def test_while_nothing_can_begin_aws_is_asked_to_wait(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def newly_signed(application: str, revision: Revision) -> Revision:
        raise InvalidRequest("cannot use a revision that nobody signed")

    await deploy(world, V1)
    monkeypatch.setattr(world.home, "newly_signed", newly_signed)
    monkeypatch.setattr(deciding, "BEAT_EVERY", 0.05)
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.beats.count(id) > 1)
    assert scaling.fleet.machines[id].lifecycle == "Pending:Wait"


async def test_a_queue_says_that_there_is_news(world: Any, scaling: MemoryHooks, monkeypatch: Any) -> None:
    monkeypatch.setattr(launching, "WITH_QUEUE", 3600.0)
    await choose(world, queue="arn:aws:sqs:us-east-1:123456789012:launches")
    await deploy(world, V1)
    await world.until(lambda: bool(world.home.launches._ears))
    id = await launch(world, scaling, "web-5")
    scaling.news.set()
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")


def replacing(monkeypatch: pytest.MonkeyPatch, before: Deployment, arranged: Arrangement) -> Deployment:
    """As if a blue/green deployment of v2 were under way."""
    row = replace(before, id="d-9", status=DeploymentStatus.IN_PROGRESS, revision=Revision(V2, "coordinator:"))
    resource = ScalingGroup("autoscaling:web", "web", "d-9", "web-copy", copied=True)
    fleet = Target("d-9", "autoscaling:web", role="fleet", resource=resource, arranged=arranged)
    run = SimpleNamespace(image=SimpleNamespace(deployment=row, targets={fleet.instance: fleet}))
    monkeypatch.setattr(launching, "run_of", lambda group, runs: run)
    return row


async def test_a_group_that_has_taken_over_launches_with_what_it_was_made_for(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await deploy(world, V1)
    replacing(monkeypatch, before, Arrangement.PROMOTED)
    await world.until(lambda: {hook.scaling_group for hook in scaling.hooks.values()} == {"web", "web-copy"})
    new, old = await launch(world, scaling, "web-5", "web-copy"), await launch(world, scaling, "web-6")
    await world.until(lambda: scaling.fleet.machines[new].lifecycle == "InService")
    assert world.agents["web-5"].installed == V2
    found = await row(world, old)
    assert found is not None and "which replaces its group" in found.why
    assert scaling.fleet.machines[old].lifecycle == "Pending:Wait" and not world.agents["web-6"].ran


async def test_a_group_that_is_being_filled_has_no_hook(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing(monkeypatch, await deploy(world, V1), Arrangement.PROVISIONED)
    before = scaling.asked
    await world.until(lambda: scaling.asked > before + 2)
    assert {hook.scaling_group for hook in scaling.hooks.values()} == {"web"}


async def test_of_two_agents_that_claim_one_instance_neither_is_believed(world: Any, scaling: MemoryHooks) -> None:
    await deploy(world, V1)
    world.agents["web-4"].host = HostFacts(instance_id=IDS["web-5"])
    await world.agents["web-4"].connect()
    id = await launch(world, scaling, "web-5")
    await until(lambda: row(world, id), lambda found: "to join" in found.why)
    assert not await made(world, "autoscaling")


async def test_a_deployment_that_could_not_be_taken_up_is_taken_up_later(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(world, V1)
    take_up, failed = world.home.take_up, []

    async def once(deployment: Deployment) -> None:
        if not failed:
            failed.append(deployment)
            raise Unavailable("cannot read from the database")
        await take_up(deployment)

    monkeypatch.setattr(world.home, "take_up", once)
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    assert len(await made(world, "autoscaling")) == 1 and (id, "ABANDON") not in scaling.answers


async def test_what_cannot_be_looked_after_is_told(world: Any, scaling: MemoryHooks) -> None:
    scaling.fleet.unreachable = True
    await world.until(lambda: world.home.launches.problems == {"g-1": "cannot reach Auto Scaling"})
    scaling.fleet.unreachable = False
    await world.until(lambda: not world.home.launches.problems)


async def row(world: Any, id: str) -> Launch | None:
    return next((row for row in await world.store.launches() if row.cloud_id == id), None)


async def until(ask: Any, holds: Any) -> None:
    async with asyncio.timeout(60):
        while not ((found := await ask()) is not None and holds(found)):
            await asyncio.sleep(0.01)


async def test_of_two_target_groups_it_comes_into_that_of_its_own_group(
    world: Any, scaling: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(world)
    account = Weighed(web(TargetGroupARNs=[GREEN]))
    account.routes[LISTENER][1]["TargetGroupArn"] = GREEN
    monkeypatch.setattr(asking, "of", lambda at: account.ask)
    monkeypatch.setattr(TargetGroups, "pace", Pace(0.05, 0.2))
    group = await world.store.group("web", "production")
    weighed = BlueGreen(shift=Weights((BLUE, GREEN), LISTENER))
    settings = replace(group.settings, load_balancers=(), blue_green=weighed)
    await world.store.write(Put(replace(group, settings=settings)))
    id = await launch(world, scaling, "web-5")
    await world.until(lambda: scaling.fleet.machines[id].lifecycle == "InService")
    assert id in account.traffic[GREEN] and id not in account.traffic[BLUE]
