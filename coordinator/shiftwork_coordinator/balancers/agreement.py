"""What several parts of a balancer say of one instance, as one reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shiftwork_coordinator.ports import Reading, TrafficState

_WORST_FIRST = (TrafficState.DRAINING, TrafficState.UNHEALTHY, TrafficState.STARTING, TrafficState.HEALTHY)


def together(readings: Sequence[Reading]) -> Reading:
    """One reading for an instance that is a server in several backends or endpoints: out, or in, only if all agree."""
    states = {one.state for one in readings}
    counts = [one.in_flight for one in readings]
    known = [count for count in counts if count is not None]
    return Reading(
        state=_agreed(states),
        in_flight=sum(known) if len(known) == len(counts) else None,
        generation=",".join(dict.fromkeys(one.generation for one in readings)),
        out_by=next((one.out_by for one in readings if one.out_by), ""),
        lasts=max((one.lasts for one in readings), default=0.0),
        detail="; ".join(dict.fromkeys(one.detail for one in readings if one.detail)),
    )


def _agreed(states: Iterable[TrafficState]) -> TrafficState:
    found = set(states)
    if TrafficState.UNKNOWN in found or not found:
        return TrafficState.UNKNOWN
    if TrafficState.ABSENT in found:
        return TrafficState.ABSENT if len(found) == 1 else TrafficState.DRAINING
    return next(state for state in _WORST_FIRST if state in found)
