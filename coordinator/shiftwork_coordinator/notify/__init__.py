"""Whom a group's triggers tell of its deployments."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.model.settings import Aws
from shiftwork_coordinator.notify.sns import Sns
from shiftwork_coordinator.ports import Notifier

connect: Callable[[Aws], Notifier] = Sns
"""What reaches the topics of a group, as whom the group's resources are changed. Nothing is asked yet."""
