"""How an account with Auto Scaling groups stands, in words that do not change when one group takes another's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.balancing import forwarding
from shiftwork_coordinator.lab.aws.fleet_sample import Made
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import Lab

SETTLED_WITHIN = 60.0
HOSTS = "i-*"
LAUNCH_HOOK, STOP_HOOK = "shiftwork-launch-", "shiftwork-terminate-"
"""The first stays on the group that serves, and is on no other; the second goes when it is not wanted any more."""
GOING = "Terminating"


def facts(lab: Lab, made: Made) -> dict[str, Any]:
    """Sizes, instances, suspended processes, tags, hooks and load balancers of the groups; the listener's targets."""
    groups = fleet_sample.groups(lab)
    own = next((one for group in groups for one in group["TargetGroupARNs"]), made.targets)
    names = {own: "its target group"}
    told = {f"group {n}": f for n, f in enumerate(sorted(map(str, (_group(lab, one, names) for one in groups))))}
    elb = client(lab, "elbv2")
    listener = elb.describe_listeners(ListenerArns=[made.listener])["Listeners"][0]["DefaultActions"]
    health = elb.describe_target_health(TargetGroupArn=own)["TargetHealthDescriptions"]
    targets = {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in health}
    there = {one["InstanceId"] for group in groups for one in group["Instances"]}
    return {
        **told,
        "the listener": [{names.get(g, g): w for g, w in _shares(one).items() if w} for one in listener],
        "other targets": _others(lab, made, own),
        "targets": sorted(targets.values()),
        "targets that no group has": sorted(targets.keys() - there),
        "instances that no group has": sorted({*_running(lab), *_hosts(lab)} - there),
        "instances in EC2": len(_running(lab)),
        "hosts": len(_hosts(lab)),
        "hooks out of place": _astray(lab),
    }


def _astray(lab: Lab) -> list[str]:
    groups = {group["AutoScalingGroupName"]: group["Instances"] for group in fleet_sample.groups(lab)}
    return [
        f"{hook} of {name}"
        for name, instances in groups.items()
        for hook in _hooks(lab, name)
        if hook.startswith(STOP_HOOK) or (hook.startswith(LAUNCH_HOOK) and not instances)
    ]


def _hooks(lab: Lab, group: str) -> list[str]:
    found = client(lab, "autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"]
    return sorted(hook["LifecycleHookName"] for hook in found)


def _shares(action: Mapping[str, Any]) -> dict[str, float]:
    weights = forwarding.weights(action)
    return {group: weight / (sum(weights.values()) or 1) for group, weight in weights.items()}


def _others(lab: Lab, made: Made, own: str) -> list[str]:
    """What is in the target group that is not the group's."""
    elb, others = client(lab, "elbv2"), {made.targets, made.others} - {own, ""}
    told = [elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"] for arn in others]
    return [one["Target"]["Id"] for each in told for one in each]


def _group(lab: Lab, group: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    hooks = _hooks(lab, group["AutoScalingGroupName"])
    return {
        "sizes": [group[key] for key in ("MinSize", "MaxSize", "DesiredCapacity")],
        "instances": sorted(one["LifecycleState"] for one in group["Instances"]),
        "suspended": sorted(one["ProcessName"] for one in group["SuspendedProcesses"]),
        "tags": sorted(f"{one['Key']}={one['Value']}" for one in group["Tags"]),
        "hooks": [name for name in hooks if not name.startswith(LAUNCH_HOOK)],
        "target groups": sorted(names.get(arn, arn) for arn in group["TargetGroupARNs"]),
    }


def _running(lab: Lab) -> set[str]:
    gone = {"terminated", "shutting-down"}
    pages = client(lab, "ec2").describe_instances()["Reservations"]
    return {one["InstanceId"] for page in pages for one in page["Instances"] if one["State"]["Name"] not in gone}


def _hosts(lab: Lab) -> set[str]:
    return {place.name for place in (lab.directory / "hosts").glob(HOSTS)}


def left(stage: Stage, made: Made, before: Mapping[str, Any]) -> list[str]:
    """Whatever stands otherwise than `before`, once what is going has gone."""
    stage.wait(lambda: _settled(stage.lab), "instances that go to be gone", within=SETTLED_WITHIN)
    return list(_differences(before, facts(stage.lab, made)))


def _settled(lab: Lab) -> bool:
    every = [one for group in fleet_sample.groups(lab) for one in group["Instances"]]
    there = {one["InstanceId"] for one in every}
    stay = {one["InstanceId"] for one in every if not one["LifecycleState"].startswith(GOING)}
    return _hosts(lab) == there == stay and not _astray(lab)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for what in dict.fromkeys([*before, *now]):
        if before.get(what) != now.get(what):
            yield f"{what}: {now.get(what)}, before {before.get(what)}"
