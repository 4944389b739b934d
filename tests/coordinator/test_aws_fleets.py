"""Auto Scaling groups of AWS's stand-in by themselves: instances that come, are registered, drain and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.balancing import health
from shiftwork_coordinator.lab.aws.fleet_sample import NAME, STANDBY, Made
from shiftwork_coordinator.lab.aws.fleets.launcher import Settings
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.aws.standin import StandIn, running
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.lab.ports import free_ports


async def thread(work: Any, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(work, *args, **kwargs)


class Pretended:
    """Hosts that are nothing but their names."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.ended: list[str] = []

    def start(self, id: str, address: str) -> None:
        self.running.add(id)

    def end(self, id: str) -> None:
        self.running.discard(id)
        self.ended.append(id)


class Yard:
    def __init__(self, standin: StandIn, lab: Lab, hosts: Pretended) -> None:
        self.standin, self.lab, self.hosts = standin, lab, hosts
        self.api = client(lab, "autoscaling")
        self.made: Made

    async def open(self, desired: int, *, standby: bool = False) -> None:
        self.made = await thread(fleet_sample.make, self.lab, desired, standby=standby)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not done():
                await asyncio.sleep(0.02)

    async def group(self, name: str = NAME) -> Any:
        return next(one for one in await thread(fleet_sample.groups, self.lab) if one["AutoScalingGroupName"] == name)

    async def states(self, name: str = NAME) -> list[str]:
        return sorted(one["LifecycleState"] for one in (await self.group(name))["Instances"])

    async def in_ec2(self) -> list[str]:
        told = await thread(client(self.lab, "ec2").describe_instances)
        return sorted(one["State"]["Name"] for each in told["Reservations"] for one in each["Instances"])

    def targets(self) -> set[str]:
        return {target.id for target, (state, _) in self.states_of_targets().items() if state != "draining"}

    def states_of_targets(self) -> Any:
        return self.standin.balancing.targets.states(self.made.targets)

    async def size(self, desired: int, name: str = NAME) -> None:
        await thread(self.api.set_desired_capacity, AutoScalingGroupName=name, DesiredCapacity=desired)


@pytest.fixture
async def yard(aws: Any, tmp_path: Path) -> AsyncIterator[Yard]:
    port, hosts = free_ports(1)[0], Pretended()
    async with running(aws.url, tmp_path, port, seed=7, hosts=hosts) as found:
        found.launcher.settings = Settings(launch_after=0.05)
        yield Yard(found, Lab("test", "process", tmp_path, {"aws": port}, (), aws=True), hosts)


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
    assert (await yard.in_ec2()).count("shutting-down") == 1
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
