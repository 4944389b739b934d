"""Platforms whose traffic is shifted by weights: the driver of each."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import TrafficShifter
from shiftwork_coordinator.shifters.lambda_ import LambdaAliases

BUILT_IN: dict[str, Callable[[GroupSettings], TrafficShifter]] = {"Lambda": LambdaAliases}


def connect(settings: GroupSettings) -> TrafficShifter | None:
    """The driver of the group's platform; None where traffic is moved otherwise. Nothing is asked yet."""
    make = BUILT_IN.get(settings.platform)
    return make(settings) if make else None
