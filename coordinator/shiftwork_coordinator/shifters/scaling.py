"""Application Auto Scaling of a service, suspended while a deployment counts its tasks.

What had been suspended before is noted in a tag on the service before anything is changed, and the tag goes after it is
restored: whoever comes next, after whatever crash, finds how it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.task_sets import NOTE, Standing

KINDS = {
    "in": "DynamicScalingInSuspended",
    "out": "DynamicScalingOutSuspended",
    "scheduled": "ScheduledScalingSuspended",
}
NOTHING = "none"
_WHAT = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


async def suspend(ask: Ask, now: Standing) -> None:
    """Nothing scales the service from here on. What is suspended already stays as it is."""
    state = await _state(ask, now)
    if state is None:
        return
    before = [kind for kind, key in KINDS.items() if state.get(key)]
    if len(before) == len(KINDS):
        return
    if now.note is None:
        tag = {"key": NOTE, "value": " ".join(before) or NOTHING}
        await ask("ecs", "tag_resource", resourceArn=now.arn, tags=[tag])
    await _set(ask, now, list(KINDS))


async def restore(ask: Ask, now: Standing) -> None:
    """Suspended is again what was before. Without a note nothing was changed."""
    if now.note is None:
        return
    if await _state(ask, now) is not None:
        await _set(ask, now, now.note.split())
    await ask("ecs", "untag_resource", resourceArn=now.arn, tagKeys=[NOTE])


async def _state(ask: Ask, now: Standing) -> Mapping[str, Any] | None:
    """None when the service does not scale by itself."""
    found = await ask("application-autoscaling", "describe_scalable_targets", **_named(now, "ResourceIds"))
    targets = found.get("ScalableTargets", [])
    return (targets[0].get("SuspendedState") or {}) if targets else None


async def _set(ask: Ask, now: Standing, suspended: list[str]) -> None:
    state = {key: kind in suspended for kind, key in KINDS.items()}
    await ask("application-autoscaling", "register_scalable_target", **_named(now, "ResourceId"), SuspendedState=state)


def _named(now: Standing, key: str) -> dict[str, Any]:
    id = "/".join(("service", now.one.cluster.rsplit("/", 1)[-1], now.one.service.rsplit("/", 1)[-1]))
    return {**_WHAT, key: [id] if key.endswith("s") else id}
