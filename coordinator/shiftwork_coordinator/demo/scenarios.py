"""The demonstrations there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shiftwork_coordinator.demo import half_at_a_time
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage


class Scenario(NamedTuple):
    """`fewest` instances are needed to show it."""

    summary: str
    fewest: int
    run: Callable[[Stage], Shown]


DEFAULT = "half-at-a-time"
SCENARIOS = {
    DEFAULT: Scenario(
        "v2 reaches one half of the instances, then the other; v3 is broken and rolled back; no request fails",
        2,
        half_at_a_time.run,
    ),
}
