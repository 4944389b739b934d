"""The twin of an AWS account whose instances heed lifecycle hooks: they wait in `Pending:Wait` and `Terminating:Wait`,
for an answer, a heartbeat that does not come, or the end of their hook, and a queue is told.

A group's instances move one state with each look at it; hooks' timeouts pass with `now`, which the test moves.
"""

from __future__ import annotations

import json
from typing import Any

from tests.drivers.scaling_account import Account, refused

from shiftwork_coordinator.lab.aws.fleets.hooks import LAUNCHING, TERMINATING, Action, Hooks, Wait

QUEUE = "arn:aws:sqs:us-east-1:1:hooks"
ROLE = "arn:aws:iam::1:role/hooks"
URL = "https://sqs.us-east-1.amazonaws.com/1/hooks"
HIDDEN = 30.0
"""Seconds for which a message that was received is seen by nobody; then, unless it was deleted, it comes again."""
WAYS = {LAUNCHING: ("EC2", "AutoScalingGroup"), TERMINATING: ("AutoScalingGroup", "EC2")}


class Queue:
    """Of SQS: hands its messages out in order, and each again until it is deleted."""

    def __init__(self, account: HookedAccount) -> None:
        self._account = account
        self.messages: list[dict[str, Any]] = []

    def send(self, body: dict[str, Any]) -> None:
        self._account.made += 1
        handle = f"m-{self._account.made}"
        self.messages.append({"MessageId": handle, "ReceiptHandle": handle, "Body": json.dumps(body), "seen": 0.0})

    def get_queue_url(self, QueueName: str, QueueOwnerAWSAccountId: str = "1") -> Any:
        if not QUEUE.endswith(f":{QueueOwnerAWSAccountId}:{QueueName}"):
            raise refused("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return {"QueueUrl": URL}

    def receive_message(
        self, QueueUrl: str, MaxNumberOfMessages: int = 1, WaitTimeSeconds: int = 0, VisibilityTimeout: float = HIDDEN
    ) -> Any:
        assert QueueUrl == URL and 1 <= MaxNumberOfMessages <= 10 and 0 <= WaitTimeSeconds <= 20
        now = self._account.now
        found = [one for one in self.messages if one["seen"] <= now][:MaxNumberOfMessages]
        for one in found:
            one["seen"] = now + VisibilityTimeout
        told = [{key: one[key] for key in ("MessageId", "ReceiptHandle", "Body")} for one in found]
        return {"Messages": told} if told else {}

    def delete_message(self, QueueUrl: str, ReceiptHandle: str) -> None:
        assert QueueUrl == URL
        self.messages = [one for one in self.messages if one["ReceiptHandle"] != ReceiptHandle]


class HookedAccount(Account):
    """`now`: seconds, moved by the test. `queue` is the only one there is, at `QUEUE`."""

    def __init__(self, *groups: dict[str, Any], healthy: int = 3) -> None:
        self.now = 0.0
        self.hooks = Hooks(lambda: self.now)
        self.queue = Queue(self)
        self.waits: dict[str, Wait] = {}
        super().__init__(*groups, healthy=healthy)
        for name in self.groups:
            self.look(name)
        self.leaks.clear()

    async def ask(self, service: str, operation: str, /, **given: Any) -> Any:
        if service == "sqs" and operation not in self.denied:
            return getattr(self.queue, operation)(**given)
        return await super().ask("autoscaling" if service == "sqs" else service, operation, **given)

    def _put(self, one: dict[str, Any]) -> None:
        super()._put(one)
        self.tables[one["AutoScalingGroupName"]]["hooks"] = self.hooks.of(one["AutoScalingGroupName"])

    def states(self, name: str) -> dict[str, str]:
        return {one["InstanceId"]: one["LifecycleState"] for one in self.groups[name]["Instances"]}

    # Instances

    def look(self, name: str) -> None:
        self.hooks.expire()
        for instance in list(self.groups[name]["Instances"]):
            self._move(name, instance)
        super().look(name)
        if not self.groups[name].get("Status"):
            self._scale(name)

    def _move(self, name: str, instance: dict[str, Any]) -> None:
        """One state further, where hooks have a say in it; the others are the plain account's."""
        state, wait = instance["LifecycleState"], self.waits.get(instance["InstanceId"])
        if state == "Pending" and instance["looks"] >= self.launch_after and self.hooks.of(name, LAUNCHING):
            self._hold(name, instance, LAUNCHING, "Pending")
        elif state == "Pending:Wait" and wait is not None and wait.over:
            if wait.abandoned:  # also while Terminate rests: that spares only what is in service
                self._terminate(name, instance)
            else:
                instance["LifecycleState"] = "Pending:Proceed"
        elif state == "Pending:Proceed":
            instance["LifecycleState"] = "InService"
            self._activity(name, "Successful", "")
            self._register(name, [instance["InstanceId"]])
        elif state == "Terminating:Wait" and wait is not None and wait.over:
            instance["LifecycleState"] = "Terminating:Proceed"
        elif state == "Terminating:Proceed":
            self._end(name, instance)

    def _hold(self, name: str, instance: dict[str, Any], transition: str, state: str) -> None:
        self.waits[instance["InstanceId"]] = wait = self.hooks.begin(instance["InstanceId"], name, transition)
        instance["LifecycleState"] = f"{state}:Wait"
        for action in wait.actions:
            self._tell(action)

    def _terminate(self, name: str, instance: dict[str, Any]) -> None:
        if instance["LifecycleState"].startswith("Terminating"):
            return
        self._take_out(instance["InstanceId"])
        self._hold(name, instance, TERMINATING, "Terminating")
        if self.waits[instance["InstanceId"]].over:  # there is no such hook
            self._end(name, instance)

    def _tell(self, action: Action) -> None:
        hook = action.hook
        origin, destination = WAYS[hook["LifecycleTransition"]]
        also = {key: hook[key] for key in ("NotificationMetadata",) if key in hook}
        if hook.get("NotificationTargetARN") == QUEUE:
            self.queue.send({
                "Service": "AWS Auto Scaling", "Time": "2026-01-01T00:00:00.000Z", "RequestId": action.token,
                "AccountId": "1", "AutoScalingGroupName": action.group, "LifecycleHookName": action.name,
                "LifecycleActionToken": action.token, "LifecycleTransition": hook["LifecycleTransition"],
                "EC2InstanceId": action.instance, "Origin": origin, "Destination": destination, **also,
            })  # fmt: skip

    # Calls

    def put_lifecycle_hook(self, AutoScalingGroupName: str, **given: Any) -> None:
        assert "GlobalTimeout" not in given, "AWS tells it, and does not take it"
        self.named(AutoScalingGroupName)
        target, role = given.get("NotificationTargetARN", ""), given.get("RoleARN", "")
        if target and role and target != QUEUE:
            raise refused("ValidationError", f"Unable to publish test message to notification target {target}")
        self.hooks.put({"AutoScalingGroupName": AutoScalingGroupName, **given})
        if target:
            told = {"AutoScalingGroupName": AutoScalingGroupName, "Event": "autoscaling:TEST_NOTIFICATION"}
            self.queue.send({"Service": "AWS Auto Scaling", "AccountId": "1", **told})

    def describe_lifecycle_hooks(self, AutoScalingGroupName: str, LifecycleHookNames: list[str] | None = None) -> Any:
        self.named(AutoScalingGroupName)
        rows = self.hooks.of(AutoScalingGroupName)
        return {
            "LifecycleHooks": [
                r for r in rows if r["LifecycleHookName"] in (LifecycleHookNames or [r["LifecycleHookName"]])
            ]
        }

    def delete_lifecycle_hook(self, AutoScalingGroupName: str, LifecycleHookName: str) -> None:
        self.named(AutoScalingGroupName)
        self.hooks.delete({"AutoScalingGroupName": AutoScalingGroupName, "LifecycleHookName": LifecycleHookName})

    def complete_lifecycle_action(self, AutoScalingGroupName: str, **given: Any) -> None:
        self.named(AutoScalingGroupName)
        self.hooks.complete({"AutoScalingGroupName": AutoScalingGroupName, **given})

    def record_lifecycle_action_heartbeat(self, AutoScalingGroupName: str, **given: Any) -> None:
        self.named(AutoScalingGroupName)
        self.hooks.heartbeat({"AutoScalingGroupName": AutoScalingGroupName, **given})

    def set_desired_capacity(
        self, AutoScalingGroupName: str, DesiredCapacity: int, HonorCooldown: bool = False
    ) -> None:
        self.update_auto_scaling_group(AutoScalingGroupName, DesiredCapacity=DesiredCapacity)

    def terminate_instance_in_auto_scaling_group(self, InstanceId: str, ShouldDecrementDesiredCapacity: bool) -> None:
        name = next((name for name in self.groups if InstanceId in self.ids(name)), "")
        if not name:
            raise refused("ValidationError", f"Instance Id not found - {InstanceId}")
        one = self.groups[name]
        if ShouldDecrementDesiredCapacity and one["DesiredCapacity"] <= one["MinSize"]:
            raise refused("ValidationError", f"Currently, desiredSize equals minSize ({one['MinSize']})")
        one["DesiredCapacity"] -= ShouldDecrementDesiredCapacity
        self._terminate(name, next(i for i in one["Instances"] if i["InstanceId"] == InstanceId))
        self._scale(name)

    def describe_auto_scaling_instances(self, InstanceIds: list[str]) -> Any:
        assert len(InstanceIds) <= 50
        every = [({**one, "AutoScalingGroupName": name}) for name, g in self.groups.items() for one in g["Instances"]]
        return {"AutoScalingInstances": [one for one in every if one["InstanceId"] in InstanceIds]}

    def delete_auto_scaling_group(self, AutoScalingGroupName: str, ForceDelete: bool = False) -> None:
        super().delete_auto_scaling_group(AutoScalingGroupName, ForceDelete)
        self.hooks.forget(AutoScalingGroupName)
