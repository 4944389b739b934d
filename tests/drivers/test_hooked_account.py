"""The twin with lifecycle hooks keeps AWS's rules, by the same calls as the stand-in's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.drivers.hooked_account import QUEUE, ROLE, URL, HookedAccount
from tests.drivers.scaling_account import TARGETS, group

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.lab.aws.fleets.hooks import ABANDON, CONTINUE, LAUNCHING, TERMINATING

FREE = {"MinSize": 0, "DesiredCapacity": 1, "DeletionProtection": "none", "NewInstancesProtectedFromScaleIn": False}


class World:
    def __init__(self) -> None:
        self.account = HookedAccount(group("web", **FREE))

    async def ask(self, operation: str, **given: Any) -> Any:
        return await self.account.ask("autoscaling", operation, AutoScalingGroupName="web", **given)

    async def hook(self, name: str = "deploy", transition: str = LAUNCHING, **more: Any) -> None:
        await self.ask("put_lifecycle_hook", LifecycleHookName=name, LifecycleTransition=transition, **more)

    async def done(self, id: str, result: str = CONTINUE, name: str = "deploy") -> None:
        given = {"LifecycleHookName": name, "InstanceId": id, "LifecycleActionResult": result}
        await self.ask("complete_lifecycle_action", **given)

    async def beat(self, id: str) -> None:
        await self.ask("record_lifecycle_action_heartbeat", LifecycleHookName="deploy", InstanceId=id)

    async def size(self, desired: int) -> None:
        await self.ask("set_desired_capacity", DesiredCapacity=desired)

    async def look(self) -> list[str]:
        told = await self.account.ask("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=["web"])
        return sorted(one["LifecycleState"] for g in told["AutoScalingGroups"] for one in g["Instances"])

    def at(self, state: str) -> str:
        [id] = [id for id, found in self.account.states("web").items() if found == state]
        return id

    def serves(self) -> set[str]:
        return self.account.traffic[TARGETS]


@pytest.fixture
def world() -> World:
    return World()


async def test_what_is_launched_waits_and_goes_into_traffic_step_by_step(world: World) -> None:
    await world.hook()
    await world.size(2)
    assert await world.look() == ["InService", "Pending:Wait"]
    one = world.at("Pending:Wait")
    assert await world.look() == ["InService", "Pending:Wait"] and one not in world.serves()
    await world.done(one)
    assert await world.look() == ["InService", "Pending:Proceed"] and one not in world.serves()
    assert await world.look() == ["InService", "InService"] and one in world.serves()
    for late in (world.done, world.beat):
        with pytest.raises(InvalidRequest, match=f"No active Lifecycle Action found with instance ID {one}"):
            await late(one)


async def test_one_that_is_given_up_is_replaced_as_soon_as_it_may_be(world: World) -> None:
    await world.hook()
    await world.size(2)
    await world.look()
    first = world.at("Pending:Wait")
    await world.ask("suspend_processes", ScalingProcesses=["Launch", "Terminate"])
    await world.done(first, ABANDON)
    assert await world.look() == ["InService"]
    world.account.groups["web"]["SuspendedProcesses"] = []
    assert await world.look() == ["InService", "Pending"]
    assert await world.look() == ["InService", "Pending:Wait"]
    assert world.at("Pending:Wait") != first


@pytest.mark.parametrize(("default", "then"), [(CONTINUE, "Pending:Proceed"), (ABANDON, "Pending")])
async def test_time_passes_as_the_test_says(world: World, default: str, then: str) -> None:
    await world.hook(HeartbeatTimeout=30, DefaultResult=default)
    await world.size(2)
    await world.look()
    one = world.at("Pending:Wait")
    for now in (29.0, 58.0):
        world.account.now = now
        await world.beat(one)
    world.account.now = 87.9
    assert await world.look() == ["InService", "Pending:Wait"]
    world.account.now = 88.0
    assert await world.look() == ["InService", then]
    assert (one in world.account.ids("web")) is (default == CONTINUE)


async def test_what_leaves_is_taken_out_waits_and_is_gone(world: World) -> None:
    await world.hook("leave", TERMINATING)
    [one] = world.account.ids("web")
    await world.size(0)
    assert await world.look() == ["Terminating:Wait"] and world.serves() == set()
    await world.done(one, ABANDON, "leave")
    assert await world.look() == ["Terminating:Proceed"]
    assert await world.look() == []
    await world.size(1)
    await world.look()
    told = {"InstanceId": world.at("InService"), "ShouldDecrementDesiredCapacity": False}
    await world.account.ask("autoscaling", "terminate_instance_in_auto_scaling_group", **told)
    assert await world.look() == ["InService", "Terminating:Wait"]
    await world.ask("delete_lifecycle_hook", LifecycleHookName="leave")
    assert await world.look() == ["InService", "Terminating:Proceed"]


async def test_one_that_leaves_while_it_waits_has_no_action_any_more(world: World) -> None:
    await world.hook()
    await world.size(2)
    await world.look()
    one = world.at("Pending:Wait")
    told = {"InstanceId": one, "ShouldDecrementDesiredCapacity": True}
    await world.account.ask("autoscaling", "terminate_instance_in_auto_scaling_group", **told)
    with pytest.raises(InvalidRequest, match="No active Lifecycle Action"):
        await world.done(one)
    assert await world.look() == ["InService"]


async def test_a_group_that_is_deleted_takes_along_what_waits(world: World) -> None:
    await world.hook("leave", TERMINATING)
    await world.ask("delete_auto_scaling_group", ForceDelete=True)
    for _ in range(3):
        await world.look()
    assert "web" not in world.account.groups and world.account.hooks.of("web") == []


async def test_a_message_comes_again_until_it_is_deleted(world: World) -> None:
    def receive() -> list[Any]:
        return list(world.account.queue.receive_message(URL, MaxNumberOfMessages=10).get("Messages", []))

    with pytest.raises(InvalidRequest, match="Unable to publish test message"):
        await world.hook(NotificationTargetARN=QUEUE + "s", RoleARN=ROLE)
    await world.hook(NotificationTargetARN=QUEUE, RoleARN=ROLE)
    [test] = receive()
    await world.account.ask("sqs", "delete_message", QueueUrl=URL, ReceiptHandle=test["ReceiptHandle"])
    await world.size(2)
    await world.look()
    [first] = receive()
    assert receive() == []
    world.account.now = 30.0
    [again] = (await world.account.ask("sqs", "receive_message", QueueUrl=URL))["Messages"]
    assert first == again
    told = json.loads(again["Body"])
    assert (told["EC2InstanceId"], told["LifecycleTransition"]) == (world.at("Pending:Wait"), LAUNCHING)
