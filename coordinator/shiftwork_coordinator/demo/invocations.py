"""Steady invocations of a function: `python -m shiftwork_coordinator.demo.invocations URL NAME RATE OUTPUT`.

They leave when they are due (Poisson), whatever became of the ones before, until SIGTERM; nothing is ever repeated.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.lab.aws.moto import SIGNED

TIMEOUT = 10.0
clock = SystemClock()


class Invocation(msgspec.Struct, frozen=True, array_like=True):
    """Unix times of sending and of the answer; `version` is the executed one, "" where no answer came."""

    sent: float
    answered: float
    version: str
    fine: bool


async def one(session: aiohttp.ClientSession, url: str) -> Invocation:
    sent = clock.now()
    try:
        async with session.post(url, data=b"{}", headers={"Authorization": SIGNED.format("lambda")}) as answer:
            await answer.read()
            fine = answer.status == 200 and "X-Amz-Function-Error" not in answer.headers
            return Invocation(sent, clock.now(), answer.headers.get("X-Amz-Executed-Version", ""), fine)
    except (aiohttp.ClientError, TimeoutError):
        return Invocation(sent, clock.now(), "", fine=False)


async def run(url: str, rate: float, stopping: asyncio.Event) -> list[Invocation]:
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    due = clock.monotonic()
    async with aiohttp.ClientSession(timeout=limit) as session, asyncio.TaskGroup() as tasks:
        begun = []
        while not stopping.is_set():
            due += random.expovariate(rate)
            with suppress(TimeoutError):
                async with asyncio.timeout(due - clock.monotonic()):
                    await stopping.wait()
            if not stopping.is_set():
                begun.append(tasks.create_task(one(session, url)))
        return [await task for task in begun]


async def _main(url: str, name: str, rate: float, output: Path) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_reader(sys.stdin.fileno(), os._exit, 1)  # whoever wanted to know is gone
    found = await run(f"{url}/2015-03-31/functions/{name}/invocations", rate, stopping)
    output.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])))
