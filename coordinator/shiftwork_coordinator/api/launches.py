"""What Auto Scaling groups launch or end, and why it waits."""

from __future__ import annotations

from aiohttp import web

from shiftwork_coordinator.api.server import reply, services
from shiftwork_coordinator.model.launches import Launch
from shiftwork_coordinator.model.rows import Group


async def listed(request: web.Request) -> web.Response:
    home = services(request).home
    groups = {group.id: group for group in await home.store.groups()}
    rows = sorted(await home.store.launches(), key=lambda row: row.since)
    problems = home.launches.problems
    return reply(
        {
            "launches": [_of(groups[row.group_id]) | _view(row) for row in rows if row.group_id in groups],
            "problems": [_of(groups[id]) | {"message": why} for id, why in problems.items() if id in groups],
        }
    )


def _of(group: Group) -> dict[str, object]:
    return {"applicationName": group.application, "deploymentGroupName": group.name}


def _view(row: Launch) -> dict[str, object]:
    return {
        "instanceId": row.cloud_id,
        "autoScalingGroup": row.scaling_group,
        "transition": "terminating" if row.leaving else "launching",
        "since": row.since,
        "outcome": row.outcome,
        "deploymentId": row.deployment_id,
        "revision": row.revision,
        "why": row.why,
    }
