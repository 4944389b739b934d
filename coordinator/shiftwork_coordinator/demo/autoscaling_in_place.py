"""Half of an Auto Scaling group's instances at a time, its processes at rest meanwhile; a broken v3 is rolled back."""

from __future__ import annotations

from collections.abc import Sequence

from shiftwork_coordinator.demo import fleet_stage, function_stage
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.model.settings import AutoScaling

DESIRED = 4


def run(stage: Stage) -> Shown:
    scene = fleet_stage.prepared(stage, DESIRED)
    with fleet_stage.under_traffic(scene) as traffic:
        good = scene.deploy("v2")
        stage.say("v3 is broken: its ValidateService fails.")
        bad = scene.deploy("v3")
        undone = stage.rollback_of(bad["deploymentId"])
        result = traffic.stop()
    calls = function_stage.calls(stage.lab)
    statuses = ["Succeeded", "Failed", "Succeeded"]
    shown = fleet_stage.shown(scene, [good, bad, undone], result, statuses, DESIRED // 2, serves="v2")
    return Shown(shown.report, shown.lines, (*shown.problems, *awake(calls)))


def awake(calls: Sequence[Recorded]) -> list[str]:
    """Calls that changed an instance's traffic while the group did not rest."""
    rests: set[str] = set()
    found = []
    for call in calls:
        given = call.parameters.get("ScalingProcesses") or ()
        if call.operation == "SuspendProcesses":
            rests |= set(given)
        elif call.operation == "ResumeProcesses":
            rests -= set(given)
        elif call.operation in ("RegisterTargets", "DeregisterTargets") and not rests:
            found.append(f"call {call.number}, {call.operation}, while {', '.join(AutoScaling().suspend)} did not rest")
    return found
