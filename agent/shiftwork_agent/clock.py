"""The one place where the agent asks what time it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def wall(self) -> float:
        """Unix time, for people only: it may jump."""
        ...

    def uptime(self) -> float:
        """Seconds since the host booted, suspension included: never jumps, equal in all processes."""
        ...


class SystemClock:
    def wall(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME)

    def uptime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this boot of the host: a process id and start time mean something only together with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
