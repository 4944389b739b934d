"""The default scenario: half at a time, then a broken revision that is rolled back, under steady traffic."""

from __future__ import annotations

import asyncio

from shiftwork_coordinator.demo import load, report
from shiftwork_coordinator.demo.report import Report, Shown
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.demo.tally import Result
from shiftwork_coordinator.demo.wire import Failed, one_answer
from shiftwork_coordinator.lab import application
from shiftwork_coordinator.model.config import PREDEFINED, full_name

STATUSES = ["Succeeded", "Succeeded", "Failed", "Succeeded"]


def run(stage: Stage) -> Shown:
    stage.apply()
    revisions = stage.push_all()
    first = stage.deploy(revisions["v1"])
    stage.say(f"Sending {load.RATE:g} requests/s to {stage.lab.balancer_url} from here on.")
    with load.running(stage.lab.balancer_url, stage.lab.directory / "traffic.json") as traffic:
        second = stage.deploy(revisions["v2"])
        stage.say("v3 is broken: its ValidateService fails.")
        broken = stage.deploy(revisions["v3"])
        undone = stage.rollback_of(broken["deploymentId"])
        result = traffic.stop()
    return _shown(stage, [first, second, broken, undone], result)


def _shown(stage: Stage, views: list[View], result: Result) -> Shown:
    made = [report.deployment(view) for view in views[:-1]]
    rollback = report.deployment(views[-1], rollback_of=made[-1].deployment_id)
    least = report.least_in_service(views[1:], result)
    instances = len(stage.lab.instances)
    whole = Report(
        stage.lab.runtime, instances, (*made, rollback), report.requests(result), least, serving(stage.lab.balancer_url)
    )
    floor = PREDEFINED[full_name(application.CONFIG)].minimum_healthy_hosts.of(instances)
    batches = {view["deploymentId"]: int(view.get("batches") or 0) for view in views}
    return Shown(
        whole,
        report.lines(whole, stage.names, batches, result),
        report.problems(whole, STATUSES, floor, serving="v2", versions={"v1", "v2"}),
    )


def serving(url: str) -> str:
    """The version that answers now; empty when nobody does."""
    try:
        answer = asyncio.run(one_answer(url))
    except (Failed, OSError):
        return ""
    return answer.headers.get("x-version", "") if answer.status == 200 else ""
