"""Two Auto Scaling groups swap their sizes: v2 takes over on the one, v3 is broken and given up on the other."""

from __future__ import annotations

from shiftwork_coordinator.demo import fleet_stage
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab.aws.fleet_sample import STANDBY

DESIRED = 2


def run(stage: Stage) -> Shown:
    scene = fleet_stage.prepared(stage, DESIRED, standby=True)
    scene.apply(blue_green={"green": "swap", "standby": STANDBY})
    return fleet_stage.replaced(scene)
