"""What the demonstrations with Auto Scaling groups share: one under traffic, the report, and what must hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from shiftwork_coordinator.demo import fleet_account, function_stage, load, report
from shiftwork_coordinator.demo.function_stage import FORESHOCK
from shiftwork_coordinator.demo.half_at_a_time import serving
from shiftwork_coordinator.demo.load import Load
from shiftwork_coordinator.demo.report import AwsReport, Shown
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.demo.tally import Result
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.fleet_sample import GROUP_NAME, Made
from shiftwork_coordinator.launches import FOLLOWS_UP
from shiftwork_coordinator.model.rows import APART

RATE = 40.0
TO_SOME = APART | {FOLLOWS_UP}
"""Creators whose deployments go to some of the instances."""


class Scene(NamedTuple):
    """`revisions` by version; `before` is the account as it was, but for targets, which v1 makes healthy."""

    stage: Stage
    made: Made
    revisions: dict[str, str]
    before: dict[str, Any]

    def apply(self, traffic: Mapping[str, Any] | None = None, **settings: object) -> None:
        self.stage.checked("apply", "-f", str(fleet_sample.write(self.stage.lab, self.made, traffic, **settings)))

    def deploy(self, version: str) -> View:
        """The ended deployment, whatever its end."""
        revision = self.revisions[version]
        self.stage.say(f"$ shiftwork deploy {GROUP_NAME} --revision {revision[:19]}…  ({version})")
        view = self.stage.deployed(version, GROUP_NAME, "--revision", revision)
        time.sleep(FORESHOCK)
        return view


def prepared(stage: Stage, desired: int, *, standby: bool = False, weighed: bool = False) -> Scene:
    """A group of `desired` instances that serve v1."""
    stage.say(f"Launching {desired} instances ...")
    made = fleet_sample.make(stage.lab, desired, standby=standby, weighed=weighed)
    fleet_sample.await_agents(stage.lab, made)
    scene = Scene(stage, made, {}, fleet_account.facts(stage.lab, made) | {"targets": ["healthy"] * desired})
    scene.apply(config="AllAtOnce", quiet={"at_most": "500ms"})  # nobody asks yet, and nothing would answer
    scene.revisions.update(stage.push_all())
    scene.deploy("v1")
    scene.apply()
    function_stage.forget(stage.lab)
    return scene


@contextmanager
def under_traffic(scene: Scene) -> Iterator[Load]:
    url = fleet_sample.url(scene.stage.lab, scene.made)
    scene.stage.say(f"Sending {RATE:g} requests/s to {url} from here on.")
    with load.running(url, scene.stage.lab.logs / "traffic.json", RATE) as traffic:
        time.sleep(FORESHOCK)
        yield traffic


def shown(scene: Scene, views: Sequence[View], result: Result, statuses: list[str], floor: int, serves: str) -> Shown:
    """`floor`: the least that are to be in service; `serves`: the version that is to answer at the end."""
    stage, made = scene.stage, scene.made
    recorded = function_stage.calls(stage.lab)
    left = fleet_account.left(stage, made, scene.before)
    counting = [view for view in views if view["creator"] not in TO_SOME]
    whole = AwsReport(
        stage.lab.runtime, made.desired, _deployments(views), report.requests(result),
        report.least_in_service(counting, result), serving(fleet_sample.url(stage.lab, made)),
        aws_calls=tuple(recorded), left_behind=tuple(left),
    )  # fmt: skip
    batches = {view["deploymentId"]: int(view.get("batches") or 0) for view in views}
    told = report.lines(whole, stage.names, batches, result)
    problems = report.problems(whole, statuses, floor, serves, {"v1", "v2"})
    gone = f"left behind: {', '.join(left)}"
    return Shown(whole, (*told, function_stage.called(whole)), (*problems, *([gone] if left else [])))


def _deployments(views: Sequence[View]) -> tuple[report.Deployment, ...]:
    undone = {view["rollbackInfo"]["rollbackDeploymentId"]: view["deploymentId"] for view in views}
    return tuple(report.deployment(view, rollback_of=undone.get(view["deploymentId"], "")) for view in views)


def replaced(scene: Scene) -> Shown:
    """New instances take over with v2; those with v3, which is broken, are given up and serve nobody."""
    with under_traffic(scene) as traffic:
        good = scene.deploy("v2")
        scene.stage.say("v3 is broken: its ValidateService fails before any request reaches it.")
        bad = scene.deploy("v3")
        result = traffic.stop()
    return shown(scene, [good, bad], result, ["Succeeded", "Failed"], scene.made.desired, serves="v2")
