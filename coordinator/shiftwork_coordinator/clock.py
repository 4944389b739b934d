"""The only place that reads the time."""

from __future__ import annotations

import time


class SystemClock:
    """ports.Clock over the machine's clocks."""

    def now(self) -> float:
        return time.time()  # noqa: TID251  the one place

    def monotonic(self) -> float:
        return time.monotonic()
