"""Tasks of a replacement that stopped by themselves, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.task_sets import Standing, TaskSet

BY_OTHERS = frozenset({"UserInitiated", "SpotInterruption", "TerminationNotice"})
"""Stop codes that say nothing about the replacement."""
SHOWN = 3


async def failures(ask: Ask, now: Standing, made: TaskSet) -> list[str]:
    """Why tasks of this task set stopped, one entry for each; AWS remembers for about an hour."""
    listed = await ask(
        "ecs", "list_tasks", cluster=now.one.cluster, serviceName=now.one.service, desiredStatus="STOPPED"
    )
    arns = listed.get("taskArns", [])[:100]
    if not arns:
        return []
    tasks = (await ask("ecs", "describe_tasks", cluster=now.one.cluster, tasks=arns)).get("tasks", [])
    return [_reason(task) for task in tasks if task.get("startedBy") == made.id and _failed(task)]


def _failed(task: Mapping[str, Any]) -> bool:
    scaled_in = str(task.get("stoppedReason", "")).startswith("Scaling activity")
    return task.get("lastStatus", "STOPPED") == "STOPPED" and task.get("stopCode") not in BY_OTHERS and not scaled_in


def _reason(task: Mapping[str, Any]) -> str:
    reason = task.get("stoppedReason") or task.get("stopCode") or "no reason given"
    for one in task.get("containers") or ():
        if one.get("exitCode") or one.get("reason"):
            code = f"exit code {one['exitCode']}" if one.get("exitCode") is not None else ""
            return f"{reason} ({one.get('name', 'a container')}: {', '.join(filter(None, (code, one.get('reason'))))})"
    return str(reason)


def told(reasons: list[str]) -> str:
    """The reasons, each once with how often it was given, the most frequent first."""
    counted = Counter(reasons).most_common(SHOWN)
    return "; ".join(f"{reason} (×{count})" if count > 1 else reason for reason, count in counted)
