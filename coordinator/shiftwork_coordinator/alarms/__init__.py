"""Alarms that stop deployments: where they are asked."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.alarms.cloudwatch import CloudWatch
from shiftwork_coordinator.model.settings import Alarms
from shiftwork_coordinator.ports import AlarmSource

connect: Callable[[Alarms], AlarmSource] = CloudWatch
"""The source that a group's settings name; nothing is asked yet."""
