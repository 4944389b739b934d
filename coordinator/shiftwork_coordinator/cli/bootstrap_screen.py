"""What `shiftwork bootstrap` shows: a line per host that is redrawn, or plain lines; a table at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from types import TracebackType

import click
from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from shiftwork_coordinator.bootstrap.fleet import Result
from shiftwork_coordinator.bootstrap.targets import Target
from shiftwork_coordinator.cli.output import clean, duration, table, tell
from shiftwork_coordinator.ports import Clock

COLUMNS = ((1, 1), (16, 40), (18, 48), (6, 12))
"""Least and greatest width of mark, host, stage and time."""
AROUND = 4
"""Lines of the screen that are not hosts."""


class Silent:
    """For --output json: stdout belongs to the result."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def told(self, target: Target, instance: str, stage: str) -> None: ...

    def ended(self, result: Result) -> None: ...


class Plain(Silent):
    """A line whenever a host comes to another stage; how far a copy has come is none."""

    def told(self, target: Target, instance: str, stage: str) -> None:
        if not stage.endswith("%"):
            tell(clean(f"{target}: {stage}"))

    def ended(self, result: Result) -> None:
        tell(clean(f"{result.target}: {outcome(result)} ({duration(result.seconds)})"))


class Live(Silent):
    """The hosts that are under way, and a count of those that are through; failures stay to be read."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._stages: dict[Target, tuple[str, float]] = {}
        self._ended: list[Result] = []
        self._live = RichLive(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def told(self, target: Target, instance: str, stage: str) -> None:
        began = self._stages[target][1] if target in self._stages else self._clock.monotonic()
        self._stages[target] = (stage, began)
        self._draw()

    def ended(self, result: Result) -> None:
        del self._stages[result.target]
        self._ended.append(result)
        self._draw()

    def _draw(self) -> None:
        room = max(self._console.size.height - AROUND, 3)
        self._live.update(picture(self._stages, self._ended, self._clock.monotonic(), room), refresh=True)


def picture(stages: dict[Target, tuple[str, float]], ended: Sequence[Result], now: float, room: int) -> Table:
    """At most `room` hosts, those that fail first."""
    grid = Table.grid(padding=(0, 2))
    for least, most in COLUMNS:
        grid.add_column(min_width=least, max_width=most, no_wrap=True, overflow="ellipsis")
    failed = [result for result in ended if result.failed]
    lines = [("✘", "bold red", result.target, result.problem, result.seconds) for result in failed]
    lines += [("▶", "cyan", target, stage, now - began) for target, (stage, began) in stages.items()]
    for mark, style, target, what, seconds in lines[:room]:
        grid.add_row(Text(mark, style=style), clean(str(target)), Text(clean(what), style=style), duration(seconds))
    more = f", {len(lines) - room} more not shown" if len(lines) > room else ""
    well = len(ended) - len(failed)
    grid.add_row("", Text(f"{well} well, {len(failed)} failed{more}", style="bold"), "", "")
    return grid


def screen(clock: Clock, *, silent: bool) -> Silent:
    """Whatever suits what stderr is."""
    if silent:
        return Silent()
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty() and not os.environ.get("CI"):
        return Live(console, clock)
    return Plain()


def outcome(result: Result) -> str:
    """`installed 0.2.0, joined, started`, or unchanged, or failed."""
    did = ", ".join(result.did)
    return f"failed{f' after: {did}' if did else ''}" if result.failed else did or "unchanged"


def summary(results: Sequence[Result], interrupted: int = 0) -> None:
    """A table of all hosts, failures last and each with its remedy."""
    ordered = sorted(results, key=lambda result: (result.failed, str(result.target)))
    rows = [(str(each.target), each.instance or "-", outcome(each), duration(each.seconds)) for each in ordered]
    table(("HOST", "INSTANCE", "DONE", "TIME"), rows)
    for each in ordered:
        if each.failed:
            click.echo(clean(f"{each.target}: {each.problem}"))
            click.echo(clean(f"    {each.remedy}"))
    failed = sum(each.failed for each in results)
    stopped = f", {interrupted} interrupted: run this again" if interrupted else ""
    click.echo(f"{len(results) - failed} well, {failed} failed{stopped}.")


def as_json(results: Sequence[Result], targets: Sequence[Target]) -> str:
    """In the order in which the hosts were named."""
    order = {target: number for number, target in enumerate(targets)}
    ranked = sorted(results, key=lambda each: order[each.target])
    return json.dumps({"hosts": [_host(each) for each in ranked]}, indent=2, ensure_ascii=False)


def _host(result: Result) -> dict[str, object]:
    return {
        "host": str(result.target),
        "instance": result.instance,
        "status": "failed" if result.failed else "changed" if result.did else "unchanged",
        "did": list(result.did),
        "seconds": round(result.seconds, 3),
        "problem": result.problem,
        "remedy": result.remedy,
    }
