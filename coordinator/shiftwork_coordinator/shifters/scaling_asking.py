"""What is asked of Auto Scaling about groups, in few calls whatever their size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.settings import Weights
from shiftwork_coordinator.shifters import scaling_copy
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.resting import Group, name_of
from shiftwork_coordinator.shifters.scaling_copy import Attached, Part, parts
from shiftwork_coordinator.shifters.scaling_pair import Pair, pair

FAILED = frozenset({"Failed", "Cancelled"})
LAST = 20
"""Activities that are looked at: more than are needed to give up."""


async def look(ask: Ask, one: ScalingGroup, weights: Weights | None = None) -> Pair:
    names = [one.group, one.replacement]
    told = await ask("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=names)
    instead = dict([weights.target_groups]) if weights else {}
    return pair(one, {name_of(group): group for group in told["AutoScalingGroups"]}, instead)


async def attached(ask: Ask, group: str) -> Attached:
    policies, scheduled, hooks, notifications = await asyncio.gather(
        _every(ask, "describe_policies", "ScalingPolicies", AutoScalingGroupName=group),
        _every(ask, "describe_scheduled_actions", "ScheduledUpdateGroupActions", AutoScalingGroupName=group),
        _every(ask, "describe_lifecycle_hooks", "LifecycleHooks", AutoScalingGroupName=group),
        _every(
            ask, "describe_notification_configurations", "NotificationConfigurations", AutoScalingGroupNames=[group]
        ),
    )
    return Attached(policies, scheduled, hooks, notifications)


async def lacking(ask: Ask, group: Group, other: Group, instead: Mapping[str, str]) -> dict[str, Part]:
    """What hangs on the one group and not, or otherwise, on the other. `instead`: what its policies name instead of a
    target group."""
    into = name_of(other)
    hangs, has = await asyncio.gather(attached(ask, name_of(group)), attached(ask, into))
    return scaling_copy.lacking(parts(group, hangs, into, instead), parts(other, has, into))


async def last_activity(ask: Ask, group: str) -> str:
    """The id of the group's last scaling activity; `-` when it has none."""
    told = await ask("autoscaling", "describe_scaling_activities", AutoScalingGroupName=group, MaxRecords=1)
    return next((str(one["ActivityId"]) for one in told["Activities"]), "-")


async def failed_launches(ask: Ask, group: str, since: str) -> list[str]:
    """Why launches failed since the last that did not, the latest first; `since` is an activity, and is older."""
    told = await ask("autoscaling", "describe_scaling_activities", AutoScalingGroupName=group, MaxRecords=LAST)
    reasons = []
    for one in told["Activities"]:
        if one["ActivityId"] == since or one["StatusCode"] == "Successful":
            break
        if one["StatusCode"] in FAILED:
            reasons.append(str(one.get("StatusMessage") or one.get("Description") or "no reason given"))
    return reasons


async def _every(ask: Ask, operation: str, key: str, **given: Any) -> Sequence[Any]:
    """All pages of an answer."""
    found: list[Any] = []
    token: dict[str, str] = {}
    while True:
        told = await ask("autoscaling", operation, **given, **token)
        found += told[key]
        if not told.get("NextToken"):
            return found
        token = {"NextToken": told["NextToken"]}
