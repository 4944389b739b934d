"""Two sets of hosts behind one balancer take turns, under requests: there, back, and not with a broken revision."""

from __future__ import annotations

import pytest
from tests.system.conftest import World

from shiftwork_coordinator.lab import application, bundles, lifecycle

BLUE, GREEN = ["web-1", "web-2"], ["web-3", "web-4"]


@pytest.fixture(scope="module")
def yard(where, tmp_path_factory):
    """Nothing is installed anywhere, and nobody serves."""
    directory = tmp_path_factory.mktemp("turns")
    lab = lifecycle.up(directory / "lab", 4, where, print)
    try:
        yard = World(lab, directory / "bundles")
        names = {"green": "existing", "replacements": {"names": GREEN}}
        yard.apply(instances={"names": BLUE}, blue_green=names, config="AllAtOnce")
        for version in ("v1", "v2"):
            yard.make(version)
        yard.make("v3", defect=bundles.DEFECT)
        yield yard
    finally:
        lifecycle.down(lab)


def sides(view):
    found = {"original": [], "replacement": []}
    for target in view["targets"]:
        found.setdefault(target["role"], []).append(target["targetId"])
    return found["original"], found["replacement"]


def test_there_and_back_and_a_broken_one(yard):
    first = yard.deploy(yard.revisions["v1"])
    assert (first["status"], sides(first)) == ("Succeeded", (BLUE, GREEN)), first
    yard.fault("kill", "agent:web-1")  # how its gate stands is asked of it again
    plan = ("plan", application.GROUP_NAME, "--revision", yard.revisions["v2"])
    yard.wait(lambda: yard.run(*plan) == 0, "the agent of web-1 to come back")
    with yard.traffic():
        back = yard.deploy(yard.revisions["v2"])
        broken = yard.deploy(yard.revisions["v3"])
    assert (back["status"], sides(back)) == ("Succeeded", (GREEN, BLUE))
    assert (broken["status"], sides(broken)) == ("Failed", (BLUE, GREEN))
    assert set(yard.result.by_version) == {"v1", "v2"}, "nobody has seen v3"
    assert "originals serve as before" in broken["rollbackInfo"]["rollbackMessage"]
