"""A service's traffic moves from v1 to v2: a quarter first, then all, while it is asked."""

from __future__ import annotations

from shiftwork_coordinator.demo import service_stage
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage

INTERVAL = 4.0
KEPT_FOR = 0.5
"""Seconds for which the originals stay."""


def run(stage: Stage) -> Shown:
    canary = {"canary": {"percentage": 25, "interval": INTERVAL}}
    made = service_stage.prepared(stage, canary, originals={"keep_for": KEPT_FOR})
    with service_stage.asking(stage, made) as traffic:
        view = service_stage.deploy(stage, made.definitions[1])
        found = traffic.stop()
    whole = service_stage.reported(stage, made, [view], found)
    problems = service_stage.problems(whole, ["Succeeded"], [0.25, 1.0], ["v1", "v2"])
    return Shown(whole, service_stage.lines(whole), tuple(problems))
