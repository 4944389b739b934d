"""Figures: a name, what was measured, the goal it is held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec


class Figure(msgspec.Struct, frozen=True, rename="camel"):
    """`value` in `unit`; `goal` is the most it should be. `low` and `high` are the extremes of `runs` runs."""

    part: str
    name: str
    value: float
    unit: str
    goal: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 1

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal


class Skipped(msgspec.Struct, frozen=True, rename="camel"):
    part: str
    why: str


Result = Figure | Skipped


def median(part: str, name: str, values: Sequence[float], unit: str, goal: float | None = None) -> Figure:
    return Figure(part, name, statistics.median(values), unit, goal, min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * int(percent) // 100) - 1)]


def plain(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [{**msgspec.to_builtins(r), **({"met": r.met} if isinstance(r, Figure) else {})} for r in results]
