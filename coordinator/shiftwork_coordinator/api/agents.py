"""The agents' end of the link: one WebSocket per agent, opened by it and authenticated by its certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp import WSMsgType, web

from shiftwork_contract.errors import ContractViolation
from shiftwork_contract.messages import (
    MAX_MESSAGE,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Acknowledge,
    CommandEnded,
    FromAgent,
    FromCoordinator,
    Heartbeat,
    Hello,
    Observed,
    Refused,
    RenewCertificate,
    Report,
    Unsupported,
    Upgraded,
    Welcome,
    encode,
    from_agent,
)
from shiftwork_coordinator.shell.coordinator import Coordinator

log = structlog.get_logger()
HEARTBEAT = 30.0
HELLO_WITHIN = 10.0
TOGETHER = 64
"""Reports of one agent that are made durable together at most; it is not read from while that many wait."""
GATHER = 0.1
"""Seconds for which reports wait for others of the same agent. A report that decides something is not kept waiting."""
DECIDING = CommandEnded | Refused
BACKLOG = 1000
"""Messages waiting for one agent; an agent that takes none of them is disconnected and catches up when it returns."""


class Link:
    """shell.agents.Session over a WebSocket: messages are queued, one task sends them in order."""

    def __init__(self, socket: web.WebSocketResponse, instance: str) -> None:
        self._socket, self._instance = socket, instance
        self._queue: asyncio.Queue[FromCoordinator | None] = asyncio.Queue()
        self._reports: list[Report] = []
        self._due, self._room = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, message: FromCoordinator) -> None:
        if self._queue.qsize() > BACKLOG:
            self.close("it does not read what is sent to it")
            return
        self._queue.put_nowait(message)

    def close(self, reason: str) -> None:
        log.info("link closed", instance=self._instance, reason=reason)
        self._queue.put_nowait(None)

    async def pump(self) -> None:
        """Sends until closed."""
        while (message := await self._queue.get()) is not None:
            await self._socket.send_str(encode(message))
        await self._socket.close()

    async def take(self, report: Report) -> None:
        """Keeps it for `record`. Waits while too many are being made durable."""
        while len(self._reports) >= TOGETHER:
            self._room.clear()
            await self._room.wait()
        self._reports.append(report)
        if isinstance(report, DECIDING) or len(self._reports) >= TOGETHER:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._due.set)

    async def record(self, home: Coordinator) -> None:
        """Makes durable together what came together, and acknowledges it at once, until cancelled."""
        while await self._due.wait():
            reports = self._gathered()
            await home.report(self._instance, *reports)
            self.send(Acknowledge(reports[-1].seq))

    def _gathered(self) -> list[Report]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.clear()
        self._room.set()
        reports, self._reports = self._reports, []
        return reports


async def serve_link(request: web.Request, home: Coordinator, instance: str) -> web.WebSocketResponse:
    """Speaks the protocol of shiftwork_contract.messages until either side closes."""
    socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT)
    await socket.prepare(request)
    link = Link(socket, instance)
    try:
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(link.pump()), group.create_task(link.record(home))]
            await _converse(socket, home, instance, link)
            for task in working:
                task.cancel()
    except* ConnectionError:
        log.info("link lost", instance=instance)
    except* ContractViolation as err:
        await _refuse(socket, instance, _first(err))
    finally:
        home.disconnected(instance, link)
    return socket


async def _converse(socket: web.WebSocketResponse, home: Coordinator, instance: str, link: Link) -> None:
    messages = _messages(socket)
    hello = await _hello(messages, instance)
    if hello is None:
        return
    link.send(Welcome(min(PROTOCOL_MAX, hello.protocol_max), home.epoch, instance, HEARTBEAT))
    await home.connected(instance, hello, link)
    log.info("agent connected", instance=instance, version=hello.agent_version)
    async for message in messages:
        await _handle(home, instance, link, message)


async def _refuse(socket: web.WebSocketResponse, instance: str, problem: str) -> None:
    log.warning("agent broke the protocol", instance=instance, problem=problem)
    await socket.close(code=1002, message=problem.encode()[:120])


def _first(group: BaseExceptionGroup[ContractViolation]) -> str:
    err: BaseException = group
    while isinstance(err, BaseExceptionGroup):
        err = err.exceptions[0]
    return str(err)


async def _messages(socket: web.WebSocketResponse) -> AsyncIterator[FromAgent]:
    async for frame in socket:
        if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            yield from_agent(frame.data)


async def _hello(messages: AsyncIterator[FromAgent], instance: str) -> Hello | None:
    try:
        async with asyncio.timeout(HELLO_WITHIN):
            first = await anext(messages, None)
    except TimeoutError as err:
        raise ContractViolation(f"{instance} did not say hello within {HELLO_WITHIN:g} s") from err
    if first is None or isinstance(first, Hello):
        if first is not None and (first.protocol_min > PROTOCOL_MAX or first.protocol_max < PROTOCOL_MIN):
            raise ContractViolation(
                f"{instance} speaks protocol {first.protocol_min} to {first.protocol_max}, this coordinator"
                f" {PROTOCOL_MIN} to {PROTOCOL_MAX}; upgrade the older of the two"
            )
        return first
    raise ContractViolation(f"{instance} must say Hello first, not {type(first).__name__}")


async def _handle(home: Coordinator, instance: str, link: Link, message: FromAgent) -> None:
    if isinstance(message, Report):
        await link.take(message)
    elif isinstance(message, Heartbeat | Observed):
        home.reading(instance, message)
    elif isinstance(message, Upgraded):
        home.upgrades.told(instance, message)
    elif isinstance(message, RenewCertificate):
        link.send(await home.renew(instance, message.csr))
    elif isinstance(message, Unsupported):
        log.info("agent does not support a message", instance=instance, kind=message.what)
    else:
        link.send(Unsupported(type(message).__name__))
