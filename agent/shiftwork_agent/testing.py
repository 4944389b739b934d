"""A coordinator in a test's own event loop: speaks the coordinator's side of the link, and plays its bad moods.

async with FakeCoordinator() as coordinator:
    ... an agent that is configured with coordinator.url ...
    await coordinator.send(RunCommand(coordinator.epoch, command))
    ended = await coordinator.expect(CommandEnded, command_id=command.id)
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import (
    MAX_MESSAGE,
    Acknowledge,
    Command,
    FromAgent,
    GroupState,
    Hello,
    Message,
    Output,
    Report,
    Welcome,
    encode,
    from_agent,
)


@dataclass(frozen=True)
class FakeHook:
    location: str
    timeout: float = 60.0
    runas: str = ""
    sudo: bool = False


class FakeScripts(msgspec.Struct, frozen=True):
    hooks: dict[str, tuple[FakeHook, ...]] = {}


class FakeInstaller:
    """Revisions are directories that a test has filled with `put`; installing one only remembers it, on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prepared: list[str] = []
        self.problems: dict[str, str] = {}

    def put(self, revision: str, scripts: dict[str, str], **options: Any) -> None:
        """A revision with one script per event; `options` are FakeHook's."""
        directory = self.bundle_dir(revision)
        directory.mkdir(parents=True)
        for event, script in scripts.items():
            (directory / f"{event}.sh").write_text(script)
        hooks: dict[str, tuple[FakeHook, ...]] = {event: (FakeHook(f"{event}.sh", **options),) for event in scripts}
        self._scripts(revision).write_bytes(msgspec.json.encode(FakeScripts(hooks)))

    async def prepare(self, command: Command, *, serving: bool = False) -> None:
        self.prepared.append(command.revision.identity)
        self._fail("prepare")

    async def admit(self, command: Command, *, installed: bool = False) -> None:
        self._fail("admit installed" if installed else "admit")

    async def install(self, command: Command) -> None:
        self._fail("install")
        state = GroupState(command.group_id, command.revision.identity, command.deployment_id)
        (self.root / command.group_id).write_bytes(msgspec.json.encode(state))

    def _fail(self, verb: str) -> None:
        if problem := self.problems.get(verb):
            raise InvalidRequest(problem)

    def _scripts(self, revision: str) -> Path:
        return self.root / f"{revision}.json"

    def bundle_dir(self, identity: str) -> Path:
        return self.root / identity

    def appspec(self, command: Command, *, installed: bool = False) -> FakeScripts:
        identity = self.installed(command.group_id).installed if installed else command.revision.identity
        if not self._scripts(identity).exists():
            raise InvalidRequest(f"cannot find revision {identity}: it is not on this host")
        return msgspec.json.decode(self._scripts(identity).read_bytes(), type=FakeScripts)

    def installed(self, group_id: str) -> GroupState:
        try:
            return msgspec.json.decode((self.root / group_id).read_bytes(), type=GroupState)
        except FileNotFoundError:
            return GroupState(group_id)


M = TypeVar("M", bound=Message)


class FakeCoordinator:
    """`received` holds every message in the order of arrival, `reports` each report once, by number.

    `acknowledging` off: reports stay unacknowledged. `absent` on: links are refused, as by a host that is down.
    """

    def __init__(self, *, epoch: int = 1, heartbeat: float = 30.0, tls: ssl.SSLContext | None = None) -> None:
        self.epoch, self.heartbeat = epoch, heartbeat
        self.acknowledging = True
        self.absent = False
        self.received: list[FromAgent] = []
        self.reports: dict[int, Report] = {}
        self.hellos: list[Hello] = []
        self._tls = tls
        self._news = asyncio.Condition()
        self._link: web.WebSocketResponse | None = None
        self._expected = 0
        self.app = web.Application()
        self.app.router.add_get("/v1/agent/link", self._serve)
        self._runner = web.AppRunner(self.app, shutdown_timeout=0.1)
        self.url = ""

    async def __aenter__(self) -> FakeCoordinator:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.absent:
            raise web.HTTPServiceUnavailable
        link = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False)
        await link.prepare(request)
        hello = from_agent(await link.receive_str())
        assert isinstance(hello, Hello)
        await link.send_str(encode(Welcome(1, self.epoch, "i-fake", self.heartbeat)))
        self._link = link
        await self._note(hello)
        async for frame in link:
            if frame.type is WSMsgType.TEXT:
                await self._take(link, from_agent(frame.data))
        return link

    async def _take(self, link: web.WebSocketResponse, message: FromAgent) -> None:
        if isinstance(message, Report):
            self.reports.setdefault(message.seq, message)
        await self._note(message)
        if isinstance(message, Report) and self.acknowledging and not link.closed:
            await link.send_str(encode(Acknowledge(message.seq)))

    async def _note(self, message: FromAgent) -> None:
        async with self._news:
            if isinstance(message, Hello):
                self.hellos.append(message)
            self.received.append(message)
            self._news.notify_all()

    async def linked(self, count: int = 1, *, within: float = 60.0) -> Hello:
        """The `count`-th Hello."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: len(self.hellos) >= count)
        return self.hellos[count - 1]

    async def send(self, message: Message) -> None:
        assert self._link is not None, "no agent is linked"
        await self._link.send_str(encode(message))

    async def expect(self, kind: type[M], *, within: float = 60.0, **fields: object) -> M:
        """The first message of this kind with these fields after the one expected last; others are passed over."""

        def found() -> bool:
            return any(_is(message, kind, fields) for message in self.received[self._expected :])

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(found)
        except TimeoutError:
            seen = "\n".join(f"  {message}" for message in self.received[self._expected :])
            raise AssertionError(f"no {kind.__name__} {fields} within {within:g} s; after the last:\n{seen}") from None
        while not _is(message := self.received[self._expected], kind, fields):
            self._expected += 1
        self._expected += 1
        assert isinstance(message, kind)
        return message

    def output(self, command_id: str, event: str) -> bytes:
        """An event's output put together, each byte once; a gap is an AssertionError."""
        whole = b""
        for piece in (self.reports[seq] for seq in sorted(self.reports)):
            if isinstance(piece, Output) and (piece.command_id, piece.event) == (command_id, event):
                assert piece.offset == len(whole), f"output has {len(whole)} bytes, the next piece is at {piece.offset}"
                whole += piece.data
        return whole

    async def hang_up(self) -> None:
        """Ends the link; the agent may come back."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()


def _is(message: Message, kind: type[Message], fields: dict[str, object]) -> bool:
    return isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items())
