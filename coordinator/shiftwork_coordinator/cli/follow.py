"""A deployment's progress from now to its end, through lost connections and restarts of the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.cli.client import Api, nonsense
from shiftwork_coordinator.cli.options import deployment_path
from shiftwork_coordinator.cli.sse import Message, Parser
from shiftwork_coordinator.cli.views import Deployment, History
from shiftwork_coordinator.ports import Clock

BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to come back; the last one repeats."""


@dataclass(frozen=True)
class Beat:
    """Nothing new; time has passed."""


@dataclass(frozen=True)
class Lost:
    """The connection is gone, and is tried again until it is back."""

    reason: str


@dataclass(frozen=True)
class Back:
    """The connection is there again; nothing of the history is missed."""


Update = Deployment | History | Beat | Lost | Back


@dataclass(frozen=True)
class Pace:
    """`beat`: longest time without an update. `mute`: seconds after which a connection that brings nothing is
    made anew, as its other end may be gone. `give_up`: longest time without a connection."""

    beat: float = 1.0
    mute: float = 30.0
    give_up: float = 600.0
    backoff: tuple[float, ...] = BACKOFF


async def follow(api: Api, deployment_id: str, clock: Clock, pace: Pace) -> AsyncIterator[Update]:
    """What happens, in order, each history entry once. The last update is the ended deployment, freshly read.

    Raises Unavailable when the coordinator stays away for longer than `pace.give_up`, and whatever else it answers.
    """
    following = _Following(api, deployment_path(deployment_id), pace)
    lost_at: float | None = None
    failures = 0
    while True:
        try:
            async for update in following.once():
                failures = 0
                if lost_at is not None:
                    lost_at = None
                    yield Back()
                yield update
            if following.done:
                return
        except Unavailable as err:
            if lost_at is None:
                lost_at = clock.monotonic()
                yield Lost(err.message.partition("; ")[0])
            elif clock.monotonic() - lost_at > pace.give_up:
                raise _gave_up(deployment_id, err) from err
        yield Beat()
        await asyncio.sleep(pace.backoff[min(failures, len(pace.backoff) - 1)])
        failures += 1


class _Following:
    """How far one deployment has been followed, over any number of connections."""

    def __init__(self, api: Api, path: str, pace: Pace) -> None:
        self._api, self._path, self._pace = api, path, pace
        self._after = 0
        self._has_ended = False
        self.done = False

    async def once(self) -> AsyncIterator[Update]:
        """What one connection brings that is new, then the deployment as it is.

        Done once a stream has told of the end: one that was cut just before is followed by another.
        """
        last_one = self._has_ended
        async for update in _stream(self._api, self._path, self._after, self._pace):
            if isinstance(update, History):
                if update.number <= self._after:
                    continue
                self._after = update.number
            if isinstance(update, Deployment):
                last_one = last_one or update.ended
            yield update
        view = (await self._api.ask("GET", self._path)).read(Deployment)
        self._has_ended, self.done = view.ended, view.ended and last_one
        yield view


def _gave_up(deployment_id: str, err: Unavailable) -> Unavailable:
    return Unavailable(
        f"{err.message}. The deployment does not depend on this command; see `shiftwork status {deployment_id}`"
    )


async def _stream(api: Api, path: str, after: int, pace: Pace) -> AsyncIterator[Update]:
    """Updates until the stream ends or has been mute too long; a Beat whenever `pace.beat` seconds bring nothing."""
    parser, mute = Parser(), 0.0
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    async with api.stream(f"{path}/events", headers, query={"after": after}) as content:
        while True:
            try:
                async with asyncio.timeout(pace.beat):
                    piece = await content.readany()
                mute = 0.0
            except TimeoutError:
                yield Beat()
                mute += pace.beat
                if mute > pace.mute:
                    return
                continue
            if not piece:
                return
            for message in parser.feed(piece):
                update = _update(message)
                if update is not None:
                    yield update


def _update(message: Message) -> Deployment | History | None:
    try:
        if message.kind == "view":
            return msgspec.json.decode(message.data, type=Deployment)
        if message.kind == "history":
            return _history(message)
    except (msgspec.MsgspecError, ValueError) as err:
        raise nonsense(str(err)) from err
    return None


def _history(message: Message) -> History:
    entry = msgspec.json.decode(message.data, type=History)
    if not entry.data:
        told = msgspec.json.decode(message.data, type=dict[str, object])
        entry = msgspec.structs.replace(entry, data=told)
    return msgspec.structs.replace(entry, number=int(message.id or entry.number))
