"""The demonstration must not be able to praise itself: each promise that is broken is named."""

import msgspec
import pytest

from shiftwork_coordinator.demo import report
from shiftwork_coordinator.demo.report import Deployment, Report, Requests
from shiftwork_coordinator.demo.tally import Tally

STATUSES = ["Succeeded", "Failed"]
GOOD = Report(
    "process",
    4,
    (Deployment("d-1", "sha256:1", "Succeeded", 3.0), Deployment("d-2", "sha256:2", "Failed", 2.0, rollback_of="d-1")),
    Requests(1000, 0, {"v1": 400, "v2": 600}),
    2,
    "v2",
)


def problems(whole):
    return report.problems(whole, STATUSES, floor=2, serving="v2", versions={"v1", "v2"})


def test_what_held_has_no_problems():
    assert problems(GOOD) == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"requests": Requests(1000, 1, {"v1": 400, "v2": 600})}, "1 of 1000 requests failed"),
        ({"requests": Requests(0, 0, {"v1": 0, "v2": 0})}, "no requests"),
        ({"requests": Requests(1000, 0, {"v1": 400, "v2": 600, "v3": 1})}, "v3"),
        ({"minimum_in_service": 1}, "1 instances were in service, at least 2"),
        ({"serving": "v3"}, "v3 answers at the end"),
        ({"serving": ""}, "nobody answers"),
        ({"deployments": GOOD.deployments[:1]}, "the deployments ended"),
    ],
)
def test_each_broken_promise_is_named(change, named):
    found = problems(msgspec.structs.replace(GOOD, **change))
    assert len(found) == 1
    assert named in found[0]


def test_the_json_has_the_promised_members():
    told = msgspec.to_builtins(GOOD)
    assert list(told) == ["runtime", "instances", "deployments", "requests", "minimumInService", "serving"]
    assert list(told["deployments"][0]) == ["deploymentId", "revision", "status", "durationSeconds"]
    assert told["deployments"][1]["rollbackOf"] == "d-1"
    assert list(told["requests"]) == ["sent", "failed", "byVersion"]


def test_the_coordinators_record_goes_before_what_clients_saw():
    tally = Tally()
    tally.succeeded(0.1, "v1", "a")
    seen = tally.result(1.0)
    assert report.least_in_service([{"minimumInService": 3}, {"minimumInService": 2}], seen) == 2
    assert report.least_in_service([{}, {"minimumInService": None}], seen) == 1


def test_the_text_names_every_deployment_and_reason():
    tally = Tally()
    tally.fail(report_failure())
    shown = "\n".join(report.lines(GOOD, {"sha256:1": "v1"}, {"d-1": 2}, tally.result(1.0)))
    assert "d-1  v1 succeeded in 3.0 s, 2 batches" in shown
    assert "rollback of d-1" in shown
    assert "1 x status 503" in shown


def report_failure():
    from shiftwork_coordinator.demo.tally import Failure

    return Failure(0.0, 0.0, "GET", "new", "status 503")
