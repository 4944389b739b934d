"""Instances that Auto Scaling groups launch: what they are, and how AWS describes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.moto import Moto

SERVICE = "autoscaling"
PENDING, IN_SERVICE, TERMINATING = "Pending", "InService", "Terminating"
WAIT, PROCEED = ":Wait", ":Proceed"
IN_EC2 = {PENDING: (0, "pending"), TERMINATING + PROCEED: (32, "shutting-down")}
"""Code and name of an instance's state in EC2 by that in its group; it runs in every other one."""
RUNNING = (16, "running")
MOST = 100
Described = Mapping[str, Any]
"""A group, or an instance in it, as DescribeAutoScalingGroups tells it."""


@dataclass
class Machine:
    described: Described
    group: str
    address: str
    state: str = PENDING
    started: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return str(self.described["InstanceId"])

    def told(self, described: Described | None = None) -> dict[str, Any]:
        """As its group tells it; by what was last known of it where moto has forgotten it."""
        return {**(described or self.described), "LifecycleState": self.state}

    @property
    def goes(self) -> bool:
        return self.state.startswith(TERMINATING)

    @property
    def ec2_state(self) -> tuple[int, str]:
        return IN_EC2.get(self.state, RUNNING)


async def groups(moto: Moto, *names: str) -> list[Described]:
    """As moto has them; all of them without names."""
    asked = {"AutoScalingGroupNames": list(names)} if names else {}
    told = await query.ask(moto, SERVICE, "DescribeAutoScalingGroups", MaxRecords=MOST, **asked)
    return list(told.get("AutoScalingGroups") or ())


def suspended(group: Described) -> set[str]:
    return {one["ProcessName"] for one in group.get("SuspendedProcesses") or ()}
