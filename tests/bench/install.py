"""What one deployment costs its host, through `shiftwork-agent local`: seven events with hooks, and many files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from tests.bench.figures import Figure, median

from shiftwork_contract.lifecycle import THE_SEVEN

PART = "one host"
RUNS = 3
FEW, MANY, BYTES = 100, 10_000, 4096
HOOKED = ("ApplicationStop", "BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService")


class Cost(msgspec.Struct, frozen=True):
    """`events` is the sum over the lifecycle events, the rest is of the whole process, its children included."""

    events: float
    wall: float
    user: float
    rss: float


async def measure(directory: Path, few: int = FEW, many: int = MANY, runs: int = RUNS) -> AsyncIterator[Figure]:
    small = [bundle(directory / f"few-{run}", few, run, HOOKED) for run in range(runs + 1)]
    costs = [deploy(directory / "few", one) for one in small][1:]
    label = f"seven events, {few} files, {len(HOOKED)} hooks"
    yield median(PART, f"{label}: sum of the events", [1000 * cost.events for cost in costs], "ms")
    yield median(PART, f"{label}: the whole call", [1000 * cost.wall for cost in costs], "ms")
    big = [bundle(directory / f"many-{run}", many, run) for run in range(2)]
    for label, one in zip(("fresh", "the next revision"), big, strict=True):
        cost = deploy(directory / "many", one)
        name = f"{many} files of {BYTES} bytes, {label}"
        yield Figure(PART, f"{name}: wall", cost.wall, "s")
        yield Figure(PART, f"{name}: user CPU", cost.user, "s")
        yield Figure(PART, f"{name}: peak RSS", cost.rss, "MiB")


def bundle(place: Path, files: int, version: int, hooked: tuple[str, ...] = ()) -> Path:
    for number in range(files):
        path = place / "app" / f"{number % 100}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d %d\n".ljust(BYTES, b".") % (version, number))
    (place / "hook.sh").write_text("#!/bin/sh\n")
    (place / "hook.sh").chmod(0o755)
    spec = "version: 0.0\nos: linux\nfiles:\n  - source: app\n    destination: /srv/app\nhooks:\n"
    (place / "appspec.yml").write_text(spec + "".join(f"  {event}:\n    - location: hook.sh\n" for event in hooked))
    return place


def deploy(home: Path, source: Path) -> Cost:
    home.mkdir(exist_ok=True)
    program = str(Path(sys.executable).with_name("shiftwork-agent"))
    places = ["--state", str(home / "state"), "--install-root", str(home / "root")]
    asked = [program, "local", "--bundle", str(source), *places, "--events", ",".join(THE_SEVEN), "--output", "json"]
    began = time.monotonic()
    with subprocess.Popen(asked, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert answer["status"] == "Succeeded", answer
    events = sum(event["endTime"] - event["startTime"] for event in answer["lifecycleEvents"])
    return Cost(events, time.monotonic() - began, used.ru_utime, used.ru_maxrss / 1024)
