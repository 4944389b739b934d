"""The figures for people: on a terminal, and between two marks in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from tests.bench.figures import Figure, Result, Skipped

BEGIN, END = "<!-- figures: written by python -m tests.bench --document -->", "<!-- end of figures -->"


def table(machine: Mapping[str, str], results: Sequence[Result]) -> str:
    return "\n".join(["Measured on " + described(machine), *_lines(results)])


def described(machine: Mapping[str, str]) -> str:
    versions = [f"{name} {version}" for name, version in machine.items() if name not in ("cores", "memory", "kernel")]
    basis = f"{machine['cores']} cores, {machine['memory']} memory, Linux {machine['kernel']}"
    return f"{basis}; {', '.join(versions)}"


def _lines(results: Sequence[Result]) -> Iterator[str]:
    width = max(len(r.name) for r in results if isinstance(r, Figure)) if any_figure(results) else 0
    for part, of_part in groupby(results, lambda result: result.part):
        yield f"\n{part}"
        for result in of_part:
            if isinstance(result, Skipped):
                yield f"  *** NOT MEASURED: {result.why} ***"
            else:
                yield f"  {result.name:<{width}}  {value(result):>11}  {spread(result):<22}  {verdict(result)}".rstrip()


def any_figure(results: Sequence[Result]) -> bool:
    return any(isinstance(result, Figure) for result in results)


def value(figure: Figure) -> str:
    return f"{round(figure.value, 2) + 0.0:.2f} {figure.unit}"


def spread(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"({figure.runs} samples)" if figure.runs > 1 else ""
    return f"({figure.low:.2f} to {figure.high:.2f}, {figure.runs} runs)"


def verdict(figure: Figure) -> str:
    return "" if figure.goal is None else f"goal {figure.goal:g}: {'met' if figure.met else 'MISSED'}"


def document(path: Path, machine: Mapping[str, str], results: Sequence[Result]) -> None:
    """Replaces what stands between the marks."""
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    figures = "\n".join([f"Measured on {described(machine)}.", "", *_rows(results)])
    path.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}")


def _rows(results: Sequence[Result]) -> Iterator[str]:
    yield "| | Measured | Spread | Goal |"
    yield "|---|---|---|---|"
    for part, of_part in groupby(results, lambda result: result.part):
        yield f"| **{part}** | | | |"
        for result in of_part:
            if isinstance(result, Skipped):
                yield f"| not measured: {result.why} | | | |"
            else:
                yield f"| {result.name} | {value(result)} | {spread(result).strip('()')} | {verdict(result)} |"
