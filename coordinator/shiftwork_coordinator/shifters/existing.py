"""Blue/green onto instances that stand already: nothing is made for it.

The Auto Scaling groups that the instances belong to are held meanwhile, as in place. Originals that are to go in the
end are terminated; others stay as they are, out of traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.resource import ExistingSets
from shiftwork_coordinator import fleets
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.status import FOR_GOOD
from shiftwork_coordinator.ports import Problem, ShiftReading
from shiftwork_coordinator.shifters.autoscaling import ScalingGroups

A = Arrangement
WHERE_HELD = {A.PROVISIONED: frozenset({A.PROVISIONED, A.PROMOTED}), A.RETIRED: frozenset({A.RETIRED, A.ABANDONED})}
"""What is in force of two sets, by what is of a group."""


class Existing:
    """ports.TrafficShifter for two sets of instances. Traffic is moved by the load balancers' drivers."""

    def __init__(self, settings: GroupSettings) -> None:
        self._fleets = fleets.connect(settings.aws)
        self._groups = ScalingGroups(settings)

    async def check(self, resources: Sequence[ExistingSets], *, gradual: bool = False) -> Sequence[Problem]:
        groups = [group for one in resources for group in one.groups]
        return await self._groups.check(groups) if groups else []

    async def set_weight(self, resource: ExistingSets, weight: float) -> None:
        raise InvalidRequest(f"cannot shift the traffic of {resource.name}: its load balancers are asked")

    async def arrange(self, resource: ExistingSets, wanted: Arrangement) -> None:
        for group in resource.groups:
            await self._groups.arrange(group, wanted)
        if wanted is A.RETIRED and resource.ends:
            await self._fleets.terminate(resource.ends)

    async def readings(self, resources: Sequence[ExistingSets]) -> Mapping[str, ShiftReading]:
        return {one.name: await self._reading(one) for one in resources}

    async def _reading(self, one: ExistingSets) -> ShiftReading:
        try:
            left = await self._left(one)
            seen = (await self._groups.readings(one.groups)).values() if one.groups else ()
        except Unavailable as err:
            return ShiftReading(None, ready=False, detail=err.message)
        except ShiftworkError as err:
            return ShiftReading(None, ready=False, fatal=True, detail=err.message)
        holds = frozenset(A).intersection(*(_of_sets(reading.holds) for reading in seen))
        waits = f"{len(left)} of {len(one.ends)} originals still run: {', '.join(left)}" if left else ""
        why = "; ".join(filter(None, (*(reading.detail for reading in seen), waits)))
        fatal = any(reading.fatal for reading in seen)
        return ShiftReading(
            None, ready=not fatal, holds=holds - {A.RETIRED} if left else holds, fatal=fatal, detail=why
        )

    async def _left(self, one: ExistingSets) -> list[str]:
        """The originals that are to go and have not gone."""
        if not one.ends:
            return []
        lost = await self._fleets.lost(one.ends, missing=True)
        return [id for id in one.ends if lost.get(id) not in FOR_GOOD]


def _of_sets(holds: frozenset[Arrangement]) -> frozenset[Arrangement]:
    return frozenset().union(*(wider for narrow, wider in WHERE_HELD.items() if narrow in holds))
