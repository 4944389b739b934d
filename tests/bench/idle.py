"""What an agent costs its host while nothing happens: memory fresh, after one and after many deployments, CPU, what
imports weigh."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import proc
from tests.bench.bundles import many, trivial
from tests.bench.figures import Figure
from tests.bench.serving import Serving, serving

PART = "idle agent"
RSS_GOAL, ANONYMOUS_GOAL = 40.0, 30.0
SETTLED = 5.0
DEPLOYMENTS, FILES = 50, 1000
WATCHED = 20.0
"""Seconds over which CPU is counted; a heartbeat goes out every 30 s, so it is counted as part of a minute."""
LIBRARIES = (
    "asyncio",
    "ssl",
    "msgspec",
    "aiohttp",
    "psutil",
    "shiftwork_contract.messages",
    "shiftwork_agent.daemon",
    "shiftwork_agent.installer",
)


async def measure(directory: Path) -> AsyncIterator[Figure]:
    async with serving(directory) as coordinator:
        with _agent(directory / "agent", coordinator, await coordinator.token(1)) as pid:
            await _linked(coordinator)
            await asyncio.sleep(SETTLED)
            for figure in _memory(pid, "linked, before any deployment"):
                yield figure
            yield await _cpu(pid, "CPU while idle")
            await coordinator.apply("AllAtOnce")
            revision = await coordinator.push(trivial(directory / "bundle", work=0.0))
            await coordinator.ended(await coordinator.deploy(revision))
            await asyncio.sleep(SETTLED)
            for figure in _memory(pid, "after its first deployment"):
                yield figure
            async for figure in _worked(pid, coordinator, directory):
                yield figure
    for figure in _imports():
        yield figure


async def _worked(pid: int, coordinator: Serving, directory: Path) -> AsyncIterator[Figure]:
    """Two revisions in turn: what grows between the first tenth and the end would grow for ever."""
    revisions = [await coordinator.push(many(directory / name, name, FILES)) for name in ("odd", "even")]
    for number in range(1, DEPLOYMENTS + 1):
        await coordinator.ended(await coordinator.deploy(revisions[number % 2]))
        if number in (DEPLOYMENTS // 5, DEPLOYMENTS):
            await asyncio.sleep(SETTLED)
            for figure in _memory(pid, f"after {number} deployments of {FILES:,} files"):
                yield figure
    yield await _cpu(pid, f"CPU while idle, after {DEPLOYMENTS} deployments")


async def _cpu(pid: int, what: str) -> Figure:
    before = proc.cpu_seconds(pid)
    await asyncio.sleep(WATCHED)
    return Figure(PART, what, (proc.cpu_seconds(pid) - before) * 60 / WATCHED, "s/min")


def _memory(pid: int, when: str) -> Iterator[Figure]:
    found = proc.memory_mib(pid)
    yield Figure(PART, f"RSS, {when}", found["rss"], "MiB", RSS_GOAL)
    yield Figure(PART, f"anonymous, {when}", found["anonymous"], "MiB", ANONYMOUS_GOAL)


def _imports() -> Iterator[Figure]:
    """What each library adds when it is imported after the ones before it."""
    before = {"rss": 0.0, "anonymous": 0.0}
    for number in range(len(LIBRARIES) + 1):
        now = _weight(LIBRARIES[:number])
        name = LIBRARIES[number - 1] if number else "the interpreter"
        yield Figure(PART, f"anonymous memory of {name}", now["anonymous"] - before["anonymous"], "MiB")
        before = now


def _weight(modules: tuple[str, ...]) -> dict[str, float]:
    """Memory of a Python process that has imported these; asked from outside, so that asking weighs nothing."""
    code = "".join(f"import {name}\n" for name in modules) + "print(flush=True)\ninput()"
    asked = [sys.executable, "-c", code]
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = proc.memory_mib(process.pid)
        process.communicate(b"\n")
    return found


@contextmanager
def _agent(home: Path, coordinator: Serving, token: str) -> Iterator[int]:
    """A real agent with all it has in `home`; the process id is the daemon's."""
    home.mkdir()
    program = str(Path(sys.executable).with_name("shiftwork-agent"))
    (home / "root").mkdir()
    places = ["--config", str(home / "agent.yml"), "--state", str(home / "state")]
    join = [
        program,
        "join",
        coordinator.url,
        "--token",
        token,
        "--name",
        "idle",
        "--install-root",
        str(home / "root"),
        *places,
    ]
    subprocess.run(join, check=True, capture_output=True)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, "run", *places], stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


async def _linked(coordinator: Serving) -> None:
    async with asyncio.timeout(20.0):
        while not all(i["connected"] for i in (await coordinator.ask("GET", "/v1/instances"))["instances"]):
            await asyncio.sleep(0.1)
