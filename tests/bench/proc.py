"""What /proc says of a process, its children not included."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
MIB = 1024.0


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, in steps of 1/100 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid: int) -> dict[str, float]:
    """`rss`, its highest value `peak`, and `anonymous`: what no other process shares."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {
        name: int(rest.split()[0]) / MIB for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return {"rss": found["VmRSS"], "anonymous": found["RssAnon"], "peak": found["VmHWM"]}


def machine() -> dict[str, str]:
    """This machine in general words."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{total:.0f} GiB",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "msgspec", "uvloop", "sqlalchemy")},
    }
