"""Changes of one Auto Scaling group, in as few calls as AWS takes them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_coordinator.shifters import resting
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.resting import Group, name_of
from shiftwork_coordinator.shifters.scaling_pair import balancers, protection

AT_A_TIME = {"TargetGroupARNs": 10, "LoadBalancerNames": 10, "InstanceIds": 50}
"""Names that AWS takes in one call."""
OF_KIND = {"TargetGroupARNs": "load_balancer_target_groups", "LoadBalancerNames": "load_balancers"}


async def update(ask: Ask, group: Group, **wanted: Any) -> None:
    """Nothing is asked when it is so already."""
    if any(group.get(key) != value for key, value in wanted.items()):
        await ask("autoscaling", "update_auto_scaling_group", AutoScalingGroupName=name_of(group), **wanted)


async def empty(ask: Ask, group: Group, most: int) -> None:
    """To size 0: what is protected from scale-in would stay, and has had its day."""
    kept = [one["InstanceId"] for one in group.get("Instances", ()) if one.get("ProtectedFromScaleIn")]
    await _in_portions(ask, "set_instance_protection", group, "InstanceIds", kept, ProtectedFromScaleIn=False)
    await update(ask, group, MinSize=0, MaxSize=most, DesiredCapacity=0)


async def delete(ask: Ask, group: Group) -> None:
    """With its instances, its warm pool and what waits in its hooks."""
    if protection(group):
        await update(ask, group, DeletionProtection="none")
    await ask("autoscaling", "delete_auto_scaling_group", AutoScalingGroupName=name_of(group), ForceDelete=True)


async def attach(ask: Ask, group: Group, names: Mapping[str, Sequence[str]]) -> None:
    for kind, some in names.items():
        await _in_portions(ask, f"attach_{OF_KIND[kind]}", group, kind, some)


async def detach(ask: Ask, group: Group) -> None:
    """From every load balancer. What was attached as a traffic source is detached as one."""
    known = {kind: list(group.get(kind) or ()) for kind in OF_KIND}
    for kind, some in known.items():
        await _in_portions(ask, f"detach_{OF_KIND[kind]}", group, kind, some)
    others = [one for one in balancers(group)["TargetGroupARNs"] if one not in known["TargetGroupARNs"]]
    if others:
        sources = [{"Identifier": one, "Type": "elbv2"} for one in others]
        await ask("autoscaling", "detach_traffic_sources", AutoScalingGroupName=name_of(group), TrafficSources=sources)


async def untag(ask: Ask, group: Group, key: str) -> None:
    value = " ".join(resting.words_of(group, key))
    await ask("autoscaling", "delete_tags", Tags=[resting.tag(name_of(group), key, value)])


async def _in_portions(ask: Ask, operation: str, group: Group, key: str, names: Sequence[str], **more: Any) -> None:
    for first in range(0, len(names), AT_A_TIME[key]):
        some = {key: list(names[first : first + AT_A_TIME[key]])}
        await ask("autoscaling", operation, AutoScalingGroupName=name_of(group), **some, **more)
