"""The traffic of an Auto Scaling group moves from v1 to v2 by weights: a quarter first, then all, while it is asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from shiftwork_coordinator.demo import fleet_account, fleet_stage, function_stage, load, report, service_stage, split
from shiftwork_coordinator.demo.fleet_stage import Scene
from shiftwork_coordinator.demo.function_stage import FORESHOCK, RATE
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.load import Invoking
from shiftwork_coordinator.demo.report import Requests, ShiftReport, Shown
from shiftwork_coordinator.demo.service_stage import NEW
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.lab.aws import fleet_sample

DESIRED = 2
INTERVAL = 4.0
KEPT_FOR = 0.5
"""Seconds for which the originals stay."""


def run(stage: Stage) -> Shown:
    scene = prepared(stage, INTERVAL, originals={"keep_for": KEPT_FOR})
    with asking(scene) as traffic:
        view = scene.deploy(NEW)
        found = traffic.stop()
    whole = reported(scene, [view], found)
    problems = service_stage.problems(whole, ["Succeeded"], [0.25, 1.0], ["v1", "v2"])
    named = [replace(one, revision=stage.names.get(one.revision, one.revision)) for one in whole.deployments]
    return Shown(whole, service_stage.lines(replace(whole, deployments=tuple(named))), tuple(problems))


def prepared(stage: Stage, interval: float, **settings: object) -> Scene:
    """A group that serves v1, whose next deployment is a canary."""
    scene = fleet_stage.prepared(stage, DESIRED, weighed=True)
    scene.apply(
        {"canary": {"percentage": 25, "interval": interval}}, config=fleet_sample.SHIFTING, load_balancers=[],
        blue_green={"shift": scene.made.shift}, alarms={"cloudwatch": [fleet_sample.ALARM], "every": "1s"},
        rollback=["failure", "alarm"], **settings,
    )  # fmt: skip
    function_stage.forget(stage.lab)
    return scene


@contextmanager
def asking(scene: Scene) -> Iterator[Invoking]:
    url = fleet_sample.url(scene.stage.lab, scene.made)
    scene.stage.say(f"Asking {url} {RATE:g} times a second from here on.")
    with load.asking(url, scene.stage.lab.directory / "requests.json", RATE) as traffic:
        time.sleep(FORESHOCK)
        yield traffic


def reported(scene: Scene, views: Sequence[View], found: Sequence[Invocation], new: str = NEW) -> ShiftReport:
    stage, made = scene.stage, scene.made
    recorded = function_stage.calls(stage.lab)
    served = Counter(one.version for one in found if one.fine)
    moved = split.shares(recorded, made.listener, made.others)
    return ShiftReport(
        stage.lab.runtime,
        made.desired,
        tuple(report.deployment(view) for view in views),
        Requests(len(found), sum(not one.fine for one in found), dict(sorted(served.items()))),
        service_stage.least_hosts(found),
        found[-1].version if found else "",
        aws_calls=tuple(recorded),
        traffic_weights=tuple(step for view in views for step in view["trafficWeights"]),
        split=split.between(found, moved, fleet_sample.GROUP_NAME, new),
        left_behind=tuple(fleet_account.left(stage, made, scene.before)),
    )
