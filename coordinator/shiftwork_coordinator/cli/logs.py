"""`shiftwork logs`."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import click

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
    from shiftwork_coordinator.cli.output import clean

    strip = sys.stdout.isatty()
    async for line in _lines(api, path, query):
        if as_json:
            click.echo(_object(line, known))
        else:
            click.echo(clean(line) if strip else line, color=True)


async def _lines(api: Api, path: str, query: Mapping[str, object]) -> AsyncIterator[str]:
    """Whole lines as they come; bytes that are not UTF-8 become the replacement character."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    async with api.stream(path, query=query) as content:
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
