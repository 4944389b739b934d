"""What is asked by an operation's name and members, whatever they were written in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator import operations
from shiftwork_coordinator.auth import Caller, NotAllowed
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.tokens import ROLES

Members = dict[str, Any]


class Operation(msgspec.Struct, frozen=True):
    """`role` is the least that may ask for it."""

    role: str
    run: Callable[[Coordinator, Caller, Members], Awaitable[Members]]


async def perform(home: Coordinator, caller: Caller, name: str, members: Members) -> Members:
    """The answer's members. Raises what the operation raises, and InvalidRequest for one that is not there."""
    operation = TABLE.get(name)
    if operation is None:
        raise InvalidRequest(
            f"cannot do {name[:80]!r}: this coordinator does not answer that operation of CodeDeploy yet; it answers"
            f" {', '.join(TABLE)}",
            code="UnknownOperationException",
        )
    if ROLES.index(caller.role) < ROLES.index(operation.role):
        text = f"cannot do {name} as {caller.role}: it takes the role {operation.role} or higher"
        raise NotAllowed(text, code="AccessDeniedException")
    return await operation.run(home, caller, members)


async def _put_hook_status(home: Coordinator, caller: Caller, members: Members) -> Members:
    deployment, hook = _text(members, "deploymentId"), _text(members, "lifecycleEventHookExecutionId")
    if hook.partition(".")[0] != deployment:
        raise InvalidRequest(
            f"cannot take the answer for {hook[:100]!r}: that is no hook of deployment {deployment[:40]!r}",
            code="InvalidLifecycleEventHookExecutionIdException",
        )
    await operations.answer_hook(home, hook, _status(_text(members, "status")), caller.who)
    return {"lifecycleEventHookExecutionId": hook}


def _status(text: str) -> Literal["Succeeded", "Failed"]:
    if text == "Succeeded":
        return "Succeeded"
    if text == "Failed":
        return "Failed"
    raise InvalidRequest(
        f"cannot take the status {text[:40]!r} of a hook: it is Succeeded or Failed",
        code="InvalidLifecycleEventHookExecutionStatusException",
    )


def _text(members: Members, name: str) -> str:
    found = members.get(name, "")
    if not isinstance(found, str):
        raise InvalidRequest(f"cannot use {name}: it must be a string", code="SerializationException")
    return found


TABLE = {"PutLifecycleEventHookExecutionStatus": Operation("deployer", _put_hook_status)}
