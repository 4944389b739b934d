"""Lifecycle hooks of Auto Scaling groups by AWS's rules: what an instance waits for, until when, and what comes of it.

Hooks and parameters are spelt as AWS spells them. Times are the caller's: nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from shiftwork_contract.errors import InvalidRequest

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
CONTINUE, ABANDON = "CONTINUE", "ABANDON"
WHEN_DELETED = {LAUNCHING: ABANDON, TERMINATING: CONTINUE}
"""The result of what still waits for a hook that is deleted."""
HEARTBEAT = 3600
SHORTEST, LONGEST = 30, 7200
"""Seconds that a hook's heartbeat timeout may be."""
HEARTBEATS = 100
TWO_DAYS = 48 * 3600
Row = dict[str, Any]


@dataclass
class Action:
    """What an instance waits for. At `due` its hook's default result is taken; no heartbeat moves that past `last`."""

    hook: Mapping[str, Any]
    group: str
    instance: str
    due: float
    last: float
    token: str = field(default_factory=lambda: str(uuid4()))

    @property
    def name(self) -> str:
        return str(self.hook["LifecycleHookName"])


@dataclass
class Wait:
    """Of one instance in one transition: over when no action is left."""

    transition: str
    actions: list[Action]
    abandoned: bool = False

    @property
    def over(self) -> bool:
        return not self.actions

    def end(self, action: Action, result: str) -> None:
        """ABANDON stops the other actions too, CONTINUE lets them go on."""
        self.actions.remove(action)
        if result == ABANDON:
            self.abandoned = True
            self.actions.clear()

    def stop(self) -> None:
        """Nobody waits any more, and nothing comes of it."""
        self.actions.clear()


class Hooks:
    """Of all groups. `now` tells seconds; `scale` how long each of a timeout's seconds lasts."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._hooks: dict[str, list[Row]] = {}
        self._waits: dict[str, Wait] = {}
        self.scale = 1.0

    def of(self, group: str, transition: str = "") -> list[Row]:
        """The list itself, without a transition."""
        rows = self._hooks.setdefault(group, [])
        return [row for row in rows if row["LifecycleTransition"] == transition] if transition else rows

    def forget(self, group: str) -> None:
        """The group is deleted, and with it its hooks and all that waits for them."""
        self._hooks.pop(group, None)
        for wait in self._waits.values():
            if any(action.group == group for action in wait.actions):
                wait.stop()

    # Calls

    def put(self, given: Mapping[str, Any]) -> Row:
        """The hook as it is from here on; what waits already waits as before."""
        group, name = given["AutoScalingGroupName"], given["LifecycleHookName"]
        before: Row = next((row for row in self.of(group) if row["LifecycleHookName"] == name), {})
        hook = whole({**before, **given})
        self.of(group)[:] = [row for row in self.of(group) if row is not before] + [hook]
        return hook

    def delete(self, given: Mapping[str, Any]) -> None:
        group, name = given["AutoScalingGroupName"], given["LifecycleHookName"]
        if name not in (row["LifecycleHookName"] for row in self.of(group)):
            raise _refused(f"No Lifecycle Hook found with name {name}")
        self.of(group)[:] = [row for row in self.of(group) if row["LifecycleHookName"] != name]
        for wait in list(self._waits.values()):
            for action in [one for one in wait.actions if (one.group, one.name) == (group, name)]:
                wait.end(action, WHEN_DELETED[wait.transition])

    def complete(self, given: Mapping[str, Any]) -> None:
        wait, action = self._active(given)
        result = given["LifecycleActionResult"]
        if result not in (CONTINUE, ABANDON):
            raise _refused(f"Lifecycle Action Result must be one of {CONTINUE}, {ABANDON}: {result}")
        wait.end(action, result)

    def heartbeat(self, given: Mapping[str, Any]) -> None:
        _, action = self._active(given)
        action.due = min(self._now() + self.scale * action.hook["HeartbeatTimeout"], action.last)

    def _active(self, given: Mapping[str, Any]) -> tuple[Wait, Action]:
        self.expire()
        instance, token = given.get("InstanceId"), given.get("LifecycleActionToken")
        if not instance and not token:
            raise _refused("Either InstanceId or LifecycleActionToken must be given")
        wanted = (given["AutoScalingGroupName"], given["LifecycleHookName"])
        for wait in self._waits.values():
            for one in wait.actions:
                if (one.group, one.name) == wanted and token in (None, one.token) and instance in (None, one.instance):
                    return wait, one
        what = f"token {token}" if token else f"instance ID {instance}"
        raise _refused(f"No active Lifecycle Action found with {what}")

    # Instances

    def begin(self, instance: str, group: str, transition: str) -> Wait:
        """The instance waits for every hook that the group has now for this."""
        now, scale = self._now(), self.scale
        actions = [
            Action(row, group, instance, now + scale * row["HeartbeatTimeout"], now + scale * row["GlobalTimeout"])
            for row in self.of(group, transition)
        ]
        self._waits[instance] = wait = Wait(transition, actions)
        return wait

    def expire(self) -> None:
        """What is due has its hook's default result; what nobody waits for is forgotten."""
        for instance, wait in list(self._waits.items()):
            for action in [one for one in wait.actions if one.due <= self._now()]:
                if action in wait.actions:
                    wait.end(action, action.hook["DefaultResult"])
            if wait.over:
                del self._waits[instance]


def whole(given: Row) -> Row:
    """As DescribeLifecycleHooks tells it. Raises InvalidRequest for what AWS refuses."""
    transition, result = given.get("LifecycleTransition", ""), given.get("DefaultResult", ABANDON)
    timeout = int(given.get("HeartbeatTimeout", HEARTBEAT))
    if transition not in WHEN_DELETED:
        raise _refused(f"Lifecycle transition must be one of {', '.join(WHEN_DELETED)}: {transition or 'none given'}")
    if not SHORTEST <= timeout <= LONGEST:
        raise _refused(f"HeartbeatTimeout must be between {SHORTEST} and {LONGEST} seconds: {timeout}")
    if result not in (CONTINUE, ABANDON):
        raise _refused(f"DefaultResult must be one of {CONTINUE}, {ABANDON}: {result}")
    if given.get("NotificationTargetARN") and not given.get("RoleARN"):
        raise _refused("RoleARN must be given with NotificationTargetARN")
    longest = min(HEARTBEATS * timeout, TWO_DAYS)
    return {**given, "HeartbeatTimeout": timeout, "GlobalTimeout": longest, "DefaultResult": result}


def _refused(text: str) -> InvalidRequest:
    return InvalidRequest(text, code="ValidationError")
