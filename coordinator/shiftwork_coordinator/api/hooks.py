"""Functions: their hooks' answers, and new versions of them."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator import functions
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.operations import answer_hook
from shiftwork_coordinator.store import Audit


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal["Succeeded", "Failed"]


async def answer(request: web.Request) -> web.Response:
    """A hook function's word on the run that it was given the id of."""
    given = await body(request, Answer)
    id = request.match_info["id"]
    await answer_hook(services(request).home, id, given.status, caller(request).who)
    return reply({"lifecycleEventHookExecutionId": id})


async def publish(request: web.Request) -> web.Response:
    """The body is a zip: it becomes the function's code and a new version."""
    home, at = services(request).home, request.match_info
    group = await home.store.group(at["application"], at["group"])
    if group is None or group.settings.platform != "Lambda":
        raise InvalidRequest(
            f"cannot publish to {at['application']}/{at['group']}: there is no deployment group of platform Lambda",
            code="DeploymentGroupDoesNotExistException",
        )
    code = await _received(request)
    version = await functions.publish(at["name"], code, group.settings)
    who = caller(request).who
    await home.store.write(Audit(who, "function.publish", f"{at['name']} version {version}", home.clock.now()))
    return reply({"function": at["name"], "version": version}, status=201)


async def _received(request: web.Request) -> bytes:
    data = bytearray()
    async for piece in request.content.iter_chunked(1 << 20):
        data += piece
        if len(data) > functions.MOST_CODE:
            raise InvalidRequest(f"cannot publish a zip of more than {functions.MOST_CODE} bytes", code="TooLarge")
    return bytes(data)
