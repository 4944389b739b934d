"""The Auto Scaling groups of a deployment: which stand now, which are held, which take another's place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.resource import ExistingSets, Resource, ScalingGroup
from shiftwork_coordinator.creation import first_look
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Deployment, Group, Target
from shiftwork_coordinator.model.settings import GroupSettings, Instances


def fleet_targets(deployment: Deployment, ends: Sequence[str] = ()) -> list[Target]:
    """The Auto Scaling groups that are held while their instances are changed, or whose place another one takes; or two
    sets of instances that take turns, of which `ends` are terminated in the end."""
    look, settings = first_look(deployment), deployment.settings
    groups: Sequence[Resource] = _groups(deployment)
    if len(settings.selectors) > 1:
        names = [name for wanted in settings.selectors for name in wanted.autoscaling]
        groups = [ExistingSets(f"existing:{deployment.group}", tuple(_held(deployment, names)), tuple(ends))]
    return [Target(deployment.id, one.name, role="fleet", resource=one, look=look) for one in groups]


def _held(deployment: Deployment, names: Iterable[str]) -> list[ScalingGroup]:
    rest = deployment.settings.autoscaling.suspend
    return [ScalingGroup(f"autoscaling:{name}", name, deployment.id) for name in names if rest]


def _groups(deployment: Deployment) -> list[ScalingGroup]:
    settings = deployment.settings
    names = settings.instances.autoscaling
    if settings.blue_green is None:
        return _held(deployment, names)
    copied = settings.blue_green.green == "copy"
    replacement = copy_name(deployment) if copied else settings.blue_green.standby
    return [ScalingGroup(f"autoscaling:{n}", n, deployment.id, replacement, copied) for n in names]


def copy_name(deployment: Deployment) -> str:
    """At most 149 of the 255 characters that the name of an Auto Scaling group may have."""
    return f"shiftwork-{deployment.application}-{deployment.group}-{deployment.id}"


def standing(group: Group) -> GroupSettings:
    """The group's settings with the Auto Scaling groups that stand now, where copies took the place of those named."""
    instances = group.settings.instances
    names = tuple(group.copies.get(name, name) for name in instances.autoscaling)
    return replace(group.settings, instances=replace(instances, autoscaling=names))


def taken_over(group: Group, targets: Iterable[Target]) -> dict[str, str]:
    """`group.copies` after a deployment with these targets has ended. A copy stands from when its original is to go,
    also when that does not: its instances are out of traffic, and it never comes back."""
    copies = dict(group.copies)
    for one in (target.resource for target in targets if target.arranged is Arrangement.RETIRED):
        if isinstance(one, ScalingGroup) and one.copied:
            named = next((name for name, copy in copies.items() if copy == one.group), one.group)
            copies[named] = one.replacement
    return copies


def asked_for(settings: GroupSettings) -> Instances:
    """Whose instances have to be known: of two groups that swap, those of both."""
    wanted, both = settings.instances, settings.blue_green
    if both is None or both.green != "swap":
        return wanted
    return replace(wanted, autoscaling=(*wanted.autoscaling, both.standby))


def oriented(settings: GroupSettings, serving: Set[str]) -> GroupSettings:
    """The settings with the group that has instances now as the original; of two that swap one alone may have some."""
    both = settings.blue_green
    if both is None or both.green != "swap":
        return settings
    names = (*settings.instances.autoscaling, both.standby)
    if len(standing := [name for name in names if name in serving]) != 1:
        have = "both have" if standing else "neither has"
        raise InvalidRequest(
            f"cannot tell which of the Auto Scaling groups {' and '.join(names)} is the original: {have} instances;"
            " set the one that is not to serve to size 0",
            code="InvalidBlueGreenDeploymentConfigurationException",
        )
    other = next(name for name in names if name not in standing)
    instances = replace(settings.instances, autoscaling=tuple(standing))
    return replace(settings, instances=instances, blue_green=replace(both, standby=other))
