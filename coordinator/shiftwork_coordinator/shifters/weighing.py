"""The traffic of an Auto Scaling group and of the one that takes over from it: two target groups behind one listener.

Each group is attached to one of the two. Which of them is the original's is what the original is attached to when a
deployment is created; the listener's weights say how far the traffic has moved.
"""

from __future__ import annotations

from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.model.settings import GroupSettings, Weights
from shiftwork_coordinator.shifters import asking, forwards
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.forwards import Route
from shiftwork_coordinator.shifters.resting import Group, name_of
from shiftwork_coordinator.shifters.scaling_pair import balancers
from shiftwork_coordinator.shifters.task_sets import BALANCING, short


async def oriented(settings: GroupSettings, original: str = "") -> GroupSettings:
    """The settings with the target group first that is the original's: of the Auto Scaling group that they name, or
    of another one. One that is not there is found missing later."""
    weights, both = settings.weights, settings.blue_green
    if weights is None or both is None:
        return settings
    names = [original] if original else list(settings.instances.autoscaling)
    told = await asking.of(settings.aws)("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=names)
    if not told["AutoScalingGroups"]:
        return settings
    home = _home(weights, told["AutoScalingGroups"][0])
    other = next(one for one in weights.target_groups if one != home)
    return replace(settings, blue_green=replace(both, shift=replace(weights, target_groups=(home, other))))


def _home(weights: Weights, original: Group) -> str:
    attached = balancers(original)["TargetGroupARNs"]
    found = [one for one in weights.target_groups if one in attached]
    if len(found) == 1:
        return found[0]
    names = f"{short(weights.target_groups[0])} and {short(weights.target_groups[1])}"
    how = "both" if found else "neither"
    verb = "detach" if found else "attach"
    raise InvalidRequest(
        f"cannot tell which of the target groups {names} is that of the Auto Scaling group {name_of(original)}: it is"
        f" attached to {how}; run `aws autoscaling {verb}-load-balancer-target-groups` for one of them",
        code=BALANCING,
    )


async def route(ask: Ask, weights: Weights) -> Route:
    """As it stands now."""
    arn = weights.rule or weights.listener
    return (await forwards.routes(ask, [Pair(weights.target_groups, weights.listener, weights.rule)]))[arn]


async def attach(ask: Ask, weights: Weights) -> None:
    """The other target group comes behind the listener, without requests: its targets are not checked before."""
    old, new = weights.target_groups
    now = await route(ask, weights)
    if new in now.weights:
        return
    if now.share(old) < 1.0:
        raise InvalidRequest(f"cannot put {short(new)} behind {now.arn}: {elsewhere(now, weights)}", code=BALANCING)
    await forwards.forward(ask, now, old, new, 0.0)


async def give(ask: Ask, weights: Weights, share: float) -> None:
    """To the other target group; the original's gets the rest."""
    await forwards.forward(ask, await route(ask, weights), *weights.target_groups, share)


async def refuse_served(ask: Ask, weights: Weights, side: int, what: str) -> None:
    """Raises Unavailable while requests still go to the original's target group (0) or to the other one (1)."""
    now = await route(ask, weights)
    if (share := now.share(weights.target_groups[side])) > 0:
        name = short(weights.target_groups[side])
        raise Unavailable(f"cannot {what}: {now.arn} sends {share:.0%} of its requests to {name}")


def weight(now: Route, weights: Weights) -> tuple[float | None, str]:
    """The share of the replacement; None, with the reason, where others have one."""
    old, new = weights.target_groups
    if abs(now.share(old) + now.share(new) - 1.0) > 0.001:
        return None, elsewhere(now, weights)
    return now.share(new), ""


def elsewhere(now: Route, weights: Weights) -> str:
    sends = ", ".join(f"{short(group)} {now.share(group):.0%}" for group, given in now.weights.items() if given)
    return f"it sends to {sends or 'no target group'}, and not to {short(weights.target_groups[0])} alone"
