"""The one outbound connection to a coordinator: opened again for ever, with full jitter between the tries.

Reports come out of the outbox in order. Readings are not kept: of each group only the latest one is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle
from typing import Any, Protocol

import aiohttp

from shiftwork_agent.clock import Clock
from shiftwork_agent.outbox import Outbox
from shiftwork_contract.errors import ContractViolation
from shiftwork_contract.messages import (
    MAX_MESSAGE,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Acknowledge,
    FromCoordinator,
    Heartbeat,
    Hello,
    Message,
    Observed,
    Unsupported,
    Welcome,
    encode,
    from_coordinator,
)

log = logging.getLogger(__name__)

BASE, CAP = 0.5, 30.0
OPENING = 15.0
SILENT_AFTER = 2.5
"""Heartbeats without a single frame, after which a link counts as dead: each heartbeat asks for an answer."""


class LinkLost(Exception):
    """The link has ended; the text says how."""


class Peer(Protocol):
    """The agent behind the link."""

    async def hello(self) -> Hello: ...

    def welcomed(self, welcome: Welcome) -> None:
        """A link is up. May raise ContractViolation to refuse it."""
        ...

    def handle(self, message: FromCoordinator) -> None: ...

    def heartbeat(self) -> Heartbeat: ...

    def acknowledged(self) -> None:
        """Some reports need not be kept any more."""
        ...

    def disconnected(self) -> None: ...


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Seconds to wait before each next try: anything between 0 and a ceiling that doubles up to CAP."""
    ceiling = BASE
    while True:
        yield uniform(0, ceiling)
        ceiling = min(CAP, ceiling * 2)


class Link:
    """`context` may be replaced: connections from then on use it. `coordinator` is empty while the link is down."""

    def __init__(
        self, coordinators: tuple[str, ...], context: ssl.SSLContext | None, outbox: Outbox, peer: Peer, clock: Clock
    ) -> None:
        self._urls = cycle(coordinators)
        self._outbox, self._peer, self._clock = outbox, peer, clock
        self.context = context
        self._readings: dict[str, Message] = {}
        self._news = asyncio.Event()
        self._closed = False
        self._heard = clock.uptime()
        self._delays = delays()
        self._hurried = asyncio.Event()
        self._unsupported: set[str] = set()
        self.coordinator = ""
        self.problem = ""

    @property
    def connected(self) -> bool:
        return bool(self.coordinator)

    def heard_at(self, uptime: float) -> None:
        """An earlier agent heard the coordinator then."""
        self._heard = min(self._heard, uptime)

    def offline_for(self) -> float:
        """Seconds since the coordinator was heard; 0 while the link is up."""
        return 0.0 if self.connected else self._clock.uptime() - self._heard

    def send_reading(self, reading: Observed) -> None:
        self._send(reading.group_id, reading)

    def send(self, message: Message) -> None:
        """Something that is not a report; lost when the link is not up."""
        self._send(type(message).__name__, message)

    def _send(self, key: str, message: Message) -> None:
        self._readings[key] = message
        self._news.set()

    async def run(self) -> None:
        """Until cancelled or closed. Lost links and unreachable coordinators are logged, never raised."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as session:
            while not self._closed:
                await self._one_link(session, next(self._urls))
                _forget_cancellations()
                await self._pause(next(self._delays))

    async def _pause(self, seconds: float) -> None:
        self._hurried.clear()
        if self._closed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def close(self) -> None:
        """No further try. Comes before a cancellation: one at the very moment of a lost link is swallowed by the
        TaskGroup that raises the loss (Python 3.11)."""
        self._closed = True
        self._hurried.set()

    def hurry(self) -> None:
        """Something has changed that may let us in: the next try is made at once."""
        self._delays = delays()
        self._hurried.set()

    async def _one_link(self, session: aiohttp.ClientSession, url: str) -> None:
        problem = ""
        try:
            await self._session(session, url)
        except* (LinkLost, ContractViolation, aiohttp.ClientError, OSError) as group:
            problem = _first(group) + _about_clocks(group, self._clock.wall())
        if problem != self.problem or self.connected:
            log.warning("link lost" if self.connected else "cannot reach the coordinator",
                        extra={"coordinator": url, "problem": problem})  # fmt: skip
        self.problem = problem
        if self.connected:
            self.coordinator = ""
            self._peer.disconnected()

    async def _session(self, session: aiohttp.ClientSession, url: str) -> None:
        async with asyncio.timeout(OPENING):
            ws = await session.ws_connect(
                f"{url.rstrip('/')}/v1/agent/link",
                ssl=self.context or True,
                compress=0,
                max_msg_size=MAX_MESSAGE,
                autoping=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            )
        async with ws:
            welcome = await self._shake_hands(ws)
            self.coordinator, self.problem, self._delays = url, "", delays()
            self._peer.welcomed(welcome)
            log.info("linked", extra={"coordinator": url, "epoch": welcome.epoch})
            await self._converse(ws, welcome.heartbeat)

    async def _shake_hands(self, ws: aiohttp.ClientWebSocketResponse) -> Welcome:
        self._readings.clear()
        self._unsupported.clear()
        await ws.send_str(encode(await self._peer.hello()))
        welcome = await self._receive(ws, OPENING)
        if not isinstance(welcome, Welcome):
            raise ContractViolation(f"cannot talk to the coordinator: it answered Hello with {type(welcome).__name__}")
        if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
            raise ContractViolation(
                f"cannot talk to the coordinator: it speaks protocol {welcome.protocol}, this agent {PROTOCOL_MIN} to"
                f" {PROTOCOL_MAX}; upgrade the older one"
            )
        return welcome

    async def _converse(self, ws: aiohttp.ClientWebSocketResponse, heartbeat: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for work in self._works(ws, heartbeat):
                tasks.create_task(work)

    def _works(self, ws: aiohttp.ClientWebSocketResponse, heartbeat: float) -> list[Coroutine[Any, Any, None]]:
        return [self._receive_all(ws, heartbeat), self._report(ws), self._read(ws), self._beat(ws, heartbeat)]

    async def _receive_all(self, ws: aiohttp.ClientWebSocketResponse, heartbeat: float) -> None:
        while True:
            message = await self._receive(ws, SILENT_AFTER * heartbeat)
            match message:
                case None:
                    continue
                case Acknowledge():
                    self._outbox.acknowledge(message.seq)
                    self._peer.acknowledged()
                case Unsupported():
                    self._answer_unsupported(message)
                case _:
                    self._peer.handle(message)

    def _answer_unsupported(self, message: Unsupported) -> None:
        """Says so once per link and kind: the peer may be answering us."""
        if message.what not in self._unsupported:
            self._unsupported.add(message.what)
            log.info("unsupported message", extra={"what": message.what})
            self._send(f"unsupported {message.what}", message)

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse, limit: float) -> FromCoordinator | None:
        """The next message, None for a frame that is not one. Raises LinkLost at the end and after silence."""
        try:
            frame = await ws.receive(timeout=limit)
        except TimeoutError:
            raise LinkLost(f"nothing was heard for {limit:g} s") from None
        self._heard = self._clock.uptime()
        if frame.type is aiohttp.WSMsgType.TEXT:
            return from_coordinator(frame.data)
        if frame.type is aiohttp.WSMsgType.PING:
            await ws.pong(frame.data)
        elif frame.type is not aiohttp.WSMsgType.PONG:
            raise LinkLost(f"the coordinator closed the link ({ws.close_code}) {frame.extra or ''}".rstrip())
        return None

    async def _report(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        sent = self._outbox.acknowledged
        while True:
            report = await self._outbox.next(sent)
            await ws.send_str(encode(report))
            sent = report.seq

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            readings, self._readings = self._readings, {}
            for reading in readings.values():
                await ws.send_str(encode(reading))

    async def _beat(self, ws: aiohttp.ClientWebSocketResponse, heartbeat: float) -> None:
        while True:
            await ws.send_str(encode(self._peer.heartbeat()))
            await ws.ping()
            await asyncio.sleep(heartbeat)


def _first(group: BaseExceptionGroup[Exception]) -> str:
    err: BaseException = group
    while isinstance(err, BaseExceptionGroup):
        err = err.exceptions[0]
    return str(err) or type(err).__name__


def _about_clocks(group: BaseExceptionGroup[Exception], now: float) -> str:
    """What a certificate that is not valid now may come from: this host's clock, most of the time."""
    text = _first(group).lower()
    if "certificate" not in text or not ("not yet valid" in text or "expired" in text):
        return ""
    return (
        f"; this host's clock says {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(now))}: set it if that is wrong"
    )


def _forget_cancellations() -> None:
    """A TaskGroup that ends with a failure leaves its own request to cancel us counted (Python 3.11). With that count
    `asyncio.timeout` takes its own end for a stop (before 3.11.4), and the agent would never try again."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
