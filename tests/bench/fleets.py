"""Auto Scaling groups in AWS's stand-in, in place, half at a time: what a deployment takes besides its hooks, draining
and health; what it calls of AWS, however many instances there are; how soon it goes on when an instance is healthy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.bench.bundles import trivial
from tests.bench.figures import Figure, percentile
from tests.bench.serving import serving
from tests.bench.swarm import Moments, swarm
from tests.conftest import MotoServer
from tests.system import aws_world

from shiftwork_coordinator.demo import fleet_stage
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.lab import lifecycle
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.balancing.health import Settings
from shiftwork_coordinator.lab.aws.fleets.launcher import Launcher
from shiftwork_coordinator.lab.aws.fleets.machine import IN_SERVICE, Machine
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import APP_PORT

PART = "Auto Scaling"
REAL, SIZES = 10, (10, 1000)
BATCHES = 2
DELAY = 1.0
"""Seconds of deregistration delay, as the sample's target group has it."""
POLL = 1.0
"""Seconds between two answers about targets that somebody waits for."""
TRAFFIC = ("BlockTraffic", "AllowTraffic")


async def measure(directory: Path) -> AsyncIterator[Figure]:
    for figure in await asyncio.to_thread(_overhead, directory):
        yield figure
    moto = MotoServer()
    try:
        for size in SIZES:
            moto.reset()
            for figure in await _called(moto.url, directory / f"{size}", size):
                yield figure
    finally:
        moto.close()


# Real agents


def _overhead(directory: Path) -> list[Figure]:
    lab = lifecycle.aws_up(directory / "lab", lambda line: None)
    try:
        scene = fleet_stage.prepared(Stage(lab, lambda line: None, None), REAL)
        with fleet_stage.under_traffic(scene):
            view = scene.deploy("v2")
    finally:
        lifecycle.down(lab)
    took, alone = view["completeTime"] - view["startTime"], _alone(view)
    return [
        Figure(PART, f"in place over {REAL} instances, half at a time, real agents", took, "s"),
        Figure(PART, "hooks, draining and health of its batches alone", alone, "s"),
        Figure(PART, "the one against the other", took / alone, "x"),
    ]


def _alone(view: View) -> float:
    """Of each batch the instance whose events took longest, the deregistration delay, and one health check."""
    worked = sorted(_worked(target) for target in view["targets"] if target["lifecycleEvents"])
    half = len(worked) // BATCHES
    longest = sum(worked[-1 - n * half] for n in range(BATCHES))
    return longest + BATCHES * (DELAY + Settings().check_every)


def _worked(target: Any) -> float:
    events = [one for one in target["lifecycleEvents"] if one["lifecycleEventName"] not in TRAFFIC]
    return sum((one["endTime"] or 0.0) - (one["startTime"] or 0.0) for one in events)


# Simulated agents


class Watched:
    """The stand-in's targets, each of which answers its checks; `healthy` tells when one became so."""

    def __init__(self, balancing: Balancing) -> None:
        self.healthy: dict[str, float] = {}
        self._fresh: set[str] = set()
        targets, register = balancing.targets, balancing.targets.register
        targets._check = self._checked

        def registered(group: str, ids: Iterable[tuple[str, int | None]]) -> None:
            given = list(ids)
            self._fresh |= {id for id, _ in given}
            register(group, given)

        targets.register = registered  # type: ignore[method-assign]

    async def _checked(self, address: str, about: object, target: Any) -> str:
        if target.id in self._fresh:
            self._fresh.discard(target.id)
            self.healthy[target.id] = time.monotonic()
        return ""


async def _born(launcher: Launcher, machine: Machine) -> None:
    machine.state = IN_SERVICE


async def _called(moto: str, directory: Path, size: int) -> list[Figure]:
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Launcher, "_live", _born)
        async with aws_world.aws(moto, directory, patch) as aws, serving(directory) as coordinator:
            made = await asyncio.to_thread(fleet_sample.make, aws.lab, size)
            watched, ids = Watched(aws.standin.balancing), sorted(aws.standin.launcher.machines)
            await asyncio.to_thread(_registered, aws.lab, made.targets, ids)
            token = await coordinator.token(size)
            async with swarm(coordinator.url, coordinator.ca, token, size, names=ids) as agents:
                await coordinator.apply(
                    "HalfAtATime", instances={"autoscaling": [fleet_sample.NAME]}, port=APP_PORT,
                    load_balancers=[{"elbv2": {"target_group": made.targets}}],
                    quiet={"port": APP_PORT, "for": "200ms"},
                )  # fmt: skip
                agents.set_pace(0.02)
                for version in ("v1", "v2"):
                    aws.standin.recording.clear()
                    agents.moments.clear()
                    revision = await coordinator.push(trivial(directory / version, version))
                    await coordinator.ended(await coordinator.deploy(revision))
                names = [call.operation for call in aws.calls()]
                return [*_counted(names, size), *_reacted(watched.healthy, agents.moments, size)]


def _registered(lab: Any, group: str, ids: list[str]) -> None:
    for start in range(0, len(ids), 200):
        targets = [{"Id": id, "Port": APP_PORT} for id in ids[start : start + 200]]
        client(lab, "elbv2").register_targets(TargetGroupArn=group, Targets=targets)


def _counted(names: list[str], size: int) -> list[Figure]:
    moved = sum(name in ("RegisterTargets", "DeregisterTargets") for name in names)
    changed = sum(not name.startswith("Describe") for name in names)
    return [
        Figure(PART, f"AWS calls, {size:,} instances", len(names), "calls"),
        Figure(PART, f"AWS calls per target, {size:,} instances", len(names) / size, "calls"),
        Figure(PART, f"of them to register and deregister, {size:,} instances", moved, "calls"),
        Figure(PART, f"of them that change something else, {size:,} instances", changed - moved, "calls"),
    ]


def _reacted(healthy: dict[str, float], moments: Moments, size: int) -> list[Figure]:
    """Seconds from the check that made a target healthy to its agent's next command."""
    came: dict[str, float] = {}
    for at, command in moments.commands:
        instance = command.id.split(".")[1]
        if at > healthy[instance]:
            came.setdefault(instance, at)
    waits = [came[instance] - healthy[instance] for instance in came]
    name = f"from healthy to the next command, {size:,} instances"
    return [
        Figure(PART, f"p50, {name}", percentile(waits, 50), "s", runs=len(waits)),
        Figure(PART, f"p99, {name}", percentile(waits, 99), "s", runs=len(waits)),
        Figure(PART, f"longest, {name}", max(waits), "s", POLL, runs=len(waits)),
    ]
