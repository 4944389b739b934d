"""How long a running deployment stands still when the coordinator is killed and started again at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.bundles import trivial
from tests.bench.figures import Figure, median
from tests.bench.serving import Serving, serving
from tests.bench.swarm import Swarm, swarm

PART = "restart"
AGENTS = 10
RUNS = 3
PACE = 0.03
"""Seconds per event: a command ends while the coordinator is away, so that the next one is due."""


async def measure(directory: Path, count: int = AGENTS, runs: int = RUNS) -> AsyncIterator[Figure]:
    async with serving(directory) as coordinator:
        token = await coordinator.token(count)
        async with swarm(coordinator.url, coordinator.ca, token, count, PACE) as agents:
            await coordinator.apply("OneAtATime")
            revision = await coordinator.push(trivial(directory / "bundle"))
            times = [await _once(coordinator, agents, revision) for _ in range(runs)]
    yield median(PART, f"kill -9 to the next command, {count} agents", times, "s")


async def _once(coordinator: Serving, agents: Swarm, revision: str) -> float:
    agents.moments.clear()
    deployment = await coordinator.deploy(revision)
    while len(_scripts(agents)) < 3:
        await asyncio.sleep(0.005)
    coordinator.kill()
    killed, known = time.monotonic(), set(_scripts(agents))
    await coordinator.start()
    while not (new := _scripts(agents).keys() - known):
        await asyncio.sleep(0.005)
    came = min(_scripts(agents)[id] for id in new)
    await coordinator.ended(deployment)
    return came - killed


def _scripts(agents: Swarm) -> dict[str, float]:
    """When each command that runs scripts came first."""
    return {c.id: at for at, c in reversed(agents.moments.commands) if not c.prepare}
