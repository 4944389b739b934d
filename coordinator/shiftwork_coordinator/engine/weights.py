"""How traffic is shifted: the weights one after the other, and the pause between two."""

from __future__ import annotations

from shiftwork_coordinator.model.config import AllAtOnce, TimeBasedCanary, Traffic


def weights(traffic: Traffic) -> tuple[float, ...]:
    """The shares that the replacement is given, rising, each above 0; the last is 1."""
    if isinstance(traffic, AllAtOnce):
        return (1.0,)
    if isinstance(traffic, TimeBasedCanary):
        return (traffic.percentage / 100, 1.0)
    steps = range(traffic.percentage, 100, traffic.percentage)
    return (*(percent / 100 for percent in steps), 1.0)


def after(traffic: Traffic, weight: float) -> float:
    """The share that follows `weight`; 1 follows 1."""
    return next((one for one in weights(traffic) if one > weight), 1.0)


def pause(traffic: Traffic) -> float:
    """Seconds between two steps, counted from when the earlier one was seen to be in force."""
    return 0.0 if isinstance(traffic, AllAtOnce) else traffic.interval
