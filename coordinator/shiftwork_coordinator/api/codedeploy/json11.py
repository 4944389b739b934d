"""AWS's JSON 1.1: the operation in a header, members in a JSON object, errors by their name."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from shiftwork_contract.errors import Denied, InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.api.codedeploy.operations import perform
from shiftwork_coordinator.auth import Caller
from shiftwork_coordinator.shell.coordinator import Coordinator

TARGET, PREFIX = "X-Amz-Target", "CodeDeploy_20141006."
CONTENT_TYPE = "application/x-amz-json-1.1"
log = structlog.get_logger()


async def handle(home: Coordinator, request: web.Request, caller: Caller) -> web.Response:
    operation = request.headers.get(TARGET, "")
    if not operation.startswith(PREFIX):
        raise InvalidRequest(
            f"cannot tell what is asked: {TARGET} must name an operation, as {PREFIX}GetDeployment does",
            code="UnknownOperationException",
        )
    members = _members(await request.read())
    return _answer(200, await perform(home, caller, operation.removeprefix(PREFIX), members))


async def spoken(request: web.Request, work: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """`work`'s answer; its errors as CodeDeploy's clients know them. They try a 503 again by themselves."""
    try:
        return await work()
    except ShiftworkError as err:
        if isinstance(err, Denied):
            log.warning("refused", method=request.method, path=request.path, remote=request.remote, code=err.code)
        if isinstance(err, Unavailable):
            return _answer(503, {"__type": "ServiceUnavailableException", "message": err.message})
        return _answer(400, {"__type": err.code, "message": err.message})


def _members(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError as err:
        raise InvalidRequest(f"cannot read the body: {err}", code="SerializationException") from err


def _answer(status: int, members: dict[str, Any]) -> web.Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return web.Response(status=status, body=msgspec.json.encode(members), content_type=CONTENT_TYPE, headers=headers)
