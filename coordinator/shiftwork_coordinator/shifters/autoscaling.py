"""Auto Scaling groups whose instances are changed in place: some of their processes rest meanwhile.

Which processes a deployment suspended is noted in a tag on the group before it is done, and the tag goes after they are
resumed: whoever comes next, after whatever crash, finds what is to be put back. What others had suspended stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import Problem, ShiftReading
from shiftwork_coordinator.shifters import asking

NOTE = "shiftwork:suspended"
"""The tag's value is `<deployment> <process> …`."""
CODE = "InvalidAutoScalingGroupException"
BACK = frozenset({Arrangement.RETIRED, Arrangement.ABANDONED})
Group = Mapping[str, Any]


class ScalingGroups:
    """ports.TrafficShifter for groups that are held, not shifted: PROVISIONED is held, RETIRED and ABANDONED let go."""

    def __init__(self, settings: GroupSettings) -> None:
        self._ask = asking.of(settings.aws)
        self._wanted = settings.autoscaling.suspend

    async def check(self, resources: Sequence[ScalingGroup], *, gradual: bool = False) -> Sequence[Problem]:
        found = await self._look(resources)
        missing = [Problem(_missing(one), code=CODE) for one in resources if one.group not in found]
        notes = [(one, note_of(found[one.group])) for one in resources if one.group in found]
        return missing + [Problem(_held(one, note), fatal=False) for one, note in notes if note]

    async def set_weight(self, resource: ScalingGroup, weight: float) -> None:
        raise InvalidRequest(f"cannot shift the traffic of {resource.name}: it is changed in place", code=CODE)

    async def arrange(self, resource: ScalingGroup, wanted: Arrangement) -> None:
        group = (await self._look([resource])).get(resource.group)
        if wanted in BACK:
            if group is not None:
                await self._let_go(resource, group)
        elif group is None:
            raise InvalidRequest(_missing(resource), code=CODE)
        else:
            await self._hold(resource, group)

    async def readings(self, resources: Sequence[ScalingGroup]) -> Mapping[str, ShiftReading]:
        try:
            found = await self._look(resources)
        except Unavailable as err:
            return {one.name: ShiftReading(None, ready=False, detail=err.message) for one in resources}
        except ShiftworkError as err:
            return {one.name: ShiftReading(None, ready=False, fatal=True, detail=err.message) for one in resources}
        return {one.name: self._reading(one, found.get(one.group)) for one in resources}

    def _reading(self, one: ScalingGroup, group: Group | None) -> ShiftReading:
        if group is None:
            return ShiftReading(None, ready=False, holds=BACK, detail=_missing(one))
        running = [process for process in self._wanted if process not in suspended(group)]
        mine = note_of(group)[:1] == [one.token]
        holds = (frozenset() if running else frozenset({Arrangement.PROVISIONED})) | (frozenset() if mine else BACK)
        return ShiftReading(None, holds=holds, detail=f"{', '.join(running)} not suspended" if running else "")

    async def _hold(self, one: ScalingGroup, group: Group) -> None:
        """What is not noted yet is noted before it is suspended."""
        note, now = note_of(group), suspended(group)
        if note and note[0] != one.token:  # one that ended without a word: what it suspended is put back too
            note = [one.token, *note[1:]]
        running = [process for process in self._wanted if process not in now]
        kept = note or [one.token]
        wanted = kept + [process for process in running if process not in kept]
        if wanted != note_of(group) and len(wanted) > 1:
            await self._ask("autoscaling", "create_or_update_tags", Tags=[_tag(one, " ".join(wanted))])
        if running:
            await self._ask(
                "autoscaling", "suspend_processes", AutoScalingGroupName=one.group, ScalingProcesses=running
            )

    async def _let_go(self, one: ScalingGroup, group: Group) -> None:
        note, now = note_of(group), suspended(group)
        if note[:1] != [one.token]:
            return
        ours = [process for process in note[1:] if process in now]
        try:
            if ours:
                await self._ask(
                    "autoscaling", "resume_processes", AutoScalingGroupName=one.group, ScalingProcesses=ours
                )
            await self._ask("autoscaling", "delete_tags", Tags=[_tag(one, " ".join(note))])
        except InvalidRequest as err:
            raise InvalidRequest(f"{err.message}; {_left(one, ours)}", code=CODE) from err

    async def _look(self, resources: Sequence[ScalingGroup]) -> dict[str, Group]:
        """The groups by name, those that are there, in one call: a deployment has ten at most."""
        names = [one.group for one in resources]
        told = await self._ask("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=names)
        return {group["AutoScalingGroupName"]: group for group in told["AutoScalingGroups"]}


def note_of(group: Group) -> list[str]:
    """The deployment and the processes that it suspended; empty without a note."""
    return next((str(tag["Value"]).split() for tag in group.get("Tags", ()) if tag["Key"] == NOTE), [])


def suspended(group: Group) -> set[str]:
    return {process["ProcessName"] for process in group.get("SuspendedProcesses", ())}


def _tag(one: ScalingGroup, value: str) -> dict[str, Any]:
    return {
        "ResourceId": one.group, "ResourceType": "auto-scaling-group", "Key": NOTE, "Value": value,
        "PropagateAtLaunch": False,
    }  # fmt: skip


def _left(one: ScalingGroup, processes: Sequence[str]) -> str:
    """What a person has to do when the group cannot be let go."""
    command = f"aws autoscaling resume-processes --auto-scaling-group-name '{one.group}' --scaling-processes"
    rest = f"{', '.join(processes)} rest until somebody runs `{command} {' '.join(processes)}`" if processes else ""
    return rest or f"the tag {NOTE} stays on the group"


def _missing(one: ScalingGroup) -> str:
    return (
        f"there is no Auto Scaling group {one.group!r} in this account and region; see the group's `aws.region` and"
        " `aws.role_arn`, and `aws autoscaling describe-auto-scaling-groups`"
    )


def _held(one: ScalingGroup, note: Sequence[str]) -> str:
    return (
        f"the Auto Scaling group {one.group} still rests for deployment {note[0]} ({', '.join(note[1:])});"
        " this deployment takes that over and resumes it in the end"
    )
