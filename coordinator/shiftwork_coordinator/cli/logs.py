"""`shiftwork logs`."""

from __future__ import annotations

import asyncio
import codecs
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import click

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.cli.options import Call, api_command, deployment_path

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Api


@click.command()
@click.argument("deployment")
@click.option("--target", metavar="T", help="Only this target's.")
@click.option("--event", metavar="E", help="Only this lifecycle event's.")
@click.option("--grep", metavar="REGEX", help="Only lines in which this regular expression is found.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the deployment ends.")
@api_command
def logs(deployment: str, target: str | None, event: str | None, grep: str | None, follow: bool, call: Call) -> None:
    """Print what the hooks of a deployment wrote.

    Each line begins with its target and event, unless both are given. On a terminal, escape sequences are left out.
    """
    query = {"target": target, "event": event, "grep": grep, "follow": follow or None}
    known = (target, event) if target and event else None
    call.run(lambda api: _print(api, deployment_path(deployment, "logs"), query, known, as_json=call.json))


async def _print(
    api: Api, path: str, query: Mapping[str, object], known: tuple[str, str] | None, *, as_json: bool
) -> None:
    from shiftwork_contract.terminal import clean

    strip = sys.stdout.isatty()
    async for line in Lines(api, path, query).all():
        if as_json:
            click.echo(_object(line, known))
        else:
            click.echo(clean(line) if strip else line, color=True)


class Lines:
    """Whole lines as they come, each once, through lost connections and restarts of the coordinator where it follows.

    What is sent again after a loss may be mixed in another way, so lines are counted by where they come from.
    """

    def __init__(self, api: Api, path: str, query: Mapping[str, object]) -> None:
        self._api, self._path, self._query = api, path, query
        self._told: Counter[str] = Counter()
        self._opened = 0

    async def all(self) -> AsyncIterator[str]:
        """Raises Unavailable when there is no coordinator at first, or none for longer than `Pace.give_up`."""
        from shiftwork_coordinator.cli.follow import Pace
        from shiftwork_coordinator.cli.output import tell
        from shiftwork_coordinator.clock import SystemClock

        clock, pace, failures, lost_at = SystemClock(), Pace(), 0, 0.0
        while True:
            before = self._opened
            try:
                async for line in self._once():
                    yield line
                return
            except Unavailable as err:
                if not (self._opened and self._query.get("follow")):
                    raise
                failures = failures + 1 if self._opened == before else 1
                if failures == 1:
                    lost_at = clock.monotonic()
                    tell(f"connection lost: {err.message.partition('; ')[0]}; trying again, the deployment goes on")
                elif clock.monotonic() - lost_at > pace.give_up:
                    raise
            await asyncio.sleep(pace.backoff[min(failures, len(pace.backoff)) - 1])

    async def _once(self) -> AsyncIterator[str]:
        """What one connection brings that is new; a line that it breaks off in the middle is left to the next one."""
        seen: Counter[str] = Counter()
        async for line in self._whole():
            origin = self._origin(line)
            seen[origin] += 1
            if seen[origin] > self._told[origin]:
                self._told[origin] += 1
                yield line

    def _origin(self, line: str) -> str:
        return "" if self._query.get("target") and self._query.get("event") else line.partition(" | ")[0]

    async def _whole(self) -> AsyncIterator[str]:
        """Bytes that are not UTF-8 become the replacement character."""
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        async with self._api.stream(self._path, query=self._query) as content:
            self._opened += 1
            async for piece in content.iter_any():
                *lines, rest = (rest + decoder.decode(piece)).split("\n")
                for line in lines:
                    yield line
        if rest:
            yield rest


def _object(line: str, known: tuple[str, str] | None) -> str:
    """A line as a JSON object of its own: what it belongs to, and its text."""
    text = line
    target, event = known or ("", "")
    if known is None:
        origin, bar, after = line.partition(" | ")
        target, _, event = origin.partition(" ") if bar else ("", "", "")
        text = after if bar else line
    return json.dumps({"targetId": target, "lifecycleEventName": event, "line": text}, ensure_ascii=False)
