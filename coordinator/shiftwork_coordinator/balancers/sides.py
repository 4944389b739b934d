"""Two balancers as one: the originals are in the one, what replaces them is in the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.balancers.aws_changes import what_counts
from shiftwork_coordinator.ports import LoadBalancer, Pace, Problem, Reading, Server


class Sides:
    """ports.LoadBalancer. `replaces` tells, by the instance's name, on which side it is."""

    def __init__(
        self, name: str, original: LoadBalancer, replacement: LoadBalancer, replaces: Callable[[str], bool]
    ) -> None:
        self.name, self._original, self._replacement, self._replaces = name, original, replacement, replaces
        self.pace: Pace = getattr(original, "pace", Pace())

    async def check(self, servers: Sequence[Server]) -> Sequence[Problem]:
        """Of the originals' side: the other one may not be in use yet."""
        return await self._original.check([server for server in servers if not self._replaces(server.instance)])

    async def deregister(self, servers: Sequence[Server]) -> None:
        await _all([side.deregister(some) for side, some in self._split(servers)])

    async def register(self, servers: Sequence[Server]) -> None:
        await _all([side.register(some) for side, some in self._split(servers)])

    async def states(self, servers: Sequence[Server]) -> Mapping[str, Reading]:
        found = await asyncio.gather(*(side.states(some) for side, some in self._split(servers)))
        return {name: reading for each in found for name, reading in each.items()}

    async def close(self) -> None:
        for side in (self._original, self._replacement):
            await side.close()

    def _split(self, servers: Sequence[Server]) -> list[tuple[LoadBalancer, Sequence[Server]]]:
        replacing = [server for server in servers if self._replaces(server.instance)]
        staying = [server for server in servers if not self._replaces(server.instance)]
        return [(side, some) for side, some in ((self._original, staying), (self._replacement, replacing)) if some]


async def _all(wanted: Sequence[Awaitable[None]]) -> None:
    """Both sides are asked before the first error is raised."""
    if wrong := what_counts([await _tried(each) for each in wanted]):
        raise wrong


async def _tried(asked: Awaitable[None]) -> ShiftworkError | None:
    try:
        await asked
    except (Unavailable, InvalidRequest) as err:
        return err
    return None
