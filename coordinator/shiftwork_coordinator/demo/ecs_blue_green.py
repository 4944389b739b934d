"""v2 is tested on a listener of its own, then gets all the traffic; v3 is broken, and no client ever sees it."""

from __future__ import annotations

from shiftwork_coordinator.demo import service_stage
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab.aws import service_sample
from shiftwork_coordinator.lab.aws.service_sample import DEFECT

KEPT_FOR = 0.5
"""Seconds for which the originals stay."""


def run(stage: Stage) -> Shown:
    made = service_stage.prepared(stage, originals={"keep_for": KEPT_FOR})
    broken = [{"name": "DEFECT", "value": DEFECT}]
    third = service_sample.definition(stage.lab, made.service, "v3", environment=broken)
    with service_stage.asking(stage, made) as traffic:
        good = service_stage.deploy(stage, made.definitions[1])
        stage.say("v3 is broken: it answers 500, which the hook finds on the test listener.")
        bad = service_stage.deploy(stage, third)
        found = traffic.stop()
    whole = service_stage.reported(stage, made, [good, bad], found)
    problems = service_stage.problems(whole, ["Succeeded", "Failed"], [1.0], ["v1", "v2"])
    return Shown(whole, service_stage.lines(whole), tuple(problems))
