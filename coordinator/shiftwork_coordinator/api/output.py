"""Hook output of a deployment as text, of all its targets or of one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.api.deployments import rows
from shiftwork_coordinator.api.server import flag, services
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.shell.coordinator import Coordinator


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
    async for _ in home.changes(id):
        for target, event in await _sources(home, id, wanted):
            for piece in _news(home, id, target, event, read, wanted):
                yield piece
        if not follow:
            return


async def _sources(home: Coordinator, id: str, wanted: Wanted) -> list[tuple[str, str]]:
    """In the order of the lifecycle."""
    deployment, _ = await rows(home, id)
    order = [str(event) for event in events_of(deployment)]
    found = [(t, e) for t, events in home.outputs.events(id).items() for e in events]
    chosen = [(t, e) for t, e in found if wanted.target in ("", t) and wanted.event in ("", e)]
    return sorted(chosen, key=lambda s: (s[0], order.index(s[1]) if s[1] in order else len(order)))


def _news(
    home: Coordinator, id: str, target: str, event: str, read: dict[tuple[str, str], int], wanted: Wanted
) -> list[bytes]:
    prefix = b"" if wanted.target and wanted.event else f"{target} {event} | ".encode()
    pieces = []
    while data := home.outputs.read(id, target, event, read.get((target, event), 0)):
        whole = data[: data.rfind(b"\n") + 1] or data
        read[target, event] = read.get((target, event), 0) + len(whole)
        pieces += [prefix + line.rstrip(b"\n") + b"\n" for line in whole.splitlines(True) if wanted.matches(line)]
    return pieces
