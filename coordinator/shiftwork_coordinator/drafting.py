"""A deployment as it is asked for, and the rows it becomes: what is deployed, to what, how fast."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec import appspec_name
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import parse_place
from shiftwork_contract.resource import Resource, revision_of
from shiftwork_contract.revision import Revision, Signed, parse_reference
from shiftwork_contract.statement import fitting
from shiftwork_coordinator import functions, members, services
from shiftwork_coordinator.creation import (
    DEFAULTS,
    config_named,
    effective_config,
    new_id,
    no_instances,
    of_resources,
    refuse_impossible,
    refuse_other_platform,
    refuse_stopped,
    refuse_unweighed,
    resource_targets,
    stopped_target,
    targets_of,
)
from shiftwork_coordinator.fleets.choosing import Chosen
from shiftwork_coordinator.functions import FunctionWanted
from shiftwork_coordinator.model.config import DeploymentConfig, Platform
from shiftwork_coordinator.model.parameters import Value, values
from shiftwork_coordinator.model.rows import Deployment, Group, Instance, Target
from shiftwork_coordinator.model.settings import Alarms, GroupSettings
from shiftwork_coordinator.scaling_groups import fleet_targets, standing
from shiftwork_coordinator.shell.coordinator import Coordinator

FileExists = Literal["DISALLOW", "OVERWRITE", "RETAIN"]
OUTSIDE = ("s3:", "github:")
"""Of references to places that the coordinator has to look into."""


class CreateDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A deployment as it is asked for. `queue` False: refused while another of the group is active.

    `ignore_alarms`: this one heeds none, to bring a fix while an alarm is red. `signed` goes with a revision that lies
    elsewhere; a pushed one has its signature already.
    """

    application: str
    group: str
    revision: str = ""
    config: str = ""
    description: str = ""
    ignore_application_stop_failures: bool = False
    file_exists_behavior: FileExists | None = None
    appspec: str = ""
    queue: bool = False
    parameters: dict[str, Value] = {}
    ignore_alarms: bool = False
    signed: Signed | None = None
    appspec_content: str = ""
    function: FunctionWanted | None = None
    task_definition: str = ""


Resources = tuple[Sequence[Resource], dict[str, str]]


async def _functions(asked: CreateDeployment, settings: GroupSettings) -> Resources:
    spec = await functions.wanted(asked.appspec_content, asked.function, settings)
    return spec.resources, spec.hooks


async def _services(asked: CreateDeployment, settings: GroupSettings) -> Resources:
    spec = await services.wanted(asked.appspec_content, asked.task_definition, settings)
    return spec.resources, spec.hooks


WANTED: dict[Platform, Callable[[CreateDeployment, GroupSettings], Awaitable[Resources]]] = {
    "Lambda": _functions,
    "ECS": _services,
}
"""Platforms without hosts: what a deployment there moves, with which hooks."""


class Drafted(msgspec.Struct, frozen=True):
    """A deployment with its rows, not stored yet. `instances` are there where it is one to hosts, and `fleet` where
    EC2 was asked who is meant."""

    deployment: Deployment
    targets: list[Target]
    group: Group
    instances: list[Instance] = []
    fleet: Chosen = Chosen()


async def drafted(
    home: Coordinator,
    asked: CreateDeployment,
    who: str,
    group: Group | None = None,
    revision: Revision | None = None,
) -> Drafted:
    """Everything that can be found wrong without asking balancers and platforms is refused here; EC2 is asked who is
    meant. Nothing is stored. `group` stands for the stored one, `revision` for what `asked` refers to."""
    group = group or await home.store.group(asked.application, asked.group)
    if group is None:
        raise InvalidRequest(
            f"cannot find the deployment group {asked.application}/{asked.group}; `shiftwork apply` creates groups",
            code="DeploymentGroupDoesNotExistException",
        )
    group = replace(group, settings=standing(group))
    custom = await home.store.configs()
    named = config_named(asked.config or group.settings.config or DEFAULTS[group.settings.platform], custom)
    fits = refuse_unweighed(refuse_other_platform(named, group.settings.platform), group.settings)
    config = effective_config(fits, group.settings)
    if resources_wanted := WANTED.get(group.settings.platform):
        resources, hooks = await resources_wanted(asked, group.settings)
        row = await _row(home, asked, who, group, config, revision_of(resources))
        deployment = of_resources(row, resources, hooks)
        return Drafted(deployment, resource_targets(deployment, resources), group)
    everybody = await home.store.instances()
    meant = await members.meant(home, group, everybody)
    group, instances, fleet = replace(group, settings=meant.settings), meant.instances, meant.fleet
    if not instances:
        raise no_instances(group, everybody)
    total = len(instances) + len(fleet.stopped)
    refuse_impossible(config, total)
    refuse_stopped(f"{asked.application}/{asked.group}", config, total, fleet.stopped)
    revision = revision or _signed(asked, await resolve(home, asked.application, asked.revision))
    deployment = await _row(home, asked, who, group, config, revision)
    addresses = {row.name: row.address for row in everybody}
    stopped = [stopped_target(deployment, name, m.id, addresses.get(name, "")) for name, m in fleet.stopped.items()]
    others = targets_of(deployment, meant.replacements, "replacement")
    groups = fleet_targets(deployment, meant.ends)
    targets = [*targets_of(deployment, instances), *others, *stopped, *groups]
    return Drafted(deployment, targets, group, [*instances, *meant.replacements], fleet)


async def _row(
    home: Coordinator, asked: CreateDeployment, who: str, group: Group, config: DeploymentConfig, revision: Revision
) -> Deployment:
    settings = replace(group.settings, alarms=Alarms()) if asked.ignore_alarms else group.settings
    return Deployment(
        id=new_id(),
        serial=await home.store.next_serial(),
        application=asked.application,
        group=asked.group,
        group_id=group.id,
        revision=revision,
        config=config,
        settings=settings,
        created_at=home.clock.now(),
        deployment_type="BLUE_GREEN" if group.settings.blue_green else "IN_PLACE",
        created_by=who,
        description=asked.description,
        ignore_stop_failures=asked.ignore_application_stop_failures,
        file_exists_behavior=asked.file_exists_behavior or group.settings.file_exists_behavior,
        rollback_on=group.settings.rollback,
        previous_revision=group.last_good,
        parameters=values(f"{asked.application}/{asked.group}", group.settings.parameters, asked.parameters),
        previous_parameters=group.last_good_parameters,
        appspec=appspec_name(asked.appspec) if asked.appspec else "",
        previous_appspec=group.last_good_appspec,
    )


def _signed(asked: CreateDeployment, revision: Revision) -> Revision:
    """With the signature that came along. Raises InvalidRequest unless it fits; whose it is, hosts decide."""
    if asked.signed is None:
        return revision
    fitting(asked.signed, asked.application, revision.identity if revision.digest_of == "tree" else "")
    return replace(revision, signed=asked.signed)


async def resolve(home: Coordinator, application: str, text: str) -> Revision:
    """The pinned revision that a reference stands for."""
    if text.startswith(OUTSIDE):
        if home.sources is None:
            raise InvalidRequest(f"cannot look up {text!r}: this coordinator reaches no places outside")
        return await home.sources.pin(parse_place(text))
    reference = parse_reference(text)
    if isinstance(reference, Revision):
        return reference
    stored = await home.store.revision(application, reference)
    if stored is None:
        raise InvalidRequest(
            f"cannot find revision {reference} of application {application!r};"
            f" run `shiftwork push DIR --application {application}`",
            code="RevisionDoesNotExistException",
        )
    return stored.revision
