"""Agents' packages and upgrades: brought by admins, fetched by agents."""

from __future__ import annotations

import contextlib

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.api.revisions import received
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.engine.batches import natural
from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.model.upgrades import AgentUpgrade, AgentUpgradeTarget
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.upgrades import CreateUpgrade, create_upgrade, keep_package

PACKAGE_LIMIT = 512 << 20
"""Bytes of one package."""
STATUSES = (
    TargetStatus.PENDING,
    TargetStatus.IN_PROGRESS,
    TargetStatus.SUCCEEDED,
    TargetStatus.FAILED,
    TargetStatus.SKIPPED,
)


async def add_package(request: web.Request) -> web.Response:
    """The body is the package, streamed to disk before anything looks at it."""
    found = services(request)
    temporary = found.packages.temporary()
    try:
        await received(request, temporary, PACKAGE_LIMIT)
        row, new = await keep_package(found.home, found.packages, temporary, caller(request).who)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return reply({**msgspec.to_builtins(row), "new": new}, status=201 if new else 200)


async def packages(request: web.Request) -> web.Response:
    rows = await services(request).home.store.packages()
    return reply({"packages": [msgspec.to_builtins(row) for row in rows]})


async def package(request: web.Request) -> web.StreamResponse:
    """The file as it came; ranges are honoured, so that an agent resumes after a cut."""
    path = services(request).packages.path(request.match_info["identity"])
    if not path.is_file():
        raise InvalidRequest(f"cannot find the package {request.match_info['identity']}", code="NotFound")
    return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})


async def create(request: web.Request) -> web.Response:
    home = services(request).home
    upgrade = await create_upgrade(home, await body(request, CreateUpgrade), caller(request).who)
    return reply(await _view(home, upgrade), status=201)


async def listed(request: web.Request) -> web.Response:
    rows = await services(request).home.store.agent_upgrades()
    return reply({"upgrades": [_about(row) for row in rows]})


async def show(request: web.Request) -> web.Response:
    home = services(request).home
    row = await home.store.agent_upgrade(request.match_info["id"])
    if row is None:
        raise InvalidRequest(f"cannot find the upgrade {request.match_info['id'][:80]!r}", code="NotFound")
    return reply(await _view(home, row))


async def stop(request: web.Request) -> web.Response:
    home = services(request).home
    return reply(await _view(home, await home.upgrades.stop(request.match_info["id"], caller(request).who)))


async def _view(home: Coordinator, row: AgentUpgrade) -> dict[str, object]:
    targets = await home.store.agent_upgrade_targets(row.id)
    ordered = sorted(targets.values(), key=lambda target: natural(target.instance))
    return {
        **_about(row),
        "overview": {str(status): sum(t.status is status for t in ordered) for status in STATUSES},
        "waiting": msgspec.to_builtins(home.upgrades.reasons(row.id)),
        "targets": [_target(target) for target in ordered],
    }


def _about(row: AgentUpgrade) -> dict[str, object]:
    return {
        "upgradeId": row.id,
        "version": row.version,
        "status": row.status,
        "atOnce": row.at_once,
        "maxFailed": row.max_failed,
        "settle": row.settle,
        "connectWithin": row.connect_within,
        "noReturn": row.no_return,
        "batch": row.batch,
        "createTime": row.created_at,
        "createdBy": row.created_by,
        "completeTime": row.completed_at,
        "stoppedBy": row.stop_by,
        "errorInformation": {"code": row.error_code, "message": row.error_message} if row.error_code else None,
    }


def _target(row: AgentUpgradeTarget) -> dict[str, object]:
    return {
        "targetId": row.instance,
        "status": row.status,
        "batch": row.batch,
        "fromVersion": row.from_version,
        "code": row.code,
        "reason": row.reason,
        "startTime": row.started_at,
        "completeTime": row.completed_at,
    }
