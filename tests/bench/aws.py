"""Functions in AWS's stand-in: how exactly shares are set, how fast an alarm turns traffic back, what is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.bench.figures import Figure, median
from tests.conftest import MotoServer
from tests.system import aws_world
from tests.system.aws_world import HOOKED, READS, WATCHED, Aws, Home

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.lab.aws import sample

PART = "functions"
STEP, PERCENT = 1.0, 10
"""A linear shift of nine waits."""
ALARMS = 3
WAITS = (1.0, 11.0)
IDLE_GROUPS, IDLE_FOR = 1000, 10.0


async def measure(directory: Path) -> AsyncIterator[Figure]:
    moto = MotoServer()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for work in (_punctual, _alarmed, _called, _idle):
                moto.reset()
                place = directory / work.__name__
                async with aws_world.aws(moto.url, place, patch) as cloud, aws_world.home(place / "home") as home:
                    await cloud.make()
                    for figure in await work(cloud, home):
                        yield figure
    finally:
        moto.close()


async def _punctual(cloud: Aws, home: Home) -> list[Figure]:
    """A step is due its interval after the one before was seen to be in force."""
    await home.linear(STEP, PERCENT)
    await home.group(config="linear")
    id = await home.deploy()
    await home.ended(id)
    due = [at + STEP for at, _ in await home.weights(id)][:-1]
    set_at = [call for call in cloud.calls() if call.operation == "UpdateAlias"][1:]
    late = [call.answered - moment for call, moment in zip(set_at, due, strict=True)]
    early = max(moment - call.at for call, moment in zip(set_at, due, strict=True))
    return [
        Figure(PART, "a share is in force after its due time by at most", max(late), "s", 1.0, runs=len(late)),
        Figure(PART, "a share is set before its due time by at most", max(early, 0.0), "s", 0.0, runs=len(late)),
    ]


async def _alarmed(cloud: Aws, home: Home) -> list[Figure]:
    await home.canary(60.0)
    await home.group(config="canary", alarms=WATCHED, rollback=("alarm",))
    watch, took = cloud.client("cloudwatch"), []
    for _ in range(ALARMS):
        cloud.standin.recording.clear()
        await asyncio.to_thread(watch.set_alarm_state, AlarmName=sample.ALARM, StateValue="OK", StateReason="bench")
        id = await home.deploy()
        await aws_world.until(lambda: len(cloud.done()) == 1)
        await asyncio.to_thread(watch.set_alarm_state, AlarmName=sample.ALARM, StateValue="ALARM", StateReason="bench")
        red = SystemClock().now()
        await home.ended(id)
        took.append(cloud.calls()[_last(cloud)].answered - red)
    return [median(PART, "from red to all traffic back, alarm read every 1 s", took, "s", WATCHED.every + 2.0)]


def _last(cloud: Aws) -> int:
    return max(n for n, call in enumerate(cloud.calls()) if call.operation == "UpdateAlias")


async def _called(cloud: Aws, home: Home) -> list[Figure]:
    await home.group(config="canary", hooks=HOOKED, alarms=WATCHED)
    counted: list[tuple[int, int]] = []
    for wait in WAITS:
        cloud.standin.recording.clear()
        await home.canary(wait)
        await home.ended(await home.deploy())
        await asyncio.to_thread(
            cloud.client("lambda").update_alias, FunctionName=sample.FUNCTION, Name=sample.ALIAS, FunctionVersion="1"
        )
        calls = [call.operation for call in cloud.calls()]
        counted.append((len(calls), sum(name not in READS for name in calls)))
    (few, writes), (many, same) = counted
    further = (many - few) / (WAITS[1] - WAITS[0])
    return [
        Figure(PART, f"AWS calls of a canary that waits {WAITS[0]:g} s", few, "calls"),
        Figure(PART, f"AWS calls of a canary that waits {WAITS[1]:g} s", many, "calls"),
        Figure(PART, "calls per second of further waiting (alarm every 1 s, alias every 10 s)", further, "calls/s"),
        Figure(PART, "calls that change something, more of them by waiting longer", same - writes, "calls", 0.0),
    ]


async def _idle(cloud: Aws, home: Home) -> list[Figure]:
    await home.groups(IDLE_GROUPS)
    await home.restart()
    await asyncio.sleep(IDLE_FOR)
    name = f"AWS calls in {IDLE_FOR:g} s, {IDLE_GROUPS:,} groups and no deployment"
    return [Figure(PART, name, len(cloud.calls()), "calls", 0.0)]
