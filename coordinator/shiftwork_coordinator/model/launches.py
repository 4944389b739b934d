"""What is remembered of instances that Auto Scaling groups launch or end, and what is seen of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from shiftwork_coordinator.model.rows import Group, Row
from shiftwork_coordinator.model.settings import Aws
from shiftwork_coordinator.model.snapshot import Joined
from shiftwork_coordinator.model.status import TargetStatus


class ScalingHook(Row, frozen=True):
    """A lifecycle hook that was, or is about to be, put on an Auto Scaling group for a deployment group."""

    group_id: str
    scaling_group: str
    leaving: bool
    aws: Aws = Aws()

    @property
    def name(self) -> str:
        return f"shiftwork-{'terminate' if self.leaving else 'launch'}-{self.group_id}"


class Launch(Row, frozen=True):
    """An instance that waits on its way into an Auto Scaling group, or (`leaving`) out of it.

    `revision` is the identity of what it was given, or could not be. `outcome` is what AWS is told, "" = it goes on
    waiting; it stays after the answer as long as something may follow: `CONTINUE` until the instance has what is good,
    `ABANDON` to count what failed. `why` is for people. `beat_at` is when AWS was last asked to wait longer.
    """

    group_id: str
    cloud_id: str
    leaving: bool
    scaling_group: str = ""
    since: float = 0.0
    revision: str = ""
    deployment_id: str = ""
    outcome: Literal["", "CONTINUE", "ABANDON"] = ""
    why: str = ""
    beat_at: float = 0.0


class Waiting(msgspec.Struct, frozen=True):
    """An instance that AWS keeps waiting for somebody's answer."""

    scaling_group: str
    leaving: bool


class Ended(msgspec.Struct, frozen=True):
    """A target whose deployment has ended."""

    status: TargetStatus
    message: str = ""


class LaunchSnapshot(msgspec.Struct, frozen=True):
    """One deployment group. Instances are named by EC2's ids. `waiting` and `serving` (InService) are as AWS tells.

    `joined` holds those whose agent is connected, `ended` by deployment and instance what has come of `launches`.
    `active` is the group's deployment that is under way, and `taken` what it may still be changing. It sees itself to
    what the Auto Scaling groups `passed` launch; what `kept` launch waits for its end.
    """

    group: Group
    launches: tuple[Launch, ...] = ()
    waiting: Mapping[str, Waiting] = {}
    serving: frozenset[str] = frozenset()
    joined: Mapping[str, Joined] = {}
    installed: Mapping[str, str] = {}
    ended: Mapping[tuple[str, str], Ended] = {}
    active: str = ""
    taken: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
