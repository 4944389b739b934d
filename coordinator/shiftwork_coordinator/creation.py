"""New deployments: which instances, which settings, which rows. Pure but for the random part of an id."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.resource import Resource, content_of, marked, reversed_resource
from shiftwork_coordinator.engine import verdict
from shiftwork_coordinator.engine.batches import natural
from shiftwork_coordinator.engine.decision import Rollback
from shiftwork_coordinator.model.config import PREDEFINED, PREFIX, AllAtOnce, DeploymentConfig, Platform, full_name
from shiftwork_coordinator.model.rows import Deployment, Group, Instance, Role, Target
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.status import INSTANCE_STOPPED, INSTANCE_TERMINATED, TargetStatus

DEFAULTS: dict[Platform, str] = {
    "Server": PREFIX + "OneAtATime", "Lambda": PREFIX + "LambdaAllAtOnce", "ECS": PREFIX + "ECSAllAtOnce"
}  # fmt: skip
"""The config of a group that names none."""
NO_INSTANCES = "NO_INSTANCES"
LOOKS = 1000
"""Readings that a deployment may ask an agent for, one after the other."""
ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def new_id() -> str:
    """`d-` and nine upper-case alphanumerics, as CodeDeploy's."""
    return "d-" + "".join(secrets.choice(ID_ALPHABET) for _ in range(9))


def matching(instances: Iterable[Instance], wanted: Instances) -> list[Instance]:
    """The joined, unrevoked instances that a group's selector names or whose tags match, in natural order."""
    chosen = [i for i in instances if i.revoked_at is None and _matches(i, wanted)]
    return sorted(chosen, key=lambda i: natural(i.name))


def _matches(instance: Instance, wanted: Instances) -> bool:
    if instance.name in wanted.names:
        return True
    return bool(wanted.tags) and all(instance.tags.get(key) in values for key, values in wanted.tags.items())


def no_instances(group: Group, instances: Iterable[Instance]) -> InvalidRequest:
    """The error for a selector that matches nothing; names what there is."""
    wanted, where = group.settings.instances, f"{group.application}/{group.name}"
    if wanted.in_ec2:
        return InvalidRequest(
            f"cannot deploy to {where}: no joined instance and no running instance of EC2 is meant by {wanted.text()};"
            " correct `instances`, `aws.region` or `aws.role_arn`, or start some",
            code=NO_INSTANCES,
        )
    names = ", ".join(i.name for i in instances if i.revoked_at is None) or "none"
    return InvalidRequest(
        f"cannot deploy to {where}: no joined instance matches {wanted.text() or 'its empty selector'}; joined are:"
        f" {names}; tag one with `shiftwork instances tag INSTANCE KEY=VALUE` or join one",
        code=NO_INSTANCES,
    )


def config_named(name: str, custom: Mapping[str, DeploymentConfig]) -> DeploymentConfig:
    found = PREDEFINED.get(full_name(name)) or custom.get(name)
    if found is None:
        known = ", ".join([*(n.removeprefix("CodeDeployDefault.") for n in PREDEFINED), *custom])
        raise InvalidRequest(
            f"cannot use deployment config {name!r}: there is none of that name; known are {known}",
            code="DeploymentConfigDoesNotExistException",
        )
    return found


def refuse_other_platform(config: DeploymentConfig, platform: Platform) -> DeploymentConfig:
    if config.platform != platform:
        raise InvalidRequest(
            f"cannot use deployment config {config.name!r}: it is for {config.platform}, the group's platform is"
            f" {platform}; its default is {DEFAULTS[platform]}",
            code="InvalidDeploymentConfigNameException",
        )
    return config


def refuse_unweighed(config: DeploymentConfig, settings: GroupSettings) -> DeploymentConfig:
    """A share of the traffic of instances is a weight: without weights there is nothing to shift."""
    if config.platform == "Server" and settings.weights is None and not isinstance(config.traffic, AllAtOnce):
        raise InvalidRequest(
            f"cannot use deployment config {config.name!r}: it shifts traffic by shares, and the group has no weights"
            " that could do so; name a listener and two target groups in `blue_green.shift`, or use another config",
            code="InvalidTrafficRoutingConfigurationException",
        )
    return config


def effective_config(config: DeploymentConfig, settings: GroupSettings) -> DeploymentConfig:
    """The config with what the group sets itself: pace, bake, most failures."""
    own = {"pace": settings.pace, "bake": settings.bake, "max_failed": settings.max_failed}
    return replace(config, **{k: v for k, v in own.items() if v is not None})


def refuse_impossible(config: DeploymentConfig, total: int) -> None:
    problem = verdict.invalid(total, config.minimum_healthy_hosts.of(total))
    if problem:
        raise InvalidRequest(problem, code=verdict.HEALTH_CONSTRAINTS_INVALID)


def refuse_stopped(where: str, config: DeploymentConfig, total: int, stopped: Iterable[str]) -> None:
    """Stopped instances are in the set and count as failed. Refused where that alone would end the deployment."""
    names, floor = sorted(stopped, key=natural), config.minimum_healthy_hosts.of(total)
    told = verdict.Tally(total, floor, len(names), succeeded=0, skipped=0, unattempted=total - len(names))
    if problem := verdict.too_many_failed(told, config.max_failed):
        raise InvalidRequest(
            f"cannot deploy to {where}: {len(names)} of {total} instances are stopped and count as failed"
            f" ({', '.join(names[:20])}), and {problem}; start or terminate them, choose others, or use a config with a"
            " lower minimum",
            code=verdict.HEALTH_CONSTRAINTS,
        )


def stopped_target(deployment: Deployment, name: str, cloud_id: str, address: str = "") -> Target:
    """One that is decided before the start: CodeDeploy would wait for its agent first, and then call it failed."""
    row, at = Target(deployment.id, name, address, cloud_id, look=first_look(deployment)), deployment.created_at
    why = f"{cloud_id} is stopped in EC2: nothing was changed there; start it and deploy again"
    failed = {"status": TargetStatus.FAILED, "error_code": INSTANCE_STOPPED, "error_message": why}
    return replace(row, left_at=at, completed_at=at, **failed)


def targets_of(deployment: Deployment, instances: Iterable[Instance], role: Role = "") -> list[Target]:
    """In blue/green they are the originals, where nothing else is said."""
    role = role or ("original" if deployment.deployment_type == "BLUE_GREEN" else "")
    return [Target(deployment.id, i.name, i.address, i.cloud_id, role, look=first_look(deployment)) for i in instances]


def of_resources(deployment: Deployment, resources: Sequence[Resource], hooks: dict[str, str]) -> Deployment:
    """The row of a deployment whose revision is its AppSpec."""
    return replace(
        deployment, platform=deployment.settings.platform, deployment_type="BLUE_GREEN",
        appspec_content=content_of(resources), functions=hooks,
    )  # fmt: skip


def resource_targets(deployment: Deployment, resources: Sequence[Resource]) -> list[Target]:
    return [
        Target(
            deployment.id, one.name, look=first_look(deployment), resource=marked(one, token_of(deployment, one.name))
        )
        for one in resources
    ]


def first_look(deployment: Deployment) -> int:
    """Higher than any number that agents were given by earlier deployments: their last readings do not count here."""
    return deployment.serial * LOOKS


def rollback_rows(
    failed: Deployment,
    targets: Mapping[str, Target],
    wanted: Rollback,
    parameters: dict[str, str],
    appspec: str,
    serial: int,
    now: float,
) -> tuple[Deployment, list[Target]]:
    """The deployment that puts `failed` back, over the same instances; those that need nothing are Skipped.

    `parameters` and `appspec` are those with which `wanted.revision` was deployed when it was good.
    """
    deployment = Deployment(
        id=new_id(),
        serial=serial,
        application=failed.application,
        group=failed.group,
        group_id=failed.group_id,
        revision=wanted.revision,
        config=replace(failed.config, traffic=AllAtOnce()),
        settings=failed.settings,
        created_at=now,
        platform=failed.platform,
        deployment_type=failed.deployment_type,
        appspec_content=_reversed(targets, wanted),
        creator="codeDeployRollback",
        created_by="shiftwork",
        description=f"rollback of {failed.id}",
        ignore_stop_failures=True,
        file_exists_behavior=failed.file_exists_behavior,
        rollback_of=failed.id,
        previous_revision=failed.revision,
        parameters=parameters,
        previous_parameters=failed.parameters,
        appspec=appspec,
        previous_appspec=failed.appspec,
    )
    rows = [_rollback_target(deployment, target, wanted, now) for target in targets.values()]
    return deployment, rows


def token_of(deployment: Deployment, name: str) -> str:
    """What marks the things that a deployment makes for a resource, so that they are made once."""
    return f"{deployment.id}.{name}"


def _reversed(targets: Mapping[str, Target], wanted: Rollback) -> str:
    """The AppSpec that a rollback of resources carries out; empty where there is no AppSpec beside the bundle."""
    shifted = {name: t for name, t in targets.items() if not t.role and name not in wanted.skip}
    moved = [t.resource for t in shifted.values() if t.resource is not None]
    return content_of(reversed_resource(one, "") for one in moved) if moved else ""


def _rollback_target(deployment: Deployment, target: Target, wanted: Rollback, now: float) -> Target:
    look = first_look(deployment)
    row = Target(deployment.id, target.instance, target.address, target.cloud_id, target.role, look=look)
    if target.resource is not None:
        token = deployment.id if target.role else token_of(deployment, target.instance)
        row = replace(row, resource=reversed_resource(target.resource, token))
    why = wanted.skip.get(target.instance)
    if why is None:
        return row
    code = target.error_code if target.error_code == INSTANCE_TERMINATED else ""
    return replace(row, status=TargetStatus.SKIPPED, error_code=code, error_message=why, completed_at=now)
