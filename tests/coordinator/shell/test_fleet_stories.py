"""Groups whose instances EC2 tells: who is deployed to, what is refused, and what becomes of those that vanish."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import HostFacts
from shiftwork_coordinator import fleets
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.settings import AutoScaling, Instances
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import create_deployment
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import Machine, MemoryFleets

V1 = f"sha256:{'1' * 64}"
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


async def choose(world: Any, instances: Instances, **settings: Any) -> None:
    group = await world.store.group("web", "production")
    given = {"autoscaling": AutoScaling(suspend=()), **settings}
    await world.store.write(Put(replace(group, settings=replace(group.settings, instances=instances, **given))))


async def deploy(world: Any, revision: str = V1) -> str:
    return (await create_deployment(world.home, CreateDeployment("web", "production", revision), "tester")).id


async def statuses(world: Any, id: str) -> dict[str, TargetStatus]:
    return {name: target.status for name, target in (await world.store.targets(id)).items()}


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
    one = {"instance": "web-1", "instanceId": IDS["web-1"], "zone": "us-east-1b", "autoScalingGroup": "web"}
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
    assert (target.status, target.error_code) == (TargetStatus.FAILED, "INSTANCE_GONE")
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
