"""Auto Scaling groups of AWS's stand-in by themselves: instances that come, are registered, drain and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.coordinator import yard as yards
from tests.coordinator.yard import Yard, thread

from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.balancing import health
from shiftwork_coordinator.lab.aws.fleet_sample import NAME, STANDBY
from shiftwork_coordinator.lab.aws.fleets.launcher import Settings


@pytest.fixture
async def yard(aws: Any, tmp_path: Path) -> AsyncIterator[Yard]:
    async with yards.opened(aws.url, tmp_path) as found:
        yield found


async def test_instances_come_into_service_and_traffic_and_drain_before_they_go(yard: Yard) -> None:
    yard.standin.launcher.settings = Settings(launch_after=-1)
    await yard.open(1, standby=True)
    assert (await yard.states(), await yard.in_ec2(), yard.targets()) == (["Pending"], ["pending"], set())
    yard.standin.launcher.settings = Settings(launch_after=0.05)
    await yard.size(2, STANDBY)
    await yard.until(lambda: len(yard.hosts.running) == 2)
    assert (await yard.states(STANDBY), await yard.in_ec2()) == (["InService"] * 2, ["pending", "running", "running"])
    assert yard.targets() == yard.hosts.running
    balancing, drain = yard.standin.balancing.targets, {"deregistration_delay.timeout_seconds": "5"}
    balancing.know(health.group({"TargetGroupArn": yard.made.targets}, drain))
    await yard.size(1, STANDBY)
    await yard.until(lambda: len(yard.targets()) == 1)
    assert await yard.states(STANDBY) == ["InService", "Terminating"]
    assert await yard.in_ec2() == ["pending", "running", "running"], "what leaves its group still runs"
    assert not yard.hosts.ended, "it drains"
    await yard.until(lambda: len(yard.hosts.ended) == 1)
    assert (await yard.states(STANDBY), yard.hosts.running) == (["InService"], yard.targets())
    for name in (NAME, STANDBY):
        await thread(yard.api.delete_auto_scaling_group, AutoScalingGroupName=name, ForceDelete=True)
    await yard.until(lambda: not yard.standin.launcher.machines)
    assert (yard.hosts.running, await thread(fleet_sample.groups, yard.lab)) == (set(), [])


async def test_what_rests_is_neither_launched_nor_ended_nor_registered(yard: Yard) -> None:
    await yard.open(2, standby=True)
    await yard.until(lambda: len(yard.hosts.running) == 2)
    rest = {"AutoScalingGroupName": NAME, "ScalingProcesses": ["Launch", "Terminate"]}
    await thread(yard.api.suspend_processes, **rest)
    await yard.size(1)
    await thread(yard.api.update_auto_scaling_group, AutoScalingGroupName=NAME, MinSize=3, MaxSize=4)
    group = await yard.group()
    assert (group["DesiredCapacity"], group["MinSize"], len(group["Instances"])) == (3, 3, 2)
    await thread(yard.api.resume_processes, **rest)
    await yard.until(lambda: len(yard.hosts.running) == 3)
    assert (await yard.group())["DesiredCapacity"] == 3
    green = {"AutoScalingGroupName": STANDBY, "ScalingProcesses": ["AddToLoadBalancer"]}
    await thread(yard.api.suspend_processes, **green)
    await yard.size(1, STANDBY)
    await yard.until(lambda: len(yard.hosts.running) == 4)
    assert len(yard.targets()) == 3, "nobody registers what was launched meanwhile"
    await thread(yard.api.resume_processes, **green)
    attached = {"AutoScalingGroupName": STANDBY, "TargetGroupARNs": [yard.made.targets]}
    await thread(yard.api.attach_load_balancer_target_groups, **attached)
    assert yard.targets() == yard.hosts.running
    await thread(yard.api.detach_load_balancer_target_groups, **attached)
    assert len(yard.targets()) == 3
    assert yard.hosts.ended == []


async def test_questions_that_moto_does_not_know_have_answers(yard: Yard) -> None:
    await yard.open(1)
    told = await thread(yard.api.describe_account_limits)
    assert (told["NumberOfAutoScalingGroups"], told["MaxNumberOfAutoScalingGroups"]) == (1, 500)
    assert (await thread(yard.api.describe_notification_configurations))["NotificationConfigurations"] == []
    refreshes = await thread(yard.api.describe_instance_refreshes, AutoScalingGroupName=NAME)
    assert refreshes["InstanceRefreshes"] == []
