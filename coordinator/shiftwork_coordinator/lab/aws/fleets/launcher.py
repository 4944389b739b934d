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
from shiftwork_coordinator.lab.aws.fleets import machine as machines
from shiftwork_coordinator.lab.aws.fleets.hooks import LAUNCHING
from shiftwork_coordinator.lab.aws.fleets.hooks import TERMINATING as ENDING
from shiftwork_coordinator.lab.aws.fleets.hosts import Hosts
from shiftwork_coordinator.lab.aws.fleets.machine import (
    IN_SERVICE,
    PENDING,
    PROCEED,
    SERVICE,
    TERMINATING,
    WAIT,
    Described,
    Machine,
    suspended,
)
from shiftwork_coordinator.lab.aws.fleets.metadata import Metadata
from shiftwork_coordinator.lab.aws.fleets.waiting import Waits
from shiftwork_coordinator.lab.aws.moto import Moto
from shiftwork_coordinator.lab.plan import APP_PORT
from shiftwork_coordinator.lab.ports import free_address

LAUNCHES, REGISTERS = "Launch", "AddToLoadBalancer"
NET = "127.79"
"""Where instances have their addresses."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`launch_after`: seconds from an instance's launch to its being in service or waiting; negative = it never is.
    `proceed_after`: seconds from a wait's end to its being in service. `hook_second`: how long each second of a
    lifecycle hook's timeouts lasts, for waits that begin from here on."""

    launch_after: float = 0.3
    proceed_after: float = 0.1
    hook_second: float = 1.0


class Launcher:
    """`later` runs what nobody awaits. `unmet`: the sizes that groups are to have as soon as nothing rests."""

    def __init__(
        self, moto: Moto, hosts: Hosts, balancing: Balancing, waits: Waits, later: Callable[[Any], object]
    ) -> None:
        self._moto, self._hosts, self._balancing, self._later = moto, hosts, balancing, later
        self._waits, self.metadata = waits, Metadata()
        self._looking = asyncio.Lock()
        self.machines: dict[str, Machine] = {}
        self.unmet: dict[str, int] = {}
        self.settings = Settings()

    async def groups(self, *names: str) -> list[Described]:
        return await machines.groups(self._moto, *names)

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

    async def dismiss(self, machine: Machine) -> None:
        """It leaves, and its group launches another for it, as soon as it may."""
        for group in await self.groups(machine.group):
            if rests := LAUNCHES in suspended(group):
                self.unmet.setdefault(machine.group, group["DesiredCapacity"])
            if machine.id in (one["InstanceId"] for one in group.get("Instances") or ()):
                told = {"InstanceId": machine.id, "ShouldDecrementDesiredCapacity": rests}
                await query.ask(self._moto, SERVICE, "TerminateInstanceInAutoScalingGroup", **told)
        await self.sync()

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

    # The life of an instance

    async def _live(self, machine: Machine) -> None:
        """From its launch to its end."""
        if await self._pending(machine):
            self._later(self._run(machine))
            await self._serve(machine)
            await machine.started.wait()
        machine.state = TERMINATING
        await self._drain(machine)
        await self._held(machine, ENDING)
        machine.state = TERMINATING + PROCEED
        await asyncio.to_thread(self._hosts.end, machine.id)
        await self.metadata.close(machine)
        del self.machines[machine.id]

    async def _pending(self, machine: Machine) -> bool:
        """Whether it came up; False when it left before."""
        after = self.settings.launch_after
        try:
            async with asyncio.timeout(after if after >= 0 else None):
                await machine.leaving.wait()
        except TimeoutError:
            return machine.state == PENDING
        return False

    async def _run(self, machine: Machine) -> None:
        await self.metadata.open(machine)
        try:
            await asyncio.to_thread(self._hosts.start, machine.id, machine.address)
        except ShiftworkError as err:  # an instance without an agent, as in life
            print(f"{machine.id}: {err.message}", file=sys.stderr)
        machine.started.set()

    async def _serve(self, machine: Machine) -> None:
        """Until it is to leave."""
        if await self._held(machine, LAUNCHING):
            machine.state = IN_SERVICE
            await self._register(machine)
        elif not machine.leaving.is_set():
            await self.dismiss(machine)
        await machine.leaving.wait()

    async def _held(self, machine: Machine, transition: str) -> bool:
        """Whether it goes on, once no lifecycle hook of its group holds it back."""
        if not self._waits.hooks.of(machine.group, transition):
            return True
        before, comes = machine.state, transition == LAUNCHING
        machine.state = before + WAIT
        self._waits.hooks.scale = self.settings.hook_second
        gone = machine.leaving.is_set if comes else lambda: False
        goes_on = await self._waits.passed(machine.id, machine.group, transition, gone)
        if goes_on and comes:
            machine.state = before + PROCEED
            await asyncio.sleep(self.settings.proceed_after)
        return goes_on

    async def _register(self, machine: Machine) -> None:
        """Where its group is attached now, unless that rests."""
        for group in await self.groups(machine.group):
            if REGISTERS not in suspended(group):
                await self.attach([machine], group.get("TargetGroupARNs") or ())

    async def _drain(self, machine: Machine) -> None:
        """It leaves every target group, whoever put it there, and stays until the last of them has let it go."""
        groups = self._balancing.targets.groups_of(machine.id)
        self.detach([machine], groups)
        await asyncio.sleep(max(map(self._balancing.targets.delay, groups), default=0.0))
