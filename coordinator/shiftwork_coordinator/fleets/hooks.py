"""Lifecycle hooks of Auto Scaling groups, by which instances wait for their revision, or to be stopped in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws.clients import ATTEMPTS, call
from shiftwork_coordinator.aws.clients import READ_LIMIT as CHANGE_LIMIT
from shiftwork_coordinator.fleets.ec2 import READ_LIMIT, Ec2
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.settings import AutoScaling, Aws
from shiftwork_coordinator.ports import Member

TIMEOUT = 600
"""Seconds that AWS waits for a sign of life, as with CodeDeploy's hooks."""
PATIENCE = 10
"""Seconds that SQS holds a question for news; below the limit of a call."""
TRANSITION = {False: "autoscaling:EC2_INSTANCE_LAUNCHING", True: "autoscaling:EC2_INSTANCE_TERMINATING"}
OTHERWISE = {False: "ABANDON", True: "CONTINUE"}
"""What AWS does when it hears nothing, by whether the instance leaves: none comes into service without its revision,
and none is kept from going."""
OVER = ("no active lifecycle action",)
GONE = ("no lifecycle hook found", "not found")
"""What AWS says of an instance that waits no longer; of a hook, or a group, that is not there."""


class LifecycleHooks:
    """ports.ScalingHooks of one account and region."""

    def __init__(self, at: Aws) -> None:
        self._at, self._fleet = at, Ec2(at)
        self._queues: dict[str, str] = {}

    async def members(self, groups: Sequence[str]) -> Sequence[Member]:
        return await self._fleet.standing(groups)

    async def put(self, hook: ScalingHook, settings: AutoScaling) -> bool:
        wanted: dict[str, Any] = {
            "LifecycleTransition": TRANSITION[hook.leaving],
            "HeartbeatTimeout": TIMEOUT,
            "DefaultResult": OTHERWISE[hook.leaving],
        }
        if settings.queue_role_arn:
            wanted |= {"NotificationTargetARN": settings.queue, "RoleARN": settings.queue_role_arn}
        await self._refuse_pool(hook)
        found = await self._found(hook)
        if found is not None and found.get("NotificationTargetARN") and "RoleARN" not in wanted:
            wanted["NotificationTargetARN"] = ""  # AWS's way to take it away
        if found is not None and all(found.get(key) == value for key, value in wanted.items()):
            return False
        await self._ask("put_lifecycle_hook", hook, **wanted)
        return True

    async def _refuse_pool(self, hook: ScalingHook) -> None:
        """The hook would hold the instances of a warm pool too, which the group does not tell of."""
        if not hook.leaving and await self._fleet.has_pool(hook.scaling_group):
            await self.delete(hook)
            raise InvalidRequest(
                f"cannot put a launch hook on {hook.scaling_group}: it has a warm pool, whose instances would wait for"
                " it for ever; what is launched gets its revision with the next deployment. Delete the pool, or set"
                " `autoscaling.launch_hook: false`"
            )

    async def _found(self, hook: ScalingHook) -> Mapping[str, Any] | None:
        named = {"AutoScalingGroupName": hook.scaling_group, "LifecycleHookNames": [hook.name]}
        told = await call("autoscaling", "describe_lifecycle_hooks", self._at, READ_LIMIT, ATTEMPTS, **named)
        return next((one for one in told["LifecycleHooks"] if one["LifecycleHookName"] == hook.name), None)

    async def delete(self, hook: ScalingHook) -> None:
        await self._unless(GONE, "delete_lifecycle_hook", hook)

    async def answer(self, hook: ScalingHook, instance: str, outcome: str) -> None:
        told = {"InstanceId": instance, "LifecycleActionResult": outcome}
        await self._unless(OVER, "complete_lifecycle_action", hook, **told)

    async def beat(self, hook: ScalingHook, instance: str) -> None:
        await self._unless(OVER, "record_lifecycle_action_heartbeat", hook, InstanceId=instance)

    async def _unless(self, fine: Sequence[str], operation: str, hook: ScalingHook, **parameters: Any) -> None:
        try:
            await self._ask(operation, hook, **parameters)
        except InvalidRequest as err:
            if not any(words in err.message.lower() for words in fine):
                raise

    async def _ask(self, operation: str, hook: ScalingHook, **parameters: Any) -> None:
        about = {"AutoScalingGroupName": hook.scaling_group, "LifecycleHookName": hook.name}
        await call("autoscaling", operation, self._at, CHANGE_LIMIT, 1, **about, **parameters)

    async def hear(self, queue: str) -> bool:
        """What the messages say is not read: they ring, and the groups are looked at. Nobody else may hear them."""
        url = await self._url(queue)
        wanted: dict[str, Any] = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": PATIENCE}
        told = await call("sqs", "receive_message", self._at, READ_LIMIT, ATTEMPTS, QueueUrl=url, **wanted)
        news = told.get("Messages", ())
        for one in news:
            await call("sqs", "delete_message", self._at, QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return bool(news)

    async def _url(self, queue: str) -> str:
        if queue not in self._queues:
            *_, account, name = queue.split(":")
            told = await call("sqs", "get_queue_url", self._at, QueueName=name, QueueOwnerAWSAccountId=account)
            self._queues[queue] = told["QueueUrl"]
        return self._queues[queue]
