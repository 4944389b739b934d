"""The instances of a deployment group as EC2 and Auto Scaling know them."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.fleets.ec2 import Ec2
from shiftwork_coordinator.fleets.hooks import LifecycleHooks
from shiftwork_coordinator.model.settings import Aws
from shiftwork_coordinator.ports import Fleets, ScalingHooks

connect: Callable[[Aws], Fleets] = Ec2
"""The instances of an account and region; nothing is asked yet."""
hooks_of: Callable[[Aws], ScalingHooks] = LifecycleHooks
"""The same for lifecycle hooks of its Auto Scaling groups."""
