"""Open-loop load: requests leave when they are due, whatever became of the ones before.

Arrivals are Poisson. Half of the requests use kept-alive connections, half a new one each; one in five is a POST whose
body must come back. Nothing is ever repeated. A request failed when it got a reset, a status that is not 200, a short
body, a wrong echo, or no answer in time.

Kept-alive rule: a connection whose close arrived before the request was sent is not used for it, which is what every
HTTP client does; if the close arrives after that, the request failed. Connections idle for `IDLE_FOR` are closed from
this side, long before a balancer would.

Run as a process of its own, so that it disturbs nothing and nothing disturbs it:
`python -m shiftwork_coordinator.demo.traffic URL`. SIGTERM or SIGINT ends it; it then prints one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import deque
from pathlib import Path

import click
import msgspec

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.demo.tally import Failure, Result, Tally
from shiftwork_coordinator.demo.wire import Address, Answer, Connection, Failed
from shiftwork_coordinator.ports import Clock

POSTS, KEPT = 0.2, 0.5
IDLE_FOR = 3.0
TIMEOUT = 10.0
AT_ONCE = 500
"""Requests in flight; beyond it something is very wrong, and a due request fails instead of piling up."""


class Traffic:
    """Load on `url` from `run` until `stop`. `seed` makes the sequence of requests repeatable."""

    def __init__(self, url: str, rate: float, clock: Clock, seed: int | None = None) -> None:
        self._address, self._rate, self._clock = Address.of(url), rate, clock
        self._random = random.Random(seed)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._stopping = asyncio.Event()
        self._in_flight = 0
        self.tally = Tally()

    def stop(self) -> None:
        """Send nothing more; what is in flight is still awaited and counted."""
        self._stopping.set()

    async def run(self) -> Result:
        began = self._clock.monotonic()
        async with asyncio.TaskGroup() as requests:
            await self._send_until_stopped(requests, began)
            seconds = self._clock.monotonic() - began
        for _, connection in self._idle:
            connection.close()
        return self.tally.result(seconds)

    async def _send_until_stopped(self, requests: asyncio.TaskGroup, began: float) -> None:
        due = began
        while not self._stopping.is_set():
            due += self._random.expovariate(self._rate)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - self._clock.monotonic()):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                requests.create_task(self._request(began))
            self._close_old()

    async def _request(self, began: float) -> None:
        method = "POST" if self._random.random() < POSTS else "GET"
        keep = self._random.random() < KEPT
        body = self._random.randbytes(200).hex().encode() if method == "POST" else b""
        at, sent = self._clock.now(), self._clock.monotonic()
        self.tally.sent += 1
        self._in_flight += 1
        try:
            answer = await self._exchange(method, body, keep=keep)
        except (Failed, OSError, TimeoutError, ValueError, LookupError) as err:
            took = round(self._clock.monotonic() - sent, 3)
            self.tally.fail(Failure(at, took, method, "kept" if keep else "new", _reason(err)))
        else:
            about = answer.headers
            self.tally.succeeded(self._clock.monotonic() - began, about.get("x-version", ""), about.get("x-host", ""))
        finally:
            self._in_flight -= 1

    async def _exchange(self, method: str, body: bytes, *, keep: bool) -> Answer:
        if self._in_flight > AT_ONCE:
            raise Failed(f"not sent: {AT_ONCE} requests are waiting for an answer")
        async with asyncio.timeout(TIMEOUT):
            connection = (self._kept() if keep else None) or await Connection.open(self._address)
            try:
                answer = await connection.ask(method, "/", body, keep=keep)
            except BaseException:
                connection.close()
                raise
        self._done_with(connection, keep and answer.headers.get("connection", "").lower() != "close")
        return _checked(answer, body)

    def _kept(self) -> Connection | None:
        while self._idle:
            _, connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    def _done_with(self, connection: Connection, keep: bool) -> None:
        if keep:
            self._idle.append((self._clock.monotonic(), connection))
        else:
            connection.close()

    def _close_old(self) -> None:
        while self._idle and self._clock.monotonic() - self._idle[0][0] > IDLE_FOR:
            self._idle.popleft()[1].close()


def _checked(answer: Answer, echo: bytes) -> Answer:
    if answer.status != 200:
        raise Failed(f"status {answer.status}")
    if echo and answer.body != echo:
        raise Failed("the echo differs from what was sent")
    if not answer.body:
        raise Failed("an empty body")
    return answer


def _reason(err: BaseException) -> str:
    if isinstance(err, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(err, Failed):
        return str(err)
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    return f"an answer that is not HTTP: {err}"


async def _run(url: str, rate: float, output: Path | None, attached: bool) -> None:
    traffic = Traffic(url, rate, SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, traffic.stop)
    if attached:
        loop.add_reader(sys.stdin.fileno(), os._exit, 1)  # whoever wanted to know is gone
    result = msgspec.json.encode(await traffic.run())
    if output:
        output.write_bytes(result)
    else:
        sys.stdout.write(result.decode() + "\n")


@click.command()
@click.argument("url")
@click.option("--rate", default=200.0, show_default=True, help="Requests per second.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the result instead of standard output.")
@click.option("--attached", is_flag=True, help="End at once, without a result, when standard input ends.")
def main(url: str, rate: float, output: Path | None, attached: bool) -> None:
    """Send requests to URL until told to stop, then print what became of them as JSON."""
    asyncio.run(_run(url, rate, output, attached))


if __name__ == "__main__":
    main()
