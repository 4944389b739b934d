"""Auto Scaling groups deployed in AWS's stand-in by a coordinator that is killed at every call which changes something:
agents, requests and SIGKILL are real.

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
    version = fleet.serving
    with fleet.story(kind):
        fleet.deadly("*:Resume*", "*:Delete*", "*:Update*")
        fleet.deadly_reads(first, every=31)
        view = fleet.deploy("v3")
    assert view["status"] == "Failed", view
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
