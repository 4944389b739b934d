"""Auto Scaling groups deployed in AWS's stand-in, under traffic: what is called in which order, and that the account
stands afterwards as it did before."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from shiftwork_coordinator.demo.stage import command
from shiftwork_coordinator.lab import processes

NAMES = ("autoscaling-in-place", "autoscaling-blue-green", "autoscaling-swap")


@pytest.fixture(scope="module")
def shown() -> dict[str, dict[str, Any]]:
    """What each demonstration tells; nothing of them is left on this machine."""
    with tempfile.TemporaryDirectory(prefix="sw-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        argv = [[*command(), "demo", name, "--output", "json"] for name in NAMES]
        started = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in argv]
        told = [(demo.communicate(timeout=280), demo.returncode) for demo in started]
        for (_, complaints), code in told:
            assert code == 0, complaints
        assert list(Path(directory).iterdir()) == processes.of(Path(directory)) == []
    return {name: json.loads(out) for name, ((out, _), _) in zip(NAMES, told, strict=True)}


def changes(told: dict[str, Any]) -> list[str]:
    return [call["operation"] for call in told["awsCalls"] if not call["operation"].startswith("Describe")]


@pytest.mark.parametrize("name", NAMES)
def test_no_request_fails_and_the_account_stands_as_before(name: str, shown: dict[str, dict[str, Any]]) -> None:
    told = shown[name]
    assert (told["requests"]["failed"], told["leftBehind"], told["serving"]) == (0, [], "v2")
    assert set(told["requests"]["byVersion"]) == {"v1", "v2"}, "nobody has seen v3"
    assert told["minimumInService"] == 2


def test_a_group_rests_while_its_instances_are_changed(shown: dict[str, dict[str, Any]]) -> None:
    told = shown["autoscaling-in-place"]
    assert [one["status"] for one in told["deployments"]] == ["Succeeded", "Failed", "Succeeded"]
    assert told["deployments"][2]["rollbackOf"] == told["deployments"][1]["deploymentId"]
    rests, traffic = ["CreateOrUpdateTags", "SuspendProcesses"], {"DeregisterTargets", "RegisterTargets"}
    done = changes(told)
    assert (done[:2], done[-2:]) == (rests, ["ResumeProcesses", "DeleteTags"])
    assert [one for one in done if one not in traffic] == [*rests, "ResumeProcesses", "DeleteTags"] * 3


@pytest.mark.parametrize(("name", "made"), [("autoscaling-blue-green", 2), ("autoscaling-swap", 0)])
def test_new_instances_take_over_and_broken_ones_are_given_up(
    name: str, made: int, shown: dict[str, dict[str, Any]]
) -> None:
    told = shown[name]
    assert [one["status"] for one in told["deployments"]] == ["Succeeded", "Failed"]
    done = changes(told)
    last_in = max(n for n, one in enumerate(done) if one == "RegisterTargets")
    assert done.index("DeregisterTargets") > last_in, "all of v2 serve before any of v1 leaves; none of v3 ever does"
    assert done.count("CreateAutoScalingGroup") == done.count("DeleteAutoScalingGroup") == made
