"""What the host and this process look like: load, memory, disk, the agent's own size.

Read from the kernel by hand: psutil says the same, but importing it adds 3.4 MiB to a daemon that has 40 in all.
"""

from __future__ import annotations

import os
from pathlib import Path

from shiftwork_contract.messages import HealthCheck, Heartbeat, Probe

PAGE = os.sysconf("SC_PAGE_SIZE")


def heartbeat(disk: Path, uptime: float) -> Heartbeat:
    """Load, memory and room left where `disk` lies, and this process's own size and time."""
    total, used = _memory()
    free, disk_used = _disk(disk)
    return Heartbeat(
        load1=os.getloadavg()[0],
        memory_used_percent=used,
        disk_free_bytes=free,
        agent_rss_bytes=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        cpus=os.cpu_count() or 1,
        memory_total_bytes=total,
        disk_used_percent=disk_used,
        agent_cpu_seconds=round(sum(os.times()[:2]), 2),
        uptime=round(uptime, 1),
    )


def within_limits(check: HealthCheck, answer: Probe, disk: Path) -> Probe:
    """`answer`, unless it is healthy and the host is beyond one of the check's thresholds: that is named then."""
    beyond = _beyond(check, disk) if answer.healthy else ""
    return Probe(False, beyond) if beyond else answer


def has_thresholds(check: HealthCheck) -> bool:
    return bool(check.max_load_per_cpu or check.min_disk_free or check.max_memory_percent)


def _beyond(check: HealthCheck, disk: Path) -> str:
    if not has_thresholds(check):
        return ""
    cpus, load = os.cpu_count() or 1, os.getloadavg()[0]
    if check.max_load_per_cpu and load / cpus > check.max_load_per_cpu:
        return f"load per CPU is {load / cpus:.2f} ({cpus} CPUs), the limit is {check.max_load_per_cpu:g}"
    used = _memory()[1]
    if check.max_memory_percent and used > check.max_memory_percent:
        return f"memory in use is {used:g} %, the limit is {check.max_memory_percent:g} %"
    free = _disk(disk)[0]
    if check.min_disk_free and free < check.min_disk_free:
        return f"room on the disk of {disk} is {free} bytes, the least is {check.min_disk_free} bytes"
    return ""


def _memory() -> tuple[int, float]:
    """Bytes in all, and the percentage that is in use and could not be given back at once."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    total = kib["MemTotal:"]
    return total << 10, round(100 * (1 - kib.get("MemAvailable:", total) / total), 1)


def _disk(path: Path) -> tuple[int, float]:
    """Bytes that may still be written, and the percentage in use, as df has it."""
    room = os.statvfs(path)
    used = room.f_blocks - room.f_bfree
    share = used / (used + room.f_bavail) if used + room.f_bavail else 0.0
    return room.f_bavail * room.f_frsize, round(100 * share, 1)
