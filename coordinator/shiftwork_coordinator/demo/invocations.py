"""Steady requests: `python -m shiftwork_coordinator.demo.invocations URL RATE OUTPUT`.

A URL that ends in `/invocations` is a function's and is invoked, every other is a page and is asked for.

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
from typing import Any

import aiohttp
import msgspec

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.lab.aws.moto import SIGNED

TIMEOUT = 10.0
INVOKED = "/invocations"
clock = SystemClock()


class Invocation(msgspec.Struct, frozen=True, array_like=True):
    """Unix times of sending and of the answer; `version` is the one that answered, "" where no answer came; `host` who
    did, where that is told."""

    sent: float
    answered: float
    version: str
    fine: bool
    host: str = ""


async def one(session: aiohttp.ClientSession, url: str) -> Invocation:
    sent = clock.now()
    try:
        async with _asked(session, url) as answer:
            await answer.read()
            fine = answer.status == 200 and "X-Amz-Function-Error" not in answer.headers
            version = answer.headers.get("X-Amz-Executed-Version") or answer.headers.get("X-Version", "")
            return Invocation(sent, clock.now(), version, fine, answer.headers.get("X-Host", ""))
    except (aiohttp.ClientError, TimeoutError):
        return Invocation(sent, clock.now(), "", fine=False)


def _asked(session: aiohttp.ClientSession, url: str) -> Any:
    if url.endswith(INVOKED):
        return session.post(url, data=b"{}", headers={"Authorization": SIGNED.format("lambda")})
    return session.get(url)


def of_function(aws_url: str, name: str) -> str:
    """Where a function is invoked through its alias, `NAME:ALIAS`."""
    return f"{aws_url}/2015-03-31/functions/{name}{INVOKED}"


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


async def _main(url: str, rate: float, output: Path) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_reader(sys.stdin.fileno(), os._exit, 1)  # whoever wanted to know is gone
    found = await run(url, rate, stopping)
    output.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
