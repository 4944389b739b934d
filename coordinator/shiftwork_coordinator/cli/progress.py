"""How far something long has come; silent about what is short."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_coordinator.cli.output import size
from shiftwork_coordinator.ports import Clock

AFTER = 2.0
"""Seconds of silence before the first line, and between two."""


class Progress:
    """Call it with the bytes done so far. `total` is None where nobody knows."""

    def __init__(self, what: str, total: int | None, clock: Clock, tell: Callable[[str], None]) -> None:
        self._what, self._total, self._clock, self._tell = what, total, clock, tell
        self._told_at = clock.monotonic()

    def __call__(self, done: int) -> None:
        now = self._clock.monotonic()
        if now - self._told_at < AFTER:
            return
        self._told_at = now
        share = f" of {size(self._total)} ({100 * done // self._total} %)" if self._total else ""
        self._tell(f"{self._what} ... {size(done)}{share}")
