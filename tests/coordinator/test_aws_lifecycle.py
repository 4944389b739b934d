"""Lifecycle hooks in AWS's stand-in: instances that wait, who is told of them, and what comes of the answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError
from tests.coordinator import yard as yards
from tests.coordinator.yard import Yard, thread

from shiftwork_agent.aws import metadata as agents
from shiftwork_coordinator.lab.aws.fleet_sample import NAME, STANDBY
from shiftwork_coordinator.lab.aws.fleets import metadata
from shiftwork_coordinator.lab.aws.fleets.hooks import ABANDON, CONTINUE, LAUNCHING, TERMINATING
from shiftwork_coordinator.lab.aws.fleets.launcher import Settings
from shiftwork_coordinator.lab.aws.sample import client

HOOK = "shiftwork-launch-1"
ROLE = "arn:aws:iam::123456789012:role/hooks"


class Waiting(Yard):
    async def hook(self, name: str = HOOK, transition: str = LAUNCHING, **more: Any) -> None:
        about = {"AutoScalingGroupName": STANDBY, "LifecycleHookName": name, "LifecycleTransition": transition}
        await thread(self.api.put_lifecycle_hook, **about, **more)

    async def complete(self, instance: str, result: str = CONTINUE, name: str = HOOK) -> None:
        about = {"AutoScalingGroupName": STANDBY, "LifecycleHookName": name}
        done = {"InstanceId": instance, "LifecycleActionResult": result}
        await thread(self.api.complete_lifecycle_action, **about, **done)

    async def beat(self, instance: str, name: str = HOOK) -> None:
        about = {"AutoScalingGroupName": STANDBY, "LifecycleHookName": name}
        await thread(self.api.record_lifecycle_action_heartbeat, **about, InstanceId=instance)

    async def messages(self, queue: str, count: int) -> list[dict[str, Any]]:
        sqs, bodies = client(self.lab, "sqs"), []
        for _ in range(count):
            [message] = (await thread(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=5))["Messages"]
            bodies.append(json.loads(message["Body"]))
            await thread(sqs.delete_message, QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    async def until_states(self, *states: str) -> None:
        """By the stand-in's own knowledge: to ask over HTTP takes longer than some states last."""
        here = self.standin.launcher.of
        await self.until(lambda: sorted(one.state for one in here(STANDBY)) == sorted(states))

    def ids(self) -> list[str]:
        return [one.id for one in self.standin.launcher.of(STANDBY)]

    def set(self, **settings: Any) -> None:
        self.standin.launcher.settings = Settings(launch_after=0.05, **settings)


@pytest.fixture
async def yard(aws: Any, tmp_path: Path) -> AsyncIterator[Waiting]:
    async with yards.opened(aws.url, tmp_path) as found:
        yard = Waiting(found.standin, found.lab, found.hosts)
        await yard.open(0, standby=True)
        yield yard


async def test_an_instance_runs_and_waits_and_is_registered_once_it_may_go_on(yard: Waiting) -> None:
    yard.set(proceed_after=1.5)
    await yard.hook()
    await yard.size(1, STANDBY)
    await yard.until_states("Pending:Wait")
    [one] = yard.ids()
    await yard.until(lambda: yard.hosts.running == {one})
    assert (await yard.states(STANDBY), await yard.in_ec2(), yard.targets()) == (["Pending:Wait"], ["running"], set())
    told = await thread(yard.api.describe_auto_scaling_instances, InstanceIds=[one])
    [row] = told["AutoScalingInstances"]
    [machine] = yard.standin.launcher.of(STANDBY)
    here = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint(machine.address)}
    assert await agents.identity(here) == (one, "us-east-1", row["AvailabilityZone"])
    unasked = f"{metadata.endpoint(machine.address)}/latest/meta-data/instance-id"
    async with aiohttp.ClientSession() as session, session.get(unasked) as answer:
        assert answer.status == 401, "a token is needed"
    assert (row["AutoScalingGroupName"], row["LifecycleState"]) == (STANDBY, "Pending:Wait")
    await yard.complete(one)
    await yard.until_states("Pending:Proceed")
    assert yard.targets() == set()
    await yard.until(lambda: yard.targets() == {one})
    assert await yard.states(STANDBY) == ["InService"]
    for call in (yard.complete, yard.beat):
        with pytest.raises(ClientError, match=f"No active Lifecycle Action found with instance ID {one}") as refused:
            await call(one)
        assert refused.value.response["Error"]["Code"] == "ValidationError"


async def test_another_comes_for_one_that_is_given_up(yard: Waiting) -> None:
    await yard.hook()
    await yard.size(1, STANDBY)
    await yard.until_states("Pending:Wait")
    [first] = yard.ids()
    await yard.complete(first, ABANDON)
    await yard.until(lambda: yard.hosts.ended == [first])
    await yard.until_states("Pending:Wait")
    [second] = yard.ids()
    assert second != first and yard.targets() == set()
    rests = {"AutoScalingGroupName": STANDBY, "ScalingProcesses": ["Launch"]}
    await thread(yard.api.suspend_processes, **rests)
    await yard.complete(second, ABANDON)
    await yard.until(lambda: not yard.ids())
    group = await yard.group(STANDBY)
    assert (group["DesiredCapacity"], group["Instances"]) == (1, []), "none is launched while that rests"
    await thread(yard.api.resume_processes, **rests)
    await yard.until_states("Pending:Wait")


async def test_no_answer_is_the_default_and_a_heartbeat_puts_it_off(yard: Waiting) -> None:
    yard.set(hook_second=0.05)
    await yard.hook(HeartbeatTimeout=30, DefaultResult=CONTINUE)
    await yard.size(1, STANDBY)
    await yard.until_states("Pending:Wait")
    [one] = yard.ids()
    begun = yard.standin.clock.monotonic()
    await yard.beat(one)
    put_off = yard.standin.clock.monotonic()
    await yard.until_states("InService")
    assert yard.standin.clock.monotonic() - put_off >= 30 * 0.05 > put_off - begun
    await thread(yard.api.delete_lifecycle_hook, AutoScalingGroupName=STANDBY, LifecycleHookName=HOOK)
    await yard.hook("other", HeartbeatTimeout=7200)
    await yard.size(2, STANDBY)
    await yard.until_states("InService", "Pending:Wait")
    two = next(one.id for one in yard.standin.launcher.of(STANDBY) if one.state == "Pending:Wait")
    await thread(yard.api.delete_lifecycle_hook, AutoScalingGroupName=STANDBY, LifecycleHookName="other")
    await yard.until(lambda: yard.hosts.ended == [two])
    await yard.until_states("InService", "InService")


async def test_what_leaves_is_out_of_traffic_and_waits_before_it_ends(yard: Waiting) -> None:
    await yard.hook("leave", TERMINATING)
    await yard.size(2, STANDBY)
    await yard.until_states("InService", "InService")
    await yard.until(lambda: len(yard.targets()) == 2 == len(yard.hosts.running))
    await yard.size(1, STANDBY)
    await yard.until_states("InService", "Terminating:Wait")
    [leaves] = set(yard.ids()) - yard.targets()
    assert sorted(await yard.states(STANDBY)) == ["InService", "Terminating:Wait"]
    by_state = [{"Name": "instance-state-name", "Values": ["running"]}, {"Name": "instance-id", "Values": [leaves]}]
    told = await thread(client(yard.lab, "ec2").describe_instances, Filters=by_state)
    assert [i["InstanceId"] for each in told["Reservations"] for i in each["Instances"]] == [leaves]
    assert leaves in yard.hosts.running
    await yard.complete(leaves, name="leave")
    await yard.until(lambda: yard.hosts.ended == [leaves])
    told = await thread(client(yard.lab, "ec2").describe_instances, Filters=by_state)
    assert [i["InstanceId"] for each in told["Reservations"] for i in each["Instances"]] == []
    [stays] = yard.ids()
    end = {"InstanceId": stays, "ShouldDecrementDesiredCapacity": False}
    await thread(yard.api.terminate_instance_in_auto_scaling_group, **end)
    await yard.until_states("InService", "Terminating:Wait")
    with pytest.raises(ClientError, match="min size"):
        [new] = yard.targets()
        await thread(yard.api.update_auto_scaling_group, AutoScalingGroupName=STANDBY, MinSize=1)
        await thread(
            yard.api.terminate_instance_in_auto_scaling_group, InstanceId=new, ShouldDecrementDesiredCapacity=True
        )
    await thread(yard.api.delete_auto_scaling_group, AutoScalingGroupName=STANDBY, ForceDelete=True)
    await yard.until(lambda: not yard.ids())
    assert not yard.hosts.running, "a group that is deleted takes along what waits"


async def test_a_queue_is_told_in_aws_s_words(yard: Waiting) -> None:
    sqs = client(yard.lab, "sqs")
    queue = (await thread(sqs.create_queue, QueueName="hooks"))["QueueUrl"]
    target = "arn:aws:sqs:us-east-1:123456789012:hooks"
    with pytest.raises(ClientError, match=f"Unable to publish test message to notification target {target}s using"):
        await yard.hook(NotificationTargetARN=target + "s", RoleARN=ROLE)
    await yard.hook(
        NotificationTargetARN=target, RoleARN=ROLE, NotificationMetadata="ours & theirs", HeartbeatTimeout=60
    )
    told = await thread(yard.api.describe_lifecycle_hooks, AutoScalingGroupName=STANDBY)
    [row] = told["LifecycleHooks"]
    assert (row["NotificationMetadata"], row["GlobalTimeout"], row["RoleARN"]) == ("ours & theirs", 6000, ROLE)
    await yard.size(1, STANDBY)
    await yard.until_states("Pending:Wait")
    test, launched = await yard.messages(queue, 2)
    assert (test["Event"], test["AutoScalingGroupName"]) == ("autoscaling:TEST_NOTIFICATION", STANDBY)
    token, [one] = launched.pop("LifecycleActionToken"), yard.ids()
    assert {k: v for k, v in launched.items() if k not in ("Time", "RequestId")} == {
        "Service": "AWS Auto Scaling", "AccountId": "123456789012", "AutoScalingGroupName": STANDBY,
        "LifecycleHookName": HOOK, "LifecycleTransition": LAUNCHING, "EC2InstanceId": one, "Origin": "EC2",
        "Destination": "AutoScalingGroup", "NotificationMetadata": "ours & theirs",
    }  # fmt: skip
    by_token = {"LifecycleActionToken": token, "LifecycleActionResult": CONTINUE}
    about = {"AutoScalingGroupName": STANDBY, "LifecycleHookName": HOOK}
    await thread(yard.api.complete_lifecycle_action, **about, **by_token)
    await yard.until_states("InService")
    await yard.hook("leave", TERMINATING, NotificationTargetARN=target, RoleARN=ROLE)
    await yard.size(0, STANDBY)
    _, leaves = await yard.messages(queue, 2)
    assert (leaves["LifecycleTransition"], leaves["EC2InstanceId"]) == (TERMINATING, one)
    assert (leaves["Origin"], leaves["Destination"]) == ("AutoScalingGroup", "EC2")


async def test_the_first_instances_wait_for_the_hooks_that_a_group_is_made_with(yard: Waiting) -> None:
    hook = {"LifecycleHookName": "first", "LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 30}
    made = {"MinSize": 1, "MaxSize": 1, "LaunchTemplate": {"LaunchTemplateName": "web", "Version": "$Latest"}}
    made |= {"AutoScalingGroupName": "fresh", "AvailabilityZones": ["us-east-1a"]}
    with pytest.raises(ClientError, match="between 30 and 7200"):
        wrong = {**hook, "HeartbeatTimeout": 1}
        await thread(yard.api.create_auto_scaling_group, **made, LifecycleHookSpecificationList=[wrong])
    await thread(yard.api.create_auto_scaling_group, **made, LifecycleHookSpecificationList=[hook])
    await yard.until(lambda: [one.state for one in yard.standin.launcher.of("fresh")] == ["Pending:Wait"])
    with pytest.raises(ClientError, match="not found"):
        await thread(yard.api.describe_lifecycle_hooks, AutoScalingGroupName="nobody")
    assert (await yard.group(NAME))["Instances"] == []
