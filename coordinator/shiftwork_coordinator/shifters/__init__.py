"""Platforms whose traffic is shifted by weights: the driver of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import HookFunctions, TrafficShifter
from shiftwork_coordinator.shifters.autoscaling import ScalingGroups
from shiftwork_coordinator.shifters.blue_green import BlueGreen
from shiftwork_coordinator.shifters.ecs import EcsTaskSets
from shiftwork_coordinator.shifters.existing import Existing
from shiftwork_coordinator.shifters.hook_functions import LambdaHooks
from shiftwork_coordinator.shifters.lambda_ import LambdaAliases

BUILT_IN: dict[str, Callable[[GroupSettings], TrafficShifter[Any]]] = {"Lambda": LambdaAliases, "ECS": EcsTaskSets}
hook_functions: Callable[[GroupSettings], HookFunctions] = LambdaHooks


def connect(settings: GroupSettings) -> TrafficShifter[Any] | None:
    """The driver of what the group's deployments change besides instances; None where there is none. Nothing is asked
    yet."""
    if settings.blue_green:
        return Existing(settings) if settings.blue_green.green == "existing" else BlueGreen(settings)
    if settings.instances.autoscaling and settings.autoscaling.suspend:
        return ScalingGroups(settings)
    make = BUILT_IN.get(settings.platform)
    return make(settings) if make else None
