"""Auto Scaling groups whose instances are changed in place: some of their processes rest meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import Problem, ShiftReading
from shiftwork_coordinator.shifters import asking, resting
from shiftwork_coordinator.shifters.resting import CODE, Group, not_there, note_of, suspended

BACK = frozenset({Arrangement.RETIRED, Arrangement.ABANDONED})


class ScalingGroups:
    """ports.TrafficShifter for groups that are held, not shifted: PROVISIONED is held, RETIRED and ABANDONED let go."""

    def __init__(self, settings: GroupSettings) -> None:
        self._ask = asking.of(settings.aws)
        self._wanted = resting.at_rest(settings.autoscaling.suspend)

    async def check(self, resources: Sequence[ScalingGroup], *, gradual: bool = False) -> Sequence[Problem]:
        found = await self._look(resources)
        missing = [Problem(not_there(one.group), code=CODE) for one in resources if one.group not in found]
        notes = [(one, note_of(found[one.group])) for one in resources if one.group in found]
        return missing + [Problem(resting.taken_over(one.group, note), fatal=False) for one, note in notes if note]

    async def set_weight(self, resource: ScalingGroup, weight: float) -> None:
        raise InvalidRequest(f"cannot shift the traffic of {resource.name}: it is changed in place", code=CODE)

    async def arrange(self, resource: ScalingGroup, wanted: Arrangement) -> None:
        group = (await self._look([resource])).get(resource.group)
        if wanted in BACK:
            if group is not None:
                await resting.let_go(self._ask, group, resource.token)
        elif group is None:
            raise InvalidRequest(not_there(resource.group), code=CODE)
        else:
            await resting.hold(self._ask, group, resource.token, self._wanted)

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
            return ShiftReading(None, ready=False, holds=BACK, detail=not_there(one.group))
        running = [process for process in self._wanted if process not in suspended(group)]
        mine = resting.held_for(group, one.token)
        holds = (frozenset() if running else frozenset({Arrangement.PROVISIONED})) | (frozenset() if mine else BACK)
        return ShiftReading(None, holds=holds, detail=f"{', '.join(running)} not suspended" if running else "")

    async def _look(self, resources: Sequence[ScalingGroup]) -> dict[str, Group]:
        """The groups by name, those that are there, in one call: a deployment has ten at most."""
        names = [one.group for one in resources]
        told = await self._ask("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=names)
        return {group["AutoScalingGroupName"]: group for group in told["AutoScalingGroups"]}
