"""Deployments to what Auto Scaling groups launch or end: their rows. Pure but for the random part of an id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.creation import DEFAULTS, config_named, effective_config, first_look, new_id
from shiftwork_coordinator.engine import verdict
from shiftwork_coordinator.engine.launching import Begin
from shiftwork_coordinator.model.config import PREDEFINED, PREFIX, DeploymentConfig
from shiftwork_coordinator.model.rows import Deployment, Group, Target
from shiftwork_coordinator.model.settings import Alarms, GroupSettings
from shiftwork_coordinator.model.snapshot import Joined
from shiftwork_coordinator.scaling_groups import fleet_targets, standing

ALL_AT_ONCE = PREDEFINED[PREFIX + "AllAtOnce"]
FOLLOWS_UP = "CodeDeployAutoUpdate"
WHAT = {
    "autoscaling": "launched by",
    "autoscalingTermination": "ended by",
    FOLLOWS_UP: "launched meanwhile by",
}


def launch_rows(
    group: Group,
    begin: Begin,
    joined: Mapping[str, Joined],
    revision: Revision,
    custom: Mapping[str, DeploymentConfig],
    serial: int,
    now: float,
) -> tuple[Deployment, list[Target]]:
    """What is good, with what it was good with, for these instances; `joined` by EC2's ids."""
    ids = [row.cloud_id for row in begin.launches]
    names = sorted({row.scaling_group for row in begin.launches})
    deployment = Deployment(
        id=new_id(),
        serial=serial,
        application=group.application,
        group=group.name,
        group_id=group.id,
        revision=revision,
        config=_config(group, begin, custom),
        settings=_settings(group, begin),
        created_at=now,
        creator=begin.creator,
        created_by="shiftwork",
        description=f"{len(ids)} {WHAT[begin.creator]} {', '.join(names)}",
        ignore_stop_failures=True,
        file_exists_behavior=group.settings.file_exists_behavior,
        previous_revision=group.last_good,
        parameters=group.last_good_parameters,
        previous_parameters=group.last_good_parameters,
        appspec=group.last_good_appspec,
        previous_appspec=group.last_good_appspec,
    )
    targets = _targets(deployment, [joined[id] for id in ids])
    return deployment, targets + (fleet_targets(deployment) if begin.creator == FOLLOWS_UP else [])


def _targets(deployment: Deployment, found: Sequence[Joined]) -> list[Target]:
    look = first_look(deployment)
    return [Target(deployment.id, one.instance, one.address, one.cloud_id, look=look) for one in found]


def _config(group: Group, begin: Begin, custom: Mapping[str, DeploymentConfig]) -> DeploymentConfig:
    """The group's own where instances that serve are updated; what does not serve yet, or goes, is taken at once."""
    if begin.creator != FOLLOWS_UP or group.settings.blue_green:
        return ALL_AT_ONCE
    config = effective_config(config_named(group.settings.config or DEFAULTS["Server"], custom), group.settings)
    total = len(begin.launches)
    return ALL_AT_ONCE if verdict.invalid(total, config.minimum_healthy_hosts.of(total)) else config


def _settings(group: Group, begin: Begin) -> GroupSettings:
    """Instances are changed in place. A red alarm may be just why the group launches more; what serves already it keeps
    from being updated. Of two target groups that weights share requests out between, the first is theirs."""
    settings = replace(standing(group), blue_green=None, rollback=())
    if weights := group.settings.weights:
        settings = replace(settings, load_balancers=({"elbv2": {"target_group": weights.target_groups[0]}},))
    if begin.creator == FOLLOWS_UP:
        return settings
    return replace(settings, bake=0.0, alarms=Alarms(), autoscaling=replace(settings.autoscaling, suspend=()))
