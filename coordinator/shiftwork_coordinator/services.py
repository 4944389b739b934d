"""Deployments of services: which task definition a service gets, and what its load balancers send to."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import EcsAppSpec, ServiceShift, parse_ecs
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.appspecs import parsed
from shiftwork_coordinator.model.settings import Ecs, GroupSettings
from shiftwork_coordinator.shifters import asking, ecs_check
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.task_sets import ECS_SERVICE, TaskSet


class ServiceWanted(msgspec.Struct, frozen=True):
    resources: tuple[ServiceShift, ...]
    hooks: dict[str, str]


async def wanted(content: str, task_definition: str, settings: GroupSettings) -> ServiceWanted:
    """What a deployment moves, with the group's hooks where the AppSpec names none. The task definition is pinned."""
    if bool(content) == bool(task_definition):
        raise InvalidRequest(
            "cannot deploy a service: give an AppSpec (--revision appspec.yml), or --task-definition",
            code="RevisionRequiredException",
        )
    assert settings.ecs is not None, "apply refuses a group without"
    ask = asking.of(settings.aws)
    blank = _blank(settings.ecs)
    first = await _primary(ask, blank)
    spec = parsed(parse_ecs, content) if content else _short(task_definition, first)
    definition = await ecs_check.task_definition(ask, spec.task_definition)
    one = replace(
        blank, original=first.arn, current=first.definition, target=definition["taskDefinitionArn"],
        container=spec.container, port=spec.port, platform_version=spec.platform_version, network=spec.network,
        capacity=spec.capacity,
    )  # fmt: skip
    return ServiceWanted((one,), settings.hooks.named() | spec.hooks)


def _blank(ecs: Ecs) -> ServiceShift:
    name = f"{ecs.cluster.rsplit('/', 1)[-1]}:{ecs.service.rsplit('/', 1)[-1]}"
    return ServiceShift(name, ecs.cluster, ecs.service, "", "", "", "", "", 0, ecs.load_balancers)


async def _primary(ask: Ask, one: ServiceShift) -> TaskSet:
    now = await ecs_check.service(ask, one)
    if not now.primaries:
        raise InvalidRequest(
            f"cannot deploy to service {one.service} of cluster {one.cluster}: it has no primary task set;"
            f" make one (`shiftwork ecs init {one.cluster}/{one.service}` prints how)",
            code=ECS_SERVICE,
        )
    return now.primaries[0]


def _short(task_definition: str, first: TaskSet) -> EcsAppSpec:
    """The container and port that the load balancer sends to now."""
    entry = next(iter(first.described.get("loadBalancers") or ()), None)
    if entry is None:
        raise InvalidRequest(
            f"cannot deploy {task_definition}: the primary task set is behind no load balancer; give an AppSpec",
            code=ECS_SERVICE,
        )
    return EcsAppSpec(task_definition, entry["containerName"], entry["containerPort"])
