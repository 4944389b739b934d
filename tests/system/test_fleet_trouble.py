"""Auto Scaling groups deployed in AWS's stand-in while its API throttles, refuses and lies, and by a coordinator that
is killed at every call which changes something: agents, requests and SIGKILL are real.

To die after one call of a row is to die before the next: nothing is stored in between. In place every call stands
alone, so there it dies before each as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.system import fleet_world
from tests.system.fleet_world import CHANGES, Fleet, changes


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_world.fleet() as found:
        yield found


def test_what_is_throttled_or_done_although_refused_or_answered_before_it_is_done(fleet: Fleet) -> None:
    version = fleet.other
    with fleet.story("in-place"):
        for change in ("*:Suspend*", "*:Register*"):
            fleet.fault("throttle", change, each=True)
        for change in ("*:Create*", "*:Deregister*", "*:DeleteTags"):
            fleet.fault("error", change, each=True, late=True, status=500)
        fleet.fault("lag", "*:Register*", each=True, first=2, seconds=0.5)
        fleet.fault("lag", "*:Resume*", each=True, seconds=0.5)
        fleet.fault("throttle", "*:Describe*", first=20, times=3)
        view = fleet.deploy(version)
    assert view["status"] == "Succeeded", view
    assert (fleet.result.failed, fleet.serving) == (0, version), fleet.result.by_reason
    fates = changes(fleet.calls)
    spared = {call.split()[0] for call, fate in fates.items() if fate[0] == 200}
    assert spared == {"ResumeProcesses"}, fates
    assert fleet.left() == []


def test_what_is_denied_in_mid_deployment_is_told_and_the_next_one_puts_it_right(fleet: Fleet) -> None:
    """In that one health is told as it was before: healthy after it left, unused when it is back. And its credentials
    expire for a while."""
    version, other = fleet.serving, fleet.other
    with fleet.story("in-place", rollback=[]):
        fleet.fault("deny", "autoscaling:ResumeProcesses", times=0)
        view = fleet.deploy(other)
    told = " ".join(target["errorInformation"]["message"] for target in view["targets"] if target["errorInformation"])
    assert view["status"] == "Failed", view
    assert "autoscaling:ResumeProcesses" in told, view
    assert "rest until somebody runs `aws autoscaling resume-processes" in told, view
    assert any("ReplaceUnhealthy" in one for one in fleet.left()), "as told"
    with fleet.story("in-place"):
        for first in range(3, 30, 5):
            fleet.fault("stale", "elbv2:DescribeTargetHealth", first=first, times=2)
        fleet.fault("stale", "autoscaling:DescribeAutoScalingGroups", first=6, times=2)
        fleet.fault("error", "*", first=30, times=15, code="ExpiredToken", status=403)
        view = fleet.deploy(version)
    assert view["status"] == "Succeeded", view
    assert (fleet.result.failed, fleet.serving) == (0, version), fleet.result.by_reason
    assert sum(call.status == 403 for call in fleet.calls) >= 10
    assert fleet.left() == []


def test_in_place_it_goes_on_from_before_and_after_every_change(fleet: Fleet) -> None:
    version = fleet.other
    with fleet.story("in-place"):
        fleet.deadlier(*CHANGES)
        view = fleet.deploy(version)
    assert view["status"] == "Succeeded", view
    assert (fleet.result.failed, fleet.serving) == (0, version), fleet.result.by_reason
    fates = changes(fleet.calls)
    assert all(fate[:2] in ([0], [0, 0]) for fate in fates.values()), f"a call was spared: {fates}"
    twice = {call.split()[0] for call, fate in fates.items() if fate[:2] == [0, 0]}
    assert twice == {call.split()[0] for call in fates}, "some targets are asked for alone once, and with others again"
    assert len(twice) == 6
    assert fleet.left() == []


@pytest.mark.parametrize(("kind", "first"), [("copy", 4), ("swap", 9)])
def test_on_the_way_back_it_gives_everything_back(fleet: Fleet, kind: str, first: int) -> None:
    """The revision is broken; or it may not give the copy traffic."""
    version = fleet.serving
    with fleet.story(kind, limits={"allow_within": "2s"}):
        fleet.deadly("*:Resume*", "*:Delete*", "*:Update*")
        fleet.deadly_reads(first, every=31)
        if kind == "copy":
            fleet.fault("deny", "elbv2:RegisterTargets", times=0)
        view = fleet.deploy(fleet.other if kind == "copy" else "v3")
    assert view["status"] == "Failed", view
    assert kind != "copy" or "elasticloadbalancing:RegisterTargets" in str(view), view
    assert (fleet.result.failed, set(fleet.result.by_version)) == (0, {version}), fleet.result.by_reason
    dead = {call.operation for call in fleet.calls if call.status == 0}
    assert {"ResumeProcesses", "DeleteTags", "UpdateAutoScalingGroup"} < dead
    assert any(operation.startswith("Describe") for operation in dead)
    assert fleet.left() == []


@pytest.mark.parametrize(("kind", "least"), [("copy", 15), ("swap", 17)])
def test_new_instances_take_over_although_it_dies_after_every_change(fleet: Fleet, kind: str, least: int) -> None:
    version = fleet.other
    with fleet.story(kind):
        fleet.deadly(*CHANGES)
        view = fleet.deploy(version)
    assert view["status"] == "Succeeded", view
    assert (fleet.result.failed, fleet.serving) == (0, version), fleet.result.by_reason
    fates = changes(fleet.calls)
    assert all(fate[0] == 0 for fate in fates.values()), f"a call was spared: {fates}"
    assert len(fates) >= least
    assert fleet.left() == []
