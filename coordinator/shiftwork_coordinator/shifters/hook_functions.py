"""Hook functions of platforms without agents: Lambda functions that say whether a deployment may go on."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.resource import Shift
from shiftwork_coordinator.aws.clients import READ_LIMIT, call
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import HookAnswer, HookCall

HOOK_LIMIT = 930.0
"""Seconds: a function runs for at most 15 minutes."""


class LambdaHooks:
    def __init__(self, settings: GroupSettings) -> None:
        self._aws = settings.aws

    async def invoke(self, asked: HookCall, *, wait: bool) -> HookAnswer | None:
        answer = await call(
            "lambda", "invoke", self._aws, HOOK_LIMIT if wait else READ_LIMIT, 1, FunctionName=asked.function,
            InvocationType="RequestResponse" if wait else "Event", Payload=msgspec.json.encode(_told(asked)),
        )  # fmt: skip
        if not wait:
            return None
        text = await asyncio.to_thread(answer["Payload"].read)
        return _answer(text, answer.get("FunctionError", ""))


def _told(call: HookCall) -> dict[str, Any]:
    """CodeDeploy's two members, and what hooks had to guess."""
    ids = {
        "DeploymentId": call.deployment_id,
        "LifecycleEventHookExecutionId": call.id,
        "LifecycleEvent": call.event,
    }
    return ids | _about(call.resource)


def _about(one: Shift) -> dict[str, str]:
    if isinstance(one, FunctionShift):
        versions = {"CurrentVersion": one.current, "TargetVersion": one.target}
        return {"FunctionName": one.function, "Alias": one.alias} | versions
    return {
        "Cluster": one.cluster,
        "Service": one.service,
        "CurrentTaskDefinition": one.current,
        "TargetTaskDefinition": one.target,
    }


def _answer(text: bytes, error: str) -> HookAnswer:
    """`{"status": "Succeeded" | "Failed", "message": …}`; an exception in the function is a failure."""
    shown = text[:500].decode("utf-8", "replace")
    if error:
        return HookAnswer("Failed", f"the function raised {_raised(text) or shown}")
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    status = found.get("status") if isinstance(found, dict) else found
    if status not in ("Succeeded", "Failed"):
        return HookAnswer("Failed", f'it must return {{"status": "Succeeded"}} or "Failed", it returned {shown}')
    return HookAnswer(status, str(found.get("message", "")) if isinstance(found, dict) else "")


def _raised(text: bytes) -> str:
    """What an error says, without where it was raised, which the function's own log has. Empty when it says nothing."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return ""
    told = [str(found[key]) for key in ("errorType", "errorMessage") if found.get(key)]
    return ": ".join(told)[:500]
