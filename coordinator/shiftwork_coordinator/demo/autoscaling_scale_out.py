"""A group grows in the middle of a deployment and shrinks afterwards: nothing that it launches serves unprepared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shiftwork_coordinator.demo import fleet_stage
from shiftwork_coordinator.demo.fleet_stage import Scene
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import ENDED, Stage, View
from shiftwork_coordinator.lab import operator
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.fleet_sample import GROUP_NAME
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.launches import FOLLOWS_UP

DESIRED = 2
STOPS = {"autoscaling": {"termination_hook": True}}


def run(stage: Stage) -> Shown:
    scene = fleet_stage.prepared(stage, DESIRED)
    scene.apply(bake="1h", **STOPS)
    with fleet_stage.under_traffic(scene) as traffic:
        main = _begun(scene)
        stage.say("One instance has v2, the other one waits. The group is asked for a third one.")
        _resize(scene, DESIRED + 1)
        launched = _made(stage, "autoscaling")
        scene.apply(**STOPS)
        updated = _finished(stage, main)
        followed = _made(stage, FOLLOWS_UP)
        stage.say("The group is asked for one instance less.")
        _resize(scene, DESIRED)
        ended = _made(stage, "autoscalingTermination")
        result = traffic.stop()
    scene.apply()
    views = [updated, launched, followed, ended]
    shown = fleet_stage.shown(scene, views, result, ["Succeeded"] * len(views), 1, serves="v2")
    return Shown(shown.report, shown.lines, (*shown.problems, *_wrong(scene, launched, followed)))


def _begun(scene: Scene) -> str:
    """The deployment of v2, which bakes after its first batch."""
    stage = scene.stage
    told = stage.checked("deploy", GROUP_NAME, "--revision", scene.revisions["v2"], "--no-wait")
    id = str(json.loads(told)["deploymentId"])
    stage.wait(lambda: _bakes(stage, id), "the first batch to be done")
    return id


def _bakes(stage: Stage, id: str) -> bool:
    told: Mapping[str, Any] = operator.ask(stage.lab, "GET", f"/v1/deployments/{id}/why")
    return any(reason["code"] == "BAKE" for reason in told["waiting"])


def _resize(scene: Scene, size: int) -> None:
    """Until the group has just so many instances, all of them in service."""
    stage, name = scene.stage, fleet_sample.NAME
    client(stage.lab, "autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=size)

    def resized() -> bool:
        [group] = [one for one in fleet_sample.groups(stage.lab) if one["AutoScalingGroupName"] == name]
        return [one["LifecycleState"] for one in group["Instances"]] == ["InService"] * size

    stage.wait(resized, f"{name} to have {size} instances in service")


def _made(stage: Stage, creator: str) -> View:
    """The ended deployment that the coordinator made by itself."""

    def found() -> list[View]:
        return [view for view in stage.deployments() if view["creator"] == creator and view["status"] in ENDED]

    stage.wait(lambda: bool(found()), f"a deployment by {creator}")
    return stage.view(found()[0]["deploymentId"])


def _finished(stage: Stage, id: str) -> View:
    """Goes on wherever it bakes, until it has ended."""

    def ended() -> bool:
        if _bakes(stage, id):
            stage.checked("continue", id)
        return stage.view(id)["status"] in ENDED

    stage.wait(ended, f"deployment {id} to end")
    return stage.view(id)


def _wrong(scene: Scene, launched: View, followed: View) -> list[str]:
    wanted = {"launched": (launched, "v1"), "followed up": (followed, "v2")}
    given = {what: (view["revision"]["identity"], scene.revisions[version]) for what, (view, version) in wanted.items()}
    return [f"{what} with {has}, expected {wants}" for what, (has, wants) in given.items() if has != wants]
