"""Applications and their deployment groups."""

from __future__ import annotations

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.applying import apply as apply_file
from shiftwork_coordinator.creation import matching


class Apply(msgspec.Struct, frozen=True):
    text: str
    file: str = "shiftwork.yml"


async def apply(request: web.Request) -> web.Response:
    asked = await body(request, Apply)
    home = services(request).home
    report = await apply_file(home, asked.text, asked.file, caller(request).who)
    home.launches.wake()  # other Auto Scaling groups may be meant now
    return reply({"changes": report})


async def applications(request: web.Request) -> web.Response:
    found: dict[str, list[str]] = {}
    for group in await services(request).home.store.groups():
        found.setdefault(group.application, []).append(group.name)
    rows = [{"applicationName": name, "groups": sorted(groups)} for name, groups in sorted(found.items())]
    return reply({"applications": rows})


async def group(request: web.Request) -> web.Response:
    store = services(request).home.store
    application, name = request.match_info["application"], request.match_info["group"]
    row = await store.group(application, name)
    if row is None:
        raise InvalidRequest(
            f"cannot find the deployment group {application}/{name}", code="DeploymentGroupDoesNotExistException"
        )
    agents = services(request).home.agents
    installed, health = await store.installed(row.id), await store.health(row.id)
    joined = await store.instances()
    instances = [
        {
            "instance": instance.name,
            "installed": installed[instance.name].installed if instance.name in installed else "",
            "healthy": health[instance.name].healthy if instance.name in health else None,
            "connected": agents.connected(instance.name),
            "lastSeen": agents.seen(instance.name).last_seen or instance.last_seen,
        }
        for wanted in row.settings.selectors
        for instance in matching(joined, wanted)
    ]
    return reply(
        {
            "applicationName": row.application,
            "deploymentGroupName": row.name,
            "deploymentGroupId": row.id,
            "settings": row.settings,
            "lastGood": row.last_good,
            "lastGoodDeployment": row.last_good_deployment,
            "instances": instances,
        }
    )
