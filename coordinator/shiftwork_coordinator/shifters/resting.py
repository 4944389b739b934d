"""Processes of Auto Scaling groups that rest for a while, and the note in a tag of what is to be resumed.

The note is written before a process is suspended, and goes after it is resumed: whoever comes next, after whatever
crash, finds what is to be put back. What others had suspended stays so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.shifters.asking import Ask

NOTE = "shiftwork:suspended"
"""The tag's value is `<deployment> <process> …`."""
CODE = "InvalidAutoScalingGroupException"
JUDGES = "HealthCheck"
Group = Mapping[str, Any]
"""An Auto Scaling group as DescribeAutoScalingGroups tells it."""


def at_rest(suspend: Sequence[str]) -> tuple[str, ...]:
    """Processes that rest while instances leave traffic and come back: whatever is called unhealthy meanwhile would be
    called so until it is replaced, which is what ReplaceUnhealthy does when it is resumed."""
    judged = (JUDGES,) if "ReplaceUnhealthy" in suspend and JUDGES not in suspend else ()
    return (*suspend, *judged)


async def hold(ask: Ask, group: Group, token: str, wanted: Sequence[str], for_good: Collection[str] = ()) -> None:
    """`wanted` rest from here on. What is not noted yet is noted before it is suspended; `for_good` is not noted, and
    is not resumed in the end."""
    name, note, now = name_of(group), note_of(group), suspended(group)
    if note and note[0] != token:  # one that ended without a word: what it suspended is put back too
        note = [token, *note[1:]]
    running = [process for process in dict.fromkeys([*wanted, *for_good]) if process not in now]
    kept = note or [token]
    noted = kept + [process for process in running if process not in kept and process not in for_good]
    if noted != note_of(group) and len(noted) > 1:
        await ask("autoscaling", "create_or_update_tags", Tags=[tag(name, NOTE, " ".join(noted))])
    if running:
        await ask("autoscaling", "suspend_processes", AutoScalingGroupName=name, ScalingProcesses=running)


async def let_go(ask: Ask, group: Group, token: str) -> None:
    """What is noted for this deployment runs again, and the note is gone."""
    if not held_for(group, token):
        return
    name, note = name_of(group), note_of(group)
    ours = [process for process in note[1:] if process in suspended(group)]
    try:
        await resume(ask, group, ours)
        await ask("autoscaling", "delete_tags", Tags=[tag(name, NOTE, " ".join(note))])
    except InvalidRequest as err:
        raise InvalidRequest(f"{err.message}; {_left(name, ours)}", code=CODE) from err


async def resume(ask: Ask, group: Group, processes: Sequence[str]) -> None:
    """These run again; an empty list, which AWS takes for all of them, asks nothing."""
    if processes:
        await ask(
            "autoscaling", "resume_processes", AutoScalingGroupName=name_of(group), ScalingProcesses=list(processes)
        )


def held_for(group: Group, token: str) -> bool:
    return note_of(group)[:1] == [token]


def note_of(group: Group) -> list[str]:
    """The deployment and the processes that it suspended; empty without a note."""
    return words_of(group, NOTE)


def words_of(group: Group, key: str) -> list[str]:
    """A tag's value, word by word; empty without the tag."""
    return next((str(one["Value"]).split() for one in group.get("Tags", ()) if one["Key"] == key), [])


def suspended(group: Group) -> set[str]:
    return {process["ProcessName"] for process in group.get("SuspendedProcesses", ())}


def name_of(group: Group) -> str:
    return str(group["AutoScalingGroupName"])


def tag(name: str, key: str, value: str, *, at_launch: bool = False) -> dict[str, Any]:
    return {
        "ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value,
        "PropagateAtLaunch": at_launch,
    }  # fmt: skip


def not_there(name: str) -> str:
    return (
        f"there is no Auto Scaling group {name!r} in this account and region; see the group's `aws.region` and"
        " `aws.role_arn`, and `aws autoscaling describe-auto-scaling-groups`"
    )


def taken_over(name: str, note: Sequence[str]) -> str:
    return (
        f"the Auto Scaling group {name} still rests for deployment {note[0]} ({', '.join(note[1:])});"
        " this deployment takes that over and resumes it in the end"
    )


def _left(name: str, processes: Sequence[str]) -> str:
    """What a person has to do when the group cannot be let go."""
    command = f"aws autoscaling resume-processes --auto-scaling-group-name '{name}' --scaling-processes"
    rest = f"{', '.join(processes)} rest until somebody runs `{command} {' '.join(processes)}`" if processes else ""
    return rest or f"the tag {NOTE} stays on the group"
