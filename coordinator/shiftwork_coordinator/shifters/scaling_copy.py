"""What a copy of an Auto Scaling group is made of, and what it lacks. Pure: groups as AWS tells them in, calls out.

A part is a call that gives it to the copy, under the name that people know it by. Original and copy are read in the
same words, so that what the copy lacks is a difference of two tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from shiftwork_coordinator.shifters.resting import Group, tag

FIELDS = (
    "LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy", "DefaultCooldown", "HealthCheckType",
    "HealthCheckGracePeriod", "PlacementGroup", "TerminationPolicies", "NewInstancesProtectedFromScaleIn",
    "ServiceLinkedRoleARN", "MaxInstanceLifetime", "CapacityRebalance", "Context", "DesiredCapacityType",
    "DefaultInstanceWarmup", "InstanceMaintenancePolicy", "AvailabilityZoneDistribution",
    "AvailabilityZoneImpairmentPolicy", "CapacityReservationSpecification", "InstanceLifecyclePolicy",
    "VPCZoneIdentifier", "AvailabilityZones",
)  # fmt: skip
"""What CreateAutoScalingGroup takes as DescribeAutoScalingGroups tells it. Sizes, load balancers and protection are not
among them: a copy gets those later."""
POLICY = (
    "PolicyName", "PolicyType", "AdjustmentType", "MinAdjustmentStep", "MinAdjustmentMagnitude", "ScalingAdjustment",
    "Cooldown", "MetricAggregationType", "StepAdjustments", "EstimatedInstanceWarmup", "TargetTrackingConfiguration",
    "Enabled", "PredictiveScalingConfiguration",
)  # fmt: skip
SCHEDULED = (
    "ScheduledActionName", "StartTime", "EndTime", "Recurrence", "MinSize", "MaxSize", "DesiredCapacity", "TimeZone",
)  # fmt: skip
HOOK = (
    "LifecycleHookName", "LifecycleTransition", "RoleARN", "NotificationTargetARN", "NotificationMetadata",
    "HeartbeatTimeout", "DefaultResult",
)  # fmt: skip
WARM_POOL = ("MaxGroupPreparedCapacity", "MinSize", "PoolState", "InstanceReusePolicy")
ALARMS_OF_OURS = "TargetTrackingScaling"
"""Policies of this type make their own alarms; those of others are somebody's, and know one policy by its ARN."""
NOT_COPIED = ("shiftwork-", "CodeDeploy-managed-")
"""Lifecycle hooks of deployment systems, by how their names begin: who put them there puts them where they belong."""
DEFAULT_ROLE = "/AWSServiceRoleForAutoScaling"
NOTHING: tuple[object, ...] = (None, "", [], {})


class Part(msgspec.Struct, frozen=True):
    """`operation` gives it to the copy; empty = no call can. `late`: only once the copy has its load balancers, or
    not before it keeps its instances."""

    operation: str = ""
    parameters: dict[str, Any] = {}
    late: bool = False


class Attached(msgspec.Struct, frozen=True):
    """What hangs on a group in tables of its own, as AWS tells it."""

    policies: Sequence[Mapping[str, Any]] = ()
    scheduled: Sequence[Mapping[str, Any]] = ()
    hooks: Sequence[Mapping[str, Any]] = ()
    notifications: Sequence[Mapping[str, Any]] = ()


def creation(original: Group, name: str, tags: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parameters of the call that makes the copy, without instances, with these tags besides the original's."""
    own = [tag(name, key, value) for key, value in tags]
    return {
        "AutoScalingGroupName": name, **fields(original), "MinSize": 0, "MaxSize": original["MaxSize"],
        "DesiredCapacity": 0, "Tags": [part.parameters["Tags"][0] for part in _tags(original, name).values()] + own,
    }  # fmt: skip


def fields(group: Group) -> dict[str, Any]:
    """What is copied of the group itself, in one form for equal groups."""
    found = _some(group, FIELDS)
    if str(found.get("ServiceLinkedRoleARN", "")).endswith(DEFAULT_ROLE):
        del found["ServiceLinkedRoleARN"]  # the default; to name it needs a permission more
    if "MixedInstancesPolicy" in found:
        found.pop("LaunchTemplate", None)
    if "VPCZoneIdentifier" in found:
        found.pop("AvailabilityZones", None)  # they follow from the subnets
        found["VPCZoneIdentifier"] = ",".join(sorted(found["VPCZoneIdentifier"].split(",")))
    named: dict[str, Any] = _by_id(found)
    return named


def parts(
    group: Group, attached: Attached, into: str, instead: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Part]:
    """Everything besides `fields`, as calls for the group `into`; policies that count the requests of a target group
    count those of the one that `into` has `instead`."""
    return {
        **_tags(group, into),
        **_policies([_counting(one, instead) for one in attached.policies], into),
        **_scheduled(attached.scheduled, into),
        **_hooks(attached.hooks, into),
        **_notifications(attached.notifications, into),
        **_metrics(group, into),
        **_warm_pool(group, into),
    }


def lacking(wanted: Mapping[str, Part], has: Mapping[str, Part]) -> dict[str, Part]:
    return {name: part for name, part in wanted.items() if has.get(name) != part}


def differing(original: Group, copy: Group) -> list[str]:
    """Fields of the group itself in which the copy is another one."""
    one, other = fields(original), fields(copy)
    return [key for key in FIELDS if one.get(key) != other.get(key)]


def uncopied(wanted: Mapping[str, Part]) -> list[str]:
    return [name for name, part in wanted.items() if not part.operation]


def _tags(group: Group, into: str) -> dict[str, Part]:
    own = [one for one in group.get("Tags", ()) if not one["Key"].startswith(("aws:", "shiftwork:"))]
    return {
        f"tag {one['Key']}": Part(
            "create_or_update_tags",
            {"Tags": [tag(into, one["Key"], one.get("Value", ""), at_launch=one["PropagateAtLaunch"])]},
        )
        for one in own
    }


def _policies(policies: Sequence[Mapping[str, Any]], into: str) -> dict[str, Part]:
    found = {}
    for one in policies:
        name = f"scaling policy {one['PolicyName']}"
        text = msgspec.json.encode(one, enc_hook=str)
        found[name] = _call("put_scaling_policy", into, _some(one, POLICY), late=b'"ResourceLabel":"' in text)
        if one["PolicyType"] != ALARMS_OF_OURS:
            found |= {f"alarm {alarm['AlarmName']} of {name}": Part() for alarm in one.get("Alarms") or ()}
    return found


def _counting(policy: Any, instead: Mapping[str, str]) -> Any:
    """The policy with `targetgroup/…` of other ARNs in its labels."""
    if isinstance(policy, Mapping):
        return {key: _counting(value, instead) for key, value in policy.items()}
    if not isinstance(policy, str):
        return policy
    for old, new in instead.items():
        policy = policy.replace(old.rpartition(":")[2], new.rpartition(":")[2])
    return policy


def _scheduled(actions: Sequence[Mapping[str, Any]], into: str) -> dict[str, Part]:
    """One that recurs starts with its next turn: AWS takes no start that has passed."""
    found = {}
    for one in actions:
        given = _some(one, SCHEDULED)
        if "Recurrence" in given:
            given.pop("StartTime", None)
        found[f"scheduled action {one['ScheduledActionName']}"] = _call(
            "put_scheduled_update_group_action", into, given
        )
    return found


def _hooks(hooks: Sequence[Mapping[str, Any]], into: str) -> dict[str, Part]:
    return {
        f"lifecycle hook {one['LifecycleHookName']}": _call("put_lifecycle_hook", into, _some(one, HOOK))
        for one in hooks
        if not one["LifecycleHookName"].startswith(NOT_COPIED)
    }


def _notifications(rows: Sequence[Mapping[str, Any]], into: str) -> dict[str, Part]:
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds.setdefault(row["TopicARN"], set()).add(row["NotificationType"])
    return {
        f"notifications to {topic}": _call(
            "put_notification_configuration", into, {"TopicARN": topic, "NotificationTypes": sorted(types)}
        )
        for topic, types in kinds.items()
    }


def _metrics(group: Group, into: str) -> dict[str, Part]:
    enabled = group.get("EnabledMetrics") or ()
    if not enabled:
        return {}
    wanted = {"Granularity": enabled[0]["Granularity"], "Metrics": sorted(one["Metric"] for one in enabled)}
    return {"metrics collection": _call("enable_metrics_collection", into, wanted)}


def _warm_pool(group: Group, into: str) -> dict[str, Part]:
    """Late: what is in a pool costs money, and waits for scaling that rests until then."""
    pool = group.get("WarmPoolConfiguration")
    if not pool or pool.get("Status") == "PendingDelete":
        return {}
    return {"warm pool": _call("put_warm_pool", into, _some(pool, WARM_POOL), late=True)}


def _call(operation: str, into: str, parameters: dict[str, Any], *, late: bool = False) -> Part:
    return Part(operation, {"AutoScalingGroupName": into, **parameters}, late)


def _some(told: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: told[key] for key in keys if told.get(key) not in NOTHING}


def _by_id(value: Any) -> Any:
    """AWS tells a launch template by id and name, and takes one of them."""
    if isinstance(value, Mapping):
        named = "LaunchTemplateId" in value
        return {k: _by_id(v) for k, v in value.items() if not (named and k == "LaunchTemplateName")}
    return [_by_id(one) for one in value] if isinstance(value, list) else value
