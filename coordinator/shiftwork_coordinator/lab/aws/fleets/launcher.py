"""Has as many instances as Auto Scaling groups want: launches, registers, drains what is to go.

moto makes and forgets the records of instances at once; here they come and go as in AWS, in their time.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.fleets.hosts import Hosts
from shiftwork_coordinator.lab.aws.fleets.machine import (
    IN_SERVICE,
    PENDING,
    TERMINATING,
    Described,
    Machine,
    suspended,
)
from shiftwork_coordinator.lab.aws.moto import Moto
from shiftwork_coordinator.lab.plan import APP_PORT
from shiftwork_coordinator.lab.ports import free_address

SERVICE = "autoscaling"
REGISTERS = "AddToLoadBalancer"
NET = "127.79"
"""Where instances have their addresses."""
MOST = 100


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`launch_after`: seconds from an instance's launch to its being in service; negative = it never is."""

    launch_after: float = 0.3


class Launcher:
    """`later` runs what nobody awaits."""

    def __init__(self, moto: Moto, hosts: Hosts, balancing: Balancing, later: Callable[[Any], object]) -> None:
        self._moto, self._hosts, self._balancing, self._later = moto, hosts, balancing, later
        self._looking = asyncio.Lock()
        self.machines: dict[str, Machine] = {}
        self.settings = Settings()

    async def groups(self, *names: str) -> list[Described]:
        """As moto has them; all of them without names."""
        asked = {"AutoScalingGroupNames": list(names)} if names else {}
        told = await query.ask(self._moto, SERVICE, "DescribeAutoScalingGroups", MaxRecords=MOST, **asked)
        return list(told.get("AutoScalingGroups") or ())

    async def sync(self) -> None:
        """What moto's groups have is launched from here on; what they have no more leaves."""
        async with self._looking:
            groups = await self.groups()
            there = {one["InstanceId"]: (one, group) for group in groups for one in group.get("Instances") or ()}
            for id, (one, group) in there.items():
                if id not in self.machines:
                    self._launch(one, group["AutoScalingGroupName"])
            for machine in self.machines.values():
                if machine.id not in there:
                    machine.leaving.set()

    def of(self, group: str) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.group == group]

    async def attach(self, machines: Iterable[Machine], groups: Iterable[str]) -> None:
        """Those that are in service get requests from these target groups."""
        for machine in machines:
            for group in groups if machine.state == IN_SERVICE else ():
                await self._balancing.add(group, [(machine.id, None)])

    def detach(self, machines: Iterable[Machine], groups: Iterable[str]) -> None:
        for machine in machines:
            for group in groups:
                if self._balancing.targets.knows(group):
                    self._balancing.targets.deregister(group, [(machine.id, None)])

    def _launch(self, described: Described, group: str) -> None:
        machine = Machine(described, group, free_address(NET, APP_PORT))
        self.machines[machine.id] = machine
        self._balancing.addresses[machine.id] = machine.address
        self._later(self._live(machine))

    async def _live(self, machine: Machine) -> None:
        """From its launch to its end."""
        if await self._pending(machine):
            machine.state = IN_SERVICE
            await self._register(machine)
            await self._run(machine)
            await machine.leaving.wait()
        machine.state = TERMINATING
        await self._drain(machine)
        await asyncio.to_thread(self._hosts.end, machine.id)
        del self.machines[machine.id]

    async def _pending(self, machine: Machine) -> bool:
        """Whether it came into service; False when it left before."""
        after = self.settings.launch_after
        try:
            async with asyncio.timeout(after if after >= 0 else None):
                await machine.leaving.wait()
        except TimeoutError:
            return machine.state == PENDING
        return False

    async def _register(self, machine: Machine) -> None:
        """Where its group is attached now, unless that rests."""
        for group in await self.groups(machine.group):
            if REGISTERS not in suspended(group):
                await self.attach([machine], group.get("TargetGroupARNs") or ())

    async def _run(self, machine: Machine) -> None:
        try:
            await asyncio.to_thread(self._hosts.start, machine.id, machine.address)
        except ShiftworkError as err:  # an instance without an agent, as in life
            print(f"{machine.id}: {err.message}", file=sys.stderr)

    async def _drain(self, machine: Machine) -> None:
        """It leaves every target group, whoever put it there, and stays until the last of them has let it go."""
        groups = self._balancing.targets.groups_of(machine.id)
        self.detach([machine], groups)
        await asyncio.sleep(max(map(self._balancing.targets.delay, groups), default=0.0))
