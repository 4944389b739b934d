"""Groups whose instances EC2 tells: who is deployed to, what is refused, and what becomes of those that vanish."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest, Unavailable
from shiftwork_contract.messages import HostFacts
from shiftwork_coordinator import fleets
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.settings import AutoScaling, BlueGreen, Instances
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import create_deployment
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.shell import watch_fleet
from shiftwork_coordinator.shell.watch_fleet import FleetObserver, pause_after
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import Machine, MemoryFleets

V1, V2 = (f"sha256:{digit * 64}" for digit in "12")
IDS = {f"web-{n}": f"i-{n:017x}" for n in range(1, 5)}


@pytest.fixture
async def ec2(world: Any, monkeypatch: pytest.MonkeyPatch) -> MemoryFleets:
    """Four instances of the group `web` of Auto Scaling, each with its agent."""
    memory = MemoryFleets({id: Machine({"Role": "web"}, "web", zone="us-east-1b") for id in IDS.values()})
    monkeypatch.setattr(fleets, "connect", lambda at: memory)
    for name, id in IDS.items():
        row = await world.store.instance(name)
        await world.store.write(Put(replace(row, host=HostFacts(instance_id=id))))
    await choose(world, Instances(autoscaling=("web",)))
    return memory


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is asked for often, so that nobody waits for the next question."""
    monkeypatch.setattr(watch_fleet, "EASY", 0.02)


async def choose(world: Any, instances: Instances, **settings: Any) -> None:
    group = await world.store.group("web", "production")
    given = {"autoscaling": AutoScaling(suspend=()), **settings}
    await world.store.write(Put(replace(group, settings=replace(group.settings, instances=instances, **given))))


async def deploy(world: Any, revision: str = V1) -> str:
    return (await create_deployment(world.home, CreateDeployment("web", "production", revision), "tester")).id


async def statuses(world: Any, id: str) -> dict[str, TargetStatus]:
    return {name: target.status for name, target in (await world.store.targets(id)).items()}


async def test_blue_green_waits_for_no_other_deployment(world: Any, ec2: MemoryFleets) -> None:
    """It would begin with a group whose place another one has taken meanwhile."""
    first = await deploy(world)
    await choose(world, Instances(autoscaling=("web",)), blue_green=BlueGreen(), load_balancers=({"sim": {}},))
    with pytest.raises(Conflict, match=r"already has the active deployment '\S+'; wait for it or stop it$"):
        await create_deployment(world.home, CreateDeployment("web", "production", V2, queue=True), "tester")
    assert (await world.ended(first)).status is DeploymentStatus.SUCCEEDED


async def test_the_members_of_a_group_are_deployed_to(world: Any, ec2: MemoryFleets) -> None:
    ended = await world.ended(id := await deploy(world))
    assert ended.status is DeploymentStatus.SUCCEEDED
    assert {t.instance: t.cloud_id for t in (await world.store.targets(id)).values()} == IDS


async def test_joined_and_ec2s_are_one_union(world: Any, ec2: MemoryFleets) -> None:
    await choose(world, Instances(names=("web-2", "web-4"), ids=(IDS["web-1"], IDS["web-2"])))
    assert (await statuses(world, await deploy(world))).keys() == {"web-1", "web-2", "web-4"}


async def test_a_plan_shows_who_is_meant_and_why_others_are_not(world: Any, ec2: MemoryFleets) -> None:
    ec2.machines["i-new"] = Machine({}, "web", "pending", lifecycle="Pending")
    ec2.machines[IDS["web-4"]].state = "stopped"
    found: Any = await plan(world.home, CreateDeployment("web", "production", V1))
    one = {"instance": "web-1", "instanceId": IDS["web-1"], "zone": "us-east-1b", "autoScalingGroup": "web", "role": ""}
    assert one | {"state": "running"} in found["instances"] and len(found["instances"]) == 4
    told = {p["instance"]: (p["message"], p["fatal"]) for p in found["problems"]}
    assert told["i-new"] == ("i-new is not taken: it is Pending", False)
    assert "is stopped in EC2: it counts as failed" in told["web-4"][0]
    assert not any("web-4" in batch["targets"] for batch in found["batches"])


async def test_a_stopped_instance_counts_as_failed_and_is_not_waited_for(world: Any, ec2: MemoryFleets) -> None:
    ec2.machines[IDS["web-4"]].state = "stopped"
    ended = await world.ended(id := await deploy(world))
    assert ended.status is DeploymentStatus.SUCCEEDED and ended.floor == 2
    target = (await world.store.targets(id))["web-4"]
    assert (target.status, target.error_code) == (TargetStatus.FAILED, "INSTANCE_STOPPED")
    assert "stopped in EC2" in target.error_message and not world.agents["web-4"].commands


async def test_what_stopped_instances_alone_would_end_is_refused(world: Any, ec2: MemoryFleets) -> None:
    await choose(world, Instances(autoscaling=("web",)), config="OneAtATime")
    ec2.machines[IDS["web-4"]].state = "stopped"
    with pytest.raises(InvalidRequest, match=r"1 of 4 instances are stopped.*web-4.*start or terminate") as refused:
        await deploy(world)
    assert refused.value.code == "HEALTH_CONSTRAINTS"


@pytest.mark.parametrize(
    ("wanted", "code", "told"),
    [
        (Instances(ec2_tags={"Role": ["db"]}), "NO_INSTANCES", "EC2 tag Role=db"),
        (Instances(ec2_tag_sets=({"Role": ["db"], "A": ["b"]},)), "NO_INSTANCES", "EC2 tags Role=db or A=b"),
        (Instances(autoscaling=("typo",)), "", "typo"),
        (Instances(ids=("i-00000000000000bad",)), "", "i-00000000000000bad"),
        (Instances(ec2_tags={"Role": ["new"]}), "AGENT_ISSUE", "i-new (none ever joined)"),
    ],
)
async def test_what_means_nobody_or_no_agent_is_refused(
    world: Any, ec2: MemoryFleets, wanted: Instances, code: str, told: str
) -> None:
    ec2.machines["i-new"] = Machine({"Role": "new"})
    await choose(world, wanted)
    with pytest.raises(InvalidRequest) as refused:
        await deploy(world)
    assert told in refused.value.message and code in ("", refused.value.code)
    assert not world.home.runs


async def test_all_stopped_is_nobody(world: Any, ec2: MemoryFleets) -> None:
    for machine in ec2.machines.values():
        machine.state = "stopped"
    with pytest.raises(InvalidRequest, match="Auto Scaling group web") as refused:
        await deploy(world)
    assert refused.value.code == "NO_INSTANCES"


async def test_without_ec2_nothing_is_created(world: Any, ec2: MemoryFleets) -> None:
    ec2.unreachable = True
    with pytest.raises(Unavailable):
        await deploy(world)
    assert not world.home.runs


def under_way(world: Any, id: str, name: str) -> Target:
    target: Target = world.home.runs[id].image.targets[name]
    return target


async def held_at(world: Any, name: str, event: str) -> str:
    """A deployment one at a time in which `name` is the first, and stands in `event`."""
    await choose(world, Instances(autoscaling=("web",)), config="OneAtATime")
    world.agents[name].release.clear()
    id = await deploy(world)
    await world.until(lambda: (id, event) in world.agents[name].ran)
    return id


async def held_in_install(world: Any) -> str:
    id = await held_at(world, "web-1", "BeforeBlockTraffic")
    agent = world.agents["web-1"]
    world.fails = lambda name, command, event: agent.release.clear() if event == "BeforeInstall" else False
    agent.release.set()
    await world.until(lambda: (id, "Install") in agent.ran)
    return id


async def test_scaling_in_fails_nothing_that_was_not_begun(world: Any, ec2: MemoryFleets) -> None:
    id = await held_at(world, "web-1", "BeforeBlockTraffic")
    ec2.machines[IDS["web-3"]].state = "shutting-down"
    await world.until(lambda: under_way(world, id, "web-3").status is TargetStatus.SKIPPED)
    world.agents["web-1"].release.set()
    ended = await world.ended(id)
    assert (ended.status, ended.floor) == (DeploymentStatus.SUCCEEDED, 2), "of three, one at a time"
    found = (await world.store.targets(id))["web-3"]
    assert found.error_code == "INSTANCE_TERMINATED" and "is shutting-down in EC2" in found.error_message
    assert sorted((await statuses(world, id)).values()) == ["Skipped", *["Succeeded"] * 3]


async def test_what_is_terminated_while_it_is_changed_fails_at_once(world: Any, ec2: MemoryFleets) -> None:
    id = await held_in_install(world)
    ec2.machines[IDS["web-1"]].state = "terminated"
    ended = await world.ended(id)
    assert (ended.status, ended.error_code) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS")
    found = (await world.store.targets(id))["web-1"]
    assert (found.status, found.error_code) == (TargetStatus.FAILED, "INSTANCE_TERMINATED")


async def test_a_rollback_does_without_what_was_terminated(world: Any, ec2: MemoryFleets) -> None:
    await choose(world, Instances(autoscaling=("web",)), max_failed=0)
    await world.ended(await deploy(world))
    world.agents["web-1"].release.clear()
    world.fails = lambda name, command, event: (name, event) == ("web-1", "Install") and command.revision.identity == V2
    id = await deploy(world, V2)
    await world.until(lambda: (id, "BeforeBlockTraffic") in world.agents["web-1"].ran)
    ec2.machines[IDS["web-3"]].state = "terminated"
    await world.until(lambda: under_way(world, id, "web-3").status is TargetStatus.SKIPPED)
    world.agents["web-1"].release.set()
    back = await world.ended((await world.ended(id)).rolled_back_by)
    assert (back.status, back.floor) == (DeploymentStatus.SUCCEEDED, 2), "half of three"
    target = (await world.store.targets(back.id))["web-3"]
    assert (target.status, target.error_code) == (TargetStatus.SKIPPED, "INSTANCE_TERMINATED")


async def test_what_is_stopped_while_it_is_changed_fails_at_once(world: Any, ec2: MemoryFleets) -> None:
    id = await held_in_install(world)
    ec2.machines[IDS["web-1"]].state = "stopping"
    await world.ended(id)
    found = (await world.store.targets(id))["web-1"]
    assert (found.status, found.error_code, found.traffic) == (TargetStatus.FAILED, "INSTANCE_STOPPED", "out")


async def test_what_ec2_does_not_know_any_more_is_gone_too(world: Any, ec2: MemoryFleets) -> None:
    id = await held_at(world, "web-1", "BeforeBlockTraffic")
    await world.home.stop()
    del ec2.machines[IDS["web-3"]]
    await world.restart()
    await world.until(lambda: under_way(world, id, "web-3").status is TargetStatus.SKIPPED)
    world.agents["web-1"].release.set()
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_joined_instances_that_ec2_does_not_know_may_be_elsewhere(world: Any, ec2: MemoryFleets) -> None:
    del ec2.machines[IDS["web-4"]]
    await choose(world, Instances(names=("web-4",), autoscaling=("web",)))
    ended = await world.ended(id := await deploy(world))
    assert ended.status is DeploymentStatus.SUCCEEDED and ec2.asked > 1
    assert set((await statuses(world, id)).values()) == {TargetStatus.SUCCEEDED}


async def test_while_ec2_does_not_answer_nobody_is_gone(world: Any, ec2: MemoryFleets) -> None:
    id = await held_at(world, "web-1", "BeforeBlockTraffic")
    ec2.unreachable = True
    asked = ec2.asked
    await world.until(lambda: ec2.asked > asked + 1)
    world.agents["web-1"].release.set()
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_ec2_is_asked_only_while_a_deployment_of_its_instances_runs(world: Any, ec2: MemoryFleets) -> None:
    await world.ended(await deploy(world))
    await world.until(lambda: not world.home.runs)
    asked = ec2.asked
    await choose(world, Instances(names=tuple(IDS)))
    await world.ended(id := await deploy(world))
    assert all(target.cloud_id for target in (await world.store.targets(id)).values())
    await world.restart()
    assert ec2.asked == asked


def test_throttling_makes_it_ask_less_and_an_answer_as_often_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [watch_fleet.EASY]
    for _ in range(6):
        pauses.append(pause_after(pauses[-1], answered=False))
    assert pauses == [10, 20, 40, 80, 160, 160, 160]
    assert pause_after(160, answered=True) == 10


async def test_what_was_terminated_stays_so_and_what_was_stopped_may_come_back() -> None:
    ids = {"a": "i-a", "b": "i-b"}
    memory = MemoryFleets({id: Machine(state="stopped") for id in ids.values()})
    observer = FleetObserver(memory, lambda: ids, "d-1", lambda: None, all_there=True)
    assert await observer.ask() and observer.gone == {"a": "stopped", "b": "stopped"}
    memory.machines["i-a"].state, memory.machines["i-b"].state = "terminated", "running"
    assert await observer.ask() and observer.gone == {"a": "terminated"}
    memory.machines.clear()
    assert await observer.ask() and observer.gone == {"a": "terminated"}, "who is missing is asked once"
    memory.machines["i-b"] = Machine(state="terminated")
    assert await observer.ask() and observer.gone == {"a": "terminated", "b": "terminated"}
    asked = memory.asked
    assert await observer.ask() and memory.asked == asked, "nobody is left to ask about"
