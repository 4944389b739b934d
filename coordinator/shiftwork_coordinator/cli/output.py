"""Text for people: clean, in columns, with times and durations they can read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import click

from shiftwork_contract.terminal import clean

__all__ = ["clean", "clock_time", "duration", "moment", "short", "size", "table", "tell"]


def clock_time(at: float | None) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at)) if at else "--:--:--"


def moment(at: float | None) -> str:
    """The local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"


def duration(seconds: float) -> str:
    """Two units at most: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: int) -> str:
    """Bytes in the unit that fits."""
    amount, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def short(identity: str) -> str:
    """A revision's id, short enough for a line."""
    return f"{identity[:19]}…" if identity.startswith("sha256:") and len(identity) > 20 else identity


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they must be; nothing at all is printed for no rows."""
    lines = [tuple(head), *(tuple(clean(cell) for cell in row) for row in rows)]
    if len(lines) == 1:
        return
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def tags_text(tags: object) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(tags.items())) if isinstance(tags, dict) else ""


def tell(line: str) -> None:
    """A detail for the person who watches, apart from the result on stdout."""
    click.echo(line, err=True)
