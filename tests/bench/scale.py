"""What a deployment costs the coordinator: CPU per target, memory, time. Half at a time, no balancer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench import proc
from tests.bench.bundles import trivial
from tests.bench.figures import Figure
from tests.bench.serving import serving
from tests.bench.swarm import swarm

PART = "coordinator"
AGENTS = 1000
GOAL_MS = 1.5
PACES = (0.0, 0.1)
"""Seconds that each of an agent's seven events lasts: all reports in one burst, and each on its own."""


async def measure(directory: Path, count: int = AGENTS) -> AsyncIterator[Figure]:
    async with serving(directory) as coordinator:
        token = await coordinator.token(count)
        async with swarm(coordinator.url, coordinator.ca, token, count) as agents:
            yield Figure(PART, f"RSS with {count} agents connected", proc.memory_mib(coordinator.pid)["rss"], "MiB")
            await coordinator.apply("HalfAtATime")
            for number, pace in enumerate(PACES):
                revision = await coordinator.push(trivial(directory / f"bundle-{number}", f"v{number}"))
                agents.set_pace(pace)
                agents.moments.clear()
                before, began = proc.cpu_seconds(coordinator.pid), time.monotonic()
                deployment = await coordinator.deploy(revision)
                await agents.released()
                wall, cpu = time.monotonic() - began, proc.cpu_seconds(coordinator.pid) - before
                await coordinator.ended(deployment)
                label = f"{count} targets, events of {pace:g} s"
                yield Figure(PART, f"CPU per target: {label}", 1000 * cpu / count, "ms", GOAL_MS)
                yield Figure(PART, f"wall time: {label}", wall, "s")
            yield Figure(PART, f"peak RSS, {count} targets", proc.memory_mib(coordinator.pid)["peak"], "MiB")
