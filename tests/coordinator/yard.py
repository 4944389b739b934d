"""Auto Scaling groups in AWS's stand-in, whose instances are pretended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.fleet_sample import NAME, Made
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


@asynccontextmanager
async def opened(moto_url: str, directory: Path) -> AsyncIterator[Yard]:
    port, hosts = free_ports(1)[0], Pretended()
    async with running(moto_url, directory, port, seed=7, hosts=hosts) as found:
        found.launcher.settings = Settings(launch_after=0.05)
        yield Yard(found, Lab("test", "process", directory, {"aws": port}, (), aws=True), hosts)
