"""Instances that wait for their group's lifecycle hooks: who is told, who answers, and when it is over."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handler, Handlers, Pass, query_refusal
from shiftwork_coordinator.lab.aws.fleets import machine
from shiftwork_coordinator.lab.aws.fleets.hooks import LAUNCHING, TERMINATING, Action, Hooks
from shiftwork_coordinator.lab.aws.fleets.machine import SERVICE, Described
from shiftwork_coordinator.lab.aws.moto import Moto
from shiftwork_coordinator.ports import Clock

ACCOUNT = "123456789012"
QUEUES = "arn:aws:sqs:"
LOOK_EVERY = 0.02
WAYS = {LAUNCHING: ("EC2", "AutoScalingGroup"), TERMINATING: ("AutoScalingGroup", "EC2")}
"""Origin and destination."""


class Waits:
    """moto is not asked: it keeps less of a hook than it is given."""

    def __init__(self, moto: Moto, clock: Clock) -> None:
        self._moto, self._clock = moto, clock
        self.hooks = Hooks(clock.monotonic)

    def handlers(self) -> Handlers:
        mine: dict[str, Handler] = {
            "PutLifecycleHook": self.put,
            "DescribeLifecycleHooks": self.describe,
            "DeleteLifecycleHook": lambda asked, _: self._told(asked, self.hooks.delete),
            "CompleteLifecycleAction": lambda asked, _: self._told(asked, self.hooks.complete),
            "RecordLifecycleActionHeartbeat": lambda asked, _: self._told(asked, self.hooks.heartbeat),
        }
        return {(SERVICE, name): handler for name, handler in mine.items()}

    async def passed(self, instance: str, group: str, transition: str, gone: Callable[[], bool]) -> bool:
        """Whether it goes on, once no hook holds it back any longer; False also when it is `gone` before that."""
        wait = self.hooks.begin(instance, group, transition)
        for action in list(wait.actions):
            await self._tell_of(action)
        while not wait.over and not gone():
            await asyncio.sleep(LOOK_EVERY)
            self.hooks.expire()
        wait.stop()
        return not wait.abandoned and not gone()

    # Calls

    async def put(self, asked: Asked, moto: Pass) -> Answer:
        return await self._told(asked, self.hooks.put) if (wrong := await self._unreachable(asked)) is None else wrong

    async def describe(self, asked: Asked, moto: Pass) -> Answer:
        given = asked.call.parameters
        if await self._group(given) is None:
            return _no_group(given)
        names = given.get("LifecycleHookNames")
        rows = [row for row in self.hooks.of(_name(given)) if not names or row["LifecycleHookName"] in names]
        return query.answer(SERVICE, asked.call.operation, {"LifecycleHooks": rows})

    async def _told(self, asked: Asked, change: Callable[[Mapping[str, Any]], object]) -> Answer:
        if await self._group(asked.call.parameters) is None:
            return _no_group(asked.call.parameters)
        try:
            change(asked.call.parameters)
        except InvalidRequest as err:
            return query_refusal(err.code, err.message)
        return query.answer(SERVICE, asked.call.operation)

    async def _group(self, given: Mapping[str, Any]) -> Described | None:
        return next(iter(await machine.groups(self._moto, _name(given))), None)

    # Notifications

    async def _unreachable(self, asked: Asked) -> Answer | None:
        """A refusal where the test message, without which no hook is made, does not arrive."""
        given, group = asked.call.parameters, await self._group(asked.call.parameters)
        target, role = given.get("NotificationTargetARN", ""), given.get("RoleARN", "")
        if group is None or not target or not role:
            return None  # refused further on, or nobody is to be told
        try:
            about = {"Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupARN": group["AutoScalingGroupARN"]}
            await self._send(target, _name(given), about)
        except ShiftworkError:
            why = f"Unable to publish test message to notification target {target} using IAM role {role}."
            again = "Please check your target and role configuration and try to put lifecycle hook again."
            return query_refusal("ValidationError", f"{why} {again}")
        return None

    async def _tell_of(self, action: Action) -> None:
        hook, (origin, destination) = action.hook, WAYS[action.hook["LifecycleTransition"]]
        about = {
            "LifecycleHookName": action.name,
            "LifecycleActionToken": action.token,
            "LifecycleTransition": hook["LifecycleTransition"],
            "EC2InstanceId": action.instance,
            "Origin": origin,
            "Destination": destination,
        }
        also = {key: hook[key] for key in ("NotificationMetadata",) if key in hook}
        try:
            await self._send(hook.get("NotificationTargetARN", ""), action.group, about | also)
        except ShiftworkError as err:  # as with AWS the instance waits, and nobody knows
            print(f"{action.instance}: {err.message}", file=sys.stderr)

    async def _send(self, target: str, group: str, about: Mapping[str, Any]) -> None:
        """To a queue; nothing where the target is something else."""
        if not target.startswith(QUEUES):
            return
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        every = {"Service": "AWS Auto Scaling", "Time": at, "RequestId": str(uuid4()), "AccountId": ACCOUNT}
        body = json.dumps({**every, "AutoScalingGroupName": group, **about})
        found = await self._moto.json_call("sqs", "AmazonSQS.GetQueueUrl", {"QueueName": target.rpartition(":")[2]})
        message = {"QueueUrl": found["QueueUrl"], "MessageBody": body}
        await self._moto.json_call("sqs", "AmazonSQS.SendMessage", message)


def _name(given: Mapping[str, Any]) -> str:
    return str(given.get("AutoScalingGroupName", ""))


def _no_group(given: Mapping[str, Any]) -> Answer:
    name = _name(given)
    return query_refusal("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
