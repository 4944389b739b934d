"""The agents' way to the coordinator in the process runtime, one per agent, so that it can be cut.

A cut link loses nothing and closes nothing: bytes wait, new connections are taken and get no answer, as when packets
vanish. An agent's link is cut while a file of its name lies in the directory DIR:
`python -m shiftwork_coordinator.lab.links DIR COORDINATOR_PORT NAME=PORT ...`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

LOOK_EVERY = 0.1


class Link:
    def __init__(self, flag: Path, coordinator: int) -> None:
        self._flag, self._coordinator = flag, coordinator
        self._whole = asyncio.Event()
        self.look()

    def look(self) -> None:
        """Cuts or heals it, as the flag says."""
        if self._flag.exists():
            self._whole.clear()
        else:
            self._whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            await self._whole.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._coordinator)
            with contextlib.closing(back):
                await self._both_ways((reader, back), (there, writer))

    async def _both_ways(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Until one side closes: TLS has no half-closed connections."""
        async with asyncio.TaskGroup() as tasks:
            pumps = [tasks.create_task(self._pump(*way)) for way in ways]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()


async def _run(directory: Path, coordinator: int, ports: Iterable[tuple[str, int]]) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    links = []
    async with contextlib.AsyncExitStack() as servers:
        for name, port in ports:
            links.append(Link(directory / name, coordinator))
            await servers.enter_async_context(await asyncio.start_server(links[-1].serve, "127.0.0.1", port))
        while not ending.is_set():
            for link in links:
                link.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), LOOK_EVERY)


def main(directory: str, coordinator: str, *ports: str) -> None:
    pairs = [(name, int(port)) for name, _, port in (each.partition("=") for each in ports)]
    asyncio.run(_run(Path(directory), int(coordinator), pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
