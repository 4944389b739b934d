"""Instances that Auto Scaling groups launch: what they are, and how AWS describes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PENDING, IN_SERVICE, TERMINATING = "Pending", "InService", "Terminating"
Described = Mapping[str, Any]
"""A group, or an instance in it, as DescribeAutoScalingGroups tells it."""


@dataclass
class Machine:
    described: Described
    group: str
    address: str
    state: str = PENDING
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return str(self.described["InstanceId"])

    def told(self, described: Described | None = None) -> dict[str, Any]:
        """As its group tells it; by what was last known of it where moto has forgotten it."""
        return {**(described or self.described), "LifecycleState": self.state}

    @property
    def ec2_state(self) -> tuple[int, str] | None:
        """Code and name of its state in EC2, where that is not what moto says."""
        return {PENDING: (0, "pending"), TERMINATING: (32, "shutting-down")}.get(self.state)


def suspended(group: Described) -> set[str]:
    return {one["ProcessName"] for one in group.get("SuspendedProcesses") or ()}
