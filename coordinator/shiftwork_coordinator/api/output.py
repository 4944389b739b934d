"""Hook output of a deployment as text, of all its targets or of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from aiohttp import web

from shiftwork_coordinator.api.deployments import news, rows
from shiftwork_coordinator.api.links import WATCHED
from shiftwork_coordinator.api.search import Exhausted, Search, checked, searching
from shiftwork_coordinator.api.server import flag, services
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.shell.coordinator import Coordinator

PIECE = 1 << 20
GAVE_UP = b"[shiftwork: the search took too long and ended here; use a simpler regular expression]\n"


class Wanted(msgspec.Struct, frozen=True):
    target: str
    event: str
    follow: bool


async def logs(request: web.Request) -> web.StreamResponse:
    """Whole lines, each behind `target event | ` unless both are given; bytes that are no text are shown as such."""
    home, id, query = services(request).home, request.match_info["id"], request.query
    await rows(home, id)
    pattern = checked(query.get("grep", ""))
    wanted = Wanted(query.get("target", ""), query.get("event", ""), flag(query, "follow"))
    answer = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await answer.prepare(request)
    with services(request).links.held(WATCHED), suppress(Exhausted):
        async with searching(pattern) as search, aclosing(_output(home, id, wanted, search)) as pieces:
            async for piece in pieces:
                await answer.write(piece)
        return answer
    await answer.write(GAVE_UP)
    return answer


async def _output(home: Coordinator, id: str, wanted: Wanted, search: Search) -> AsyncGenerator[bytes]:
    readers: dict[tuple[str, str], Reader] = {}
    async with aclosing(news(home, id)) as changes:
        async for _ in changes:
            deployment, _targets = await rows(home, id)
            last = not wanted.follow or deployment.status in ENDED
            for target, event in _sources(home, deployment, wanted):
                reader = readers.setdefault((target, event), Reader(home, id, target, event))
                while lines := reader.next(last):
                    yield _prefixed(await search.found(lines), target, event, wanted)
            if last:
                return


def _sources(home: Coordinator, deployment: Deployment, wanted: Wanted) -> list[tuple[str, str]]:
    """In the order of the lifecycle."""
    order = [str(event) for event in events_of(deployment)]
    found = [(t, e) for t, events in home.outputs.events(deployment.id).items() for e in events]
    chosen = [(t, e) for t, e in found if wanted.target in ("", t) and wanted.event in ("", e)]
    return sorted(chosen, key=lambda s: (s[0], order.index(s[1]) if s[1] in order else len(order)))


def _prefixed(lines: bytes, target: str, event: str, wanted: Wanted) -> bytes:
    if not lines or (wanted.target and wanted.event):
        return lines
    prefix = f"{target} {event} | ".encode()
    return b"".join(prefix + line + b"\n" for line in lines.removesuffix(b"\n").split(b"\n"))


class Reader:
    """One event's output on one target, from its beginning on."""

    def __init__(self, home: Coordinator, id: str, target: str, event: str) -> None:
        self._outputs, self._of = home.outputs, (id, target, event)
        self._offset = 0

    def next(self, last: bool) -> bytes:
        """The next whole lines, or nothing. A line without end waits for it, but not past the `last` look, nor when
        it fills a whole piece."""
        data = self._outputs.read(*self._of, self._offset, PIECE)
        whole = data[: data.rfind(b"\n") + 1] or (data if last or len(data) == PIECE else b"")
        self._offset += len(whole)
        return whole if not whole or whole.endswith(b"\n") else whole + b"\n"
