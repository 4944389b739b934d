"""Hook output of a deployment as text, of all its targets or of one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.api.deployments import news, rows
from shiftwork_coordinator.api.server import flag, services
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.shell.coordinator import Coordinator

PIECE = 1 << 20


class Wanted(msgspec.Struct, frozen=True):
    target: str
    event: str
    matches: Callable[[bytes], bool]


async def logs(request: web.Request) -> web.StreamResponse:
    """Whole lines, each behind `target event | ` unless both are given; bytes that are no text are shown as such."""
    home, id, query = services(request).home, request.match_info["id"], request.query
    await rows(home, id)
    wanted = Wanted(query.get("target", ""), query.get("event", ""), _matcher(query.get("grep", "")))
    answer = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await answer.prepare(request)
    async for piece in _output(home, id, wanted, follow=flag(query, "follow")):
        await answer.write(piece)
    return answer


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    try:
        found = re.compile(pattern.encode())
    except re.error as err:
        raise InvalidRequest(f"cannot search for {pattern!r}: it is no regular expression: {err}") from err
    return lambda line: found.search(line) is not None


async def _output(home: Coordinator, id: str, wanted: Wanted, *, follow: bool) -> AsyncIterator[bytes]:
    read: dict[tuple[str, str], int] = {}
    async for _ in news(home, id):
        deployment, _targets = await rows(home, id)
        last = not follow or deployment.status in ENDED
        for target, event in _sources(home, deployment, wanted):
            for piece in _news(home, id, target, event, read, wanted, last):
                yield piece
        if last:
            return


def _sources(home: Coordinator, deployment: Deployment, wanted: Wanted) -> list[tuple[str, str]]:
    """In the order of the lifecycle."""
    order = [str(event) for event in events_of(deployment)]
    found = [(t, e) for t, events in home.outputs.events(deployment.id).items() for e in events]
    chosen = [(t, e) for t, e in found if wanted.target in ("", t) and wanted.event in ("", e)]
    return sorted(chosen, key=lambda s: (s[0], order.index(s[1]) if s[1] in order else len(order)))


def _news(
    home: Coordinator, id: str, target: str, event: str, read: dict[tuple[str, str], int], wanted: Wanted, last: bool
) -> Iterator[bytes]:
    """A line that has no end yet waits for it, but not past the `last` look, nor when it fills a whole piece."""
    prefix = b"" if wanted.target and wanted.event else f"{target} {event} | ".encode()
    while data := home.outputs.read(id, target, event, read.get((target, event), 0), PIECE):
        whole = data[: data.rfind(b"\n") + 1] or (data if last or len(data) == PIECE else b"")
        if not whole:
            return
        read[target, event] = read.get((target, event), 0) + len(whole)
        lines = whole.removesuffix(b"\n").split(b"\n")
        yield b"".join(prefix + line + b"\n" for line in lines if wanted.matches(line))
