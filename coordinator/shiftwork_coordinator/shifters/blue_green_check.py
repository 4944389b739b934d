"""What would go wrong with blue/green over Auto Scaling groups, found before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shiftwork_contract.errors import ShiftworkError
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shifters import resting, scaling_asking, scaling_copy, scaling_pair, weighing_check
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.resting import CODE, Group, name_of, suspended, words_of
from shiftwork_coordinator.shifters.scaling_pair import MARK, Pair, balancers, healthy, staying

LONGEST = 255
NO_BALANCER = "InvalidLoadBalancerInfoException"
STACK = "aws:cloudformation:stack-name"
CODEDEPLOY = "CodeDeploy-managed-"
UNITS = ("", "units")
REFRESHING = frozenset({"Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"})


async def problems(ask: Ask, settings: GroupSettings, resources: Sequence[ScalingGroup]) -> list[Problem]:
    if len(resources) != 1:
        names = ", ".join(one.group for one in resources) or "none"
        text = f"cannot replace the instances of {len(resources)} Auto Scaling groups ({names}): blue/green is of one"
        return [Problem(text, code=CODE)]
    [one] = resources
    now = await scaling_asking.look(ask, one, settings.weights)
    if now.original is None:
        return [Problem(resting.not_there(one.group), code=CODE)]
    found = [*_settings(settings), *_original(now.original), *_unsteered(settings, now.original)]
    found += await _refreshed(ask, one.group)
    if settings.weights:
        found += await weighing_check.problems(ask, settings.weights, now)
    if one.copied:
        return [*found, *_name(now), *_copy(now.original), *(await _asked(ask, now.original))]
    found += _standby(now, now.original, keep=settings.originals.then == "keep")
    return found + await _unlike(ask, now)


def _settings(settings: GroupSettings) -> Iterator[Problem]:
    if not settings.has_traffic_control:
        yield Problem(
            "cannot move traffic from one Auto Scaling group to another without a load balancer: name those that send"
            " to it in `load_balancers`, or `blue_green.shift`",
            code=NO_BALANCER,
        )


def _original(group: Group) -> Iterator[Problem]:
    name = name_of(group)
    try:
        scaling_pair.size(group)
    except ShiftworkError as err:
        yield Problem(err.message, code=err.code)
    if note := resting.note_of(group):
        yield Problem(resting.taken_over(name, note), fatal=False)
    if (ill := len(staying(group)) - len(healthy(group))) and healthy(group):
        text = (
            f"{ill} of {len(staying(group))} instances of {name} are not in service and healthy: they are not replaced"
        )
        yield Problem(text, fatal=False)
    if group.get("DesiredCapacityType", "") not in UNITS:
        kind = group["DesiredCapacityType"]
        yield Problem(f"cannot size a replacement of {name}: its sizes are in {kind}, not in instances", code=CODE)
    if other := [one["Identifier"] for one in group.get("TrafficSources") or () if one.get("Type") == "vpc-lattice"]:
        text = f"cannot move the traffic of {name}: VPC Lattice sends to it ({', '.join(other)}), which Shiftwork"
        yield Problem(f"{text} cannot ask to send elsewhere", code=CODE)
    if not any(balancers(group).values()):
        text = f"no load balancer is attached to {name}: what it or its replacement launches later gets no traffic"
        yield Problem(f"{text}; attach its target groups to it", fatal=False)


def _unsteered(settings: GroupSettings, group: Group) -> Iterator[Problem]:
    """Load balancers of the original that the deployment does not ask to send elsewhere."""
    steered = {*_names(list(settings.load_balancers)), *(settings.weights.target_groups if settings.weights else ())}
    for name in [name for names in balancers(group).values() for name in names]:
        if not {name, name.split("/")[1] if name.startswith("arn:") else name} & steered:
            yield Problem(
                f"{name} sends to {name_of(group)}, and is not among the deployment's load balancers: it sends to the"
                " original until that goes, and to the replacement from when it has taken over, ready or not",
                fatal=False,
            )


def _names(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _names(one)


def _name(now: Pair) -> Iterator[Problem]:
    name = now.one.replacement
    if not name.isascii() or not name.isprintable() or ":" in name or not 0 < len(name) <= LONGEST:
        yield Problem(
            f"cannot make an Auto Scaling group {name!r}: a name has 1 to {LONGEST} printable ASCII characters without"
            f" a colon, this one has {len(name)}; shorten the deployment group's name",
            code=CODE,
        )
    if now.replacement is not None and not now.ours:
        yield Problem(taken(now.one), code=CODE)


def _copy(group: Group) -> Iterator[Problem]:
    name = name_of(group)
    if "Launch" in suspended(group) - set(resting.note_of(group)):
        yield Problem(_launches(name, "its copy, for which the same holds"), code=CODE)
    if group.get("Operator"):
        yield Problem(f"cannot copy {name}: another AWS service manages it ({group['Operator']})", code=CODE)
    if stack := words_of(group, STACK):
        yield Problem(
            f"{name} belongs to the CloudFormation stack {stack[0]}, its copy will not: the stack's next update makes"
            " it anew; `blue_green: {green: swap}` leaves both groups in their stack",
            fatal=False,
        )


async def _asked(ask: Ask, group: Group) -> list[Problem]:
    """What only further questions tell: parts that no call can copy, and the account's quota."""
    name = name_of(group)
    attached = await scaling_asking.attached(ask, name)
    lost = scaling_copy.uncopied(scaling_copy.parts(group, attached, name))
    found = [Problem(_lost(name, lost), code=CODE)] if lost else []
    if hooks := [h["LifecycleHookName"] for h in attached.hooks if h["LifecycleHookName"].startswith(CODEDEPLOY)]:
        text = f"AWS CodeDeploy deploys to what {name} launches too ({', '.join(hooks)}); its hook is not copied"
        found.append(Problem(text, fatal=False))
    return found + await _quota(ask)


async def _unlike(ask: Ask, now: Pair) -> list[Problem]:
    """Two groups that stand are not made alike, but what the standby lacks is told."""
    old, new = now.original, now.replacement
    if old is None or new is None or old is new:
        return []
    lost = [*scaling_copy.differing(old, new), *await scaling_asking.lacking(ask, old, new, now.instead)]
    text = f"{name_of(new)} lacks, or has otherwise than {name_of(old)}: {', '.join(lost)}"
    return [Problem(f"{text}; it is used as it is", fatal=False)] if lost else []


async def _refreshed(ask: Ask, name: str) -> list[Problem]:
    try:
        told = await ask("autoscaling", "describe_instance_refreshes", AutoScalingGroupName=name, MaxRecords=1)
    except ShiftworkError:  # who may not know goes on
        return []
    under_way = [one for one in told.get("InstanceRefreshes", ()) if one["Status"] in REFRESHING]
    return [
        Problem(
            f"cannot replace the instances of {name}: the instance refresh {one['InstanceRefreshId']} does so already"
            f" ({one['Status']}); wait for it, or run `aws autoscaling cancel-instance-refresh"
            f" --auto-scaling-group-name '{name}'`",
            code=CODE,
        )
        for one in under_way
    ]


async def _quota(ask: Ask) -> list[Problem]:
    try:
        told = await ask("autoscaling", "describe_account_limits")
    except ShiftworkError:  # who may not know finds out when the copy is made
        return []
    has, most = told.get("NumberOfAutoScalingGroups", 0), told.get("MaxNumberOfAutoScalingGroups", 0)
    if has < most or not most:
        return []
    text = f"cannot make another Auto Scaling group: the account has {has} of {most} in this region"
    return [Problem(f"{text}; delete one, or have the quota raised", code=CODE)]


def _standby(now: Pair, old: Group, *, keep: bool) -> Iterator[Problem]:
    one, new = now.one, now.replacement
    if one.group == one.replacement:
        yield Problem(f"cannot swap the Auto Scaling group {one.group} with itself: name another `standby`", code=CODE)
        return
    if new is None:
        yield Problem(resting.not_there(one.replacement), code=CODE)
        return
    if not now.ours and (not scaling_pair.emptied(new) or staying(new)):
        yield Problem(not_empty(new), code=CODE)
    if "Launch" in suspended(new) - set(resting.note_of(new)):
        yield Problem(_launches(one.replacement, "it"), code=CODE)
    if "Terminate" in suspended(old) - set(resting.note_of(old)) and not keep:
        text = f"cannot empty the Auto Scaling group {one.group} in the end: its process Terminate is suspended"
        yield Problem(f"{text}; resume it", code=CODE)
    for names in now.unattached.values():
        text = f"{one.replacement} is not attached to {', '.join(names)}, to which {one.group} is"
        yield Problem(f"{text}: it will be, once it has taken over", fatal=False)


def taken(one: ScalingGroup) -> str:
    return (
        f"cannot make an Auto Scaling group {one.replacement}: there is one, which this deployment did not make (its"
        f" tag {MARK} says who did); delete it if nobody needs it"
    )


def not_empty(group: Group) -> str:
    has = f"minimum {group['MinSize']}, desired {group['DesiredCapacity']}, {len(staying(group))} instances"
    return (
        f"cannot let the Auto Scaling group {name_of(group)} take over: it is not at size 0 ({has}); set its minimum"
        " and desired capacity to 0, and wait until its instances are gone"
    )


def _launches(name: str, what: str) -> str:
    return (
        f"cannot give instances to {what}: the process Launch of the Auto Scaling group {name} is suspended; resume it"
    )


def _lost(name: str, lost: Sequence[str]) -> str:
    return (
        f"cannot copy the Auto Scaling group {name} whole: {', '.join(lost)} would be lost; alarms know a policy by its"
        " ARN: use a target tracking policy, which makes its own, or `blue_green: {green: swap}`"
    )
