"""`make bench`: measures speed and size on this machine, side by side with other tools, in about ten minutes."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop
from tests.bench import aws, bundle, fleets, idle, install, latency, proc, race, report, restart, scale
from tests.bench.figures import Result, plain

PARTS: dict[str, Callable[[Path], AsyncIterator[Result]]] = {
    "race": race.measure,
    "latency": latency.measure,
    "scale": scale.measure,
    "idle": idle.measure,
    "install": install.measure,
    "restart": restart.measure,
    "bundle": bundle.measure,
    "aws": aws.measure,
    "fleets": fleets.measure,
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


async def measured(parts: list[str]) -> list[Result]:
    """The figures of these parts, one part after the other so that they do not disturb each other."""
    results: list[Result] = []
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="shiftwork-bench-") as name:
            results += [result async for result in PARTS[part](Path(name))]
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--document", action="store_true", help="put the figures into docs/benchmarks.md")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    results = uvloop.run(measured(options.parts or list(PARTS)))
    machine = proc.machine()
    if options.output == "json":
        print(json.dumps({"machine": machine, "figures": plain(results)}, indent=2))
    else:
        print(report.table(machine, results))
    if options.document:
        report.document(DOCUMENT, machine, results)


if __name__ == "__main__":
    main()
