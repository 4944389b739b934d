"""A copy of an Auto Scaling group takes over with v2, and the original goes; v3 is broken, and no client sees it."""

from __future__ import annotations

from shiftwork_coordinator.demo import fleet_stage
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage

DESIRED = 2


def run(stage: Stage) -> Shown:
    scene = fleet_stage.prepared(stage, DESIRED)
    scene.apply(blue_green={"green": "copy"})
    return fleet_stage.replaced(scene)
