"""How long the coordinator takes from an agent's report to the next command.

Both ends are in the process of the simulated agents: from the moment a `CommandEnded` is given to the socket to the
moment a new command has been read. What the agent reported just before is made durable with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.bundles import trivial
from tests.bench.figures import Figure, percentile
from tests.bench.serving import serving
from tests.bench.swarm import Moments, swarm

PART = "report to command"
AGENTS = 100
GOAL_MS = 20.0
RUNS = 3
PACE = 0.2
"""Seconds per event of the agents that are at work together."""


async def measure(directory: Path, count: int = AGENTS, runs: int = RUNS) -> AsyncIterator[Figure]:
    async with serving(directory) as coordinator:
        token = await coordinator.token(count)
        async with swarm(coordinator.url, coordinator.ca, token, count) as agents:
            for at_once, label, settings in (
                (1, "one at a time", {"config": "OneAtATime"}),
                (count // 2, f"{count // 2} at work, each slot refilled", {"config": "HalfAtATime", "pace": "sliding"}),
            ):
                await coordinator.apply(**settings)
                agents.set_pace(0.0 if at_once == 1 else PACE)
                waits: list[float] = []
                for run in range(runs):
                    revision = await coordinator.push(trivial(directory / f"{at_once}-{run}", f"{at_once}-{run}"))
                    agents.moments.clear()
                    await coordinator.ended(await coordinator.deploy(revision), every=0.5)
                    waits += between(agents.moments, at_once)
                for percent, goal in ((50, None), (99, GOAL_MS)):
                    value = 1000 * percentile(waits, percent)
                    yield Figure(PART, f"p{percent}, {count} agents, {label}", value, "ms", goal, runs=len(waits))


def between(moments: Moments, at_once: int) -> list[float]:
    """Seconds from each end to the command that took its place, first come first served.

    What was sent while targets were still being prepared is left out: those commands wait for something else.
    """
    prepared = max((at for at, command in moments.ended if command.prepare), default=0.0)
    ended = sorted(at for at, command in moments.ended if not command.prepare)
    came = sorted(at for at, command in moments.commands if not command.prepare)[at_once:]
    return [after - before for before, after in zip(ended, came, strict=False) if before > prepared]
