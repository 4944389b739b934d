"""What would go wrong with weights between two Auto Scaling groups, found before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.model.settings import Weights
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shifters import weighing
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.forwards import Route
from shiftwork_coordinator.shifters.resting import Group, name_of
from shiftwork_coordinator.shifters.scaling_pair import Pair, balancers
from shiftwork_coordinator.shifters.task_sets import BALANCING, short

ALIKE = {"VpcId": "VPC", "Protocol": "protocol", "TargetType": "target type"}


async def problems(ask: Ask, weights: Weights, now: Pair) -> list[Problem]:
    try:
        route = await weighing.route(ask, weights)
        told = await ask("elbv2", "describe_target_groups", TargetGroupArns=list(weights.target_groups))
        groups = {one["TargetGroupArn"]: one for one in told["TargetGroups"]}
        found = [*_route(route, weights), *_groups(groups, weights), *_standby(now, weights)]
        return found + await _occupied(ask, weights)
    except ShiftworkError as err:
        return [Problem(err.message, code=err.code)]


def _route(route: Route, weights: Weights) -> Iterator[Problem]:
    old, new = weights.target_groups
    if route.network:
        text = f"{route.arn} is of a Network Load Balancer, which is not shifted by weights; use `load_balancers`"
        yield Problem(text, code=BALANCING)
    if not route.weights:
        text = f"{route.arn} forwards to no target group; let it forward to {short(old)}, where the original is"
        yield Problem(text, code=BALANCING)
        return
    if others := [short(group) for group in route.weights if group not in (old, new)]:
        text = f"{route.arn} forwards to {', '.join(others)} too, which would get no more requests; take it out there"
        yield Problem(text, code=BALANCING)
    elif route.share(old) < 1.0:
        text = (
            f"{route.arn} must send everything to {short(old)}, where the original is, but"
            f" {weighing.elsewhere(route, weights)}; left by an interrupted deployment? Set it back, then deploy again"
        )
        yield Problem(text, code=BALANCING)


def _groups(groups: Mapping[str, Mapping[str, Any]], weights: Weights) -> Iterator[Problem]:
    old, new = (groups.get(arn) for arn in weights.target_groups)
    if old is None or new is None:
        missing = ", ".join(short(arn) for arn in weights.target_groups if arn not in groups)
        yield Problem(f"there is no target group {missing}; correct `blue_green.shift`", code=BALANCING)
        return
    for key, what in ALIKE.items():
        if old.get(key) != new.get(key):
            pair = " and ".join(f"{one['TargetGroupName']} ({one.get(key, '-')})" for one in (old, new))
            text = f"the target groups {pair} are not of the same {what}: a listener cannot weigh them; name another"
            yield Problem(text, code=BALANCING)


def _standby(now: Pair, weights: Weights) -> Iterator[Problem]:
    """What it launches would come into the original's target group."""
    group, old = now.replacement, weights.target_groups[0]
    if group is not None and not now.one.copied and old in _attached(group):
        text = (
            f"{name_of(group)} is attached to {short(old)}, the target group of {now.one.group}; detach it there:"
            " it is attached to the other one when it takes over"
        )
        yield Problem(text, code=BALANCING)


def _attached(group: Group) -> Sequence[str]:
    return balancers(group)["TargetGroupARNs"]


async def _occupied(ask: Ask, weights: Weights) -> list[Problem]:
    """What is there already would get requests as soon as its group has a weight."""
    new = weights.target_groups[1]
    told = (await ask("elbv2", "describe_target_health", TargetGroupArn=new))["TargetHealthDescriptions"]
    if not (ids := [one["Target"]["Id"] for one in told if one["TargetHealth"]["State"] != "draining"]):
        return []
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    text = f"{shown} are in the target group {short(new)} already, which the replacements need; deregister them there"
    return [Problem(text, code=BALANCING)]
