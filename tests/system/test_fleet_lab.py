"""Auto Scaling groups deployed in AWS's stand-in, under traffic: what is called in which order, and that the account
stands afterwards as it did before."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from shiftwork_coordinator.demo import server_canary, split
from shiftwork_coordinator.demo.stage import Stage, command
from shiftwork_coordinator.lab import bundles, lifecycle, processes
from shiftwork_coordinator.lab.aws.fleet_sample import ALARM
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import APP_PORT, Lab

NAMES = (
    "autoscaling-in-place", "autoscaling-scale-out", "autoscaling-blue-green", "autoscaling-swap", "server-canary"
)  # fmt: skip
HOOKS = ("PutLifecycleHook", "DeleteLifecycleHook")
AT_ONCE = 2
"""Labs that two processors have time for: each is a dozen processes under steady requests."""


@pytest.fixture(scope="module")
def shown() -> dict[str, dict[str, Any]]:
    """What each demonstration tells; nothing of them is left on this machine."""
    with tempfile.TemporaryDirectory(prefix="sw-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        with ThreadPoolExecutor(AT_ONCE) as few:
            told = list(few.map(told_by, NAMES))
        assert list(Path(directory).iterdir()) == processes.of(Path(directory)) == []
    return dict(zip(NAMES, told, strict=True))


def told_by(name: str) -> dict[str, Any]:
    argv = [*command(), "demo", name, "--output", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def changes(told: dict[str, Any]) -> list[str]:
    """What was changed, but for the launch hooks, which are looked after beside the deployments."""
    return [one for one in operations(told) if not one.startswith("Describe") and one not in HOOKS]


def operations(told: dict[str, Any]) -> list[str]:
    return [call["operation"] for call in told["awsCalls"]]


@pytest.mark.parametrize("name", NAMES)
def test_no_request_fails_and_the_account_stands_as_before(name: str, shown: dict[str, dict[str, Any]]) -> None:
    told = shown[name]
    assert (told["requests"]["failed"], told["leftBehind"], told["serving"]) == (0, [], "v2")
    assert set(told["requests"]["byVersion"]) == {"v1", "v2"}, "nobody has seen v3"
    assert told["minimumInService"] == (1 if name == "autoscaling-scale-out" else 2)


def test_what_is_launched_is_prepared_before_it_serves_and_what_is_ended_stopped_first(
    shown: dict[str, dict[str, Any]],
) -> None:
    """v1 during the deployment of v2, then v2 by a deployment of its own; what the group ends goes last."""
    told = shown["autoscaling-scale-out"]
    updated, launched, followed, _ = (one["revision"] for one in told["deployments"])
    assert launched != updated == followed
    assert {one["status"] for one in told["deployments"]} == {"Succeeded"}
    answered = [call["parameters"] for call in told["awsCalls"] if call["operation"] == "CompleteLifecycleAction"]
    assert [one["LifecycleActionResult"] for one in answered] == ["CONTINUE", "CONTINUE"]
    done, new = operations(told), answered[0]["InstanceId"]
    into_traffic = (
        n for n, call in enumerate(told["awsCalls"]) if done[n] == "RegisterTargets" and new in str(call["parameters"])
    )
    assert next(into_traffic) < done.index("CompleteLifecycleAction"), "healthy before it is let in"


def test_a_group_rests_while_its_instances_are_changed(shown: dict[str, dict[str, Any]]) -> None:
    told = shown["autoscaling-in-place"]
    assert [one["status"] for one in told["deployments"]] == ["Succeeded", "Failed", "Succeeded"]
    assert told["deployments"][2]["rollbackOf"] == told["deployments"][1]["deploymentId"]
    rests, traffic = ["CreateOrUpdateTags", "SuspendProcesses"], {"DeregisterTargets", "RegisterTargets"}
    done = changes(told)
    assert (done[:2], done[-2:]) == (rests, ["ResumeProcesses", "DeleteTags"])
    assert [one for one in done if one not in traffic] == [*rests, "ResumeProcesses", "DeleteTags"] * 3


def test_a_launch_hook_that_stands_is_left_alone(shown: dict[str, dict[str, Any]]) -> None:
    assert not [one for one in operations(shown["autoscaling-in-place"]) if one in HOOKS]


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


def test_weights_move_the_traffic_and_are_measured(shown: dict[str, dict[str, Any]]) -> None:
    told = shown["server-canary"]
    assert [step["weight"] for step in told["trafficWeights"]] == [0.25, 1.0]
    done = [one for one in changes(told) if one in {"RegisterTargets", "DeregisterTargets", "ModifyListener"}]
    assert [key for key, _ in groupby(done)] == [
        "ModifyListener",
        "RegisterTargets",
        "ModifyListener",
        "DeregisterTargets",
    ]
    assert done.count("ModifyListener") == 3
    at_25 = next(step for step in told["split"] if step["weight"] == 0.25)
    assert 0 < at_25["byReplacement"] < at_25["invocations"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        made = lifecycle.aws_up(Path(directory) / "lab", lambda line: None)
        try:
            yield made
        finally:
            lifecycle.down(made)


def test_errors_of_a_broken_version_turn_the_alarm_red_and_give_the_weight_back(lab: Lab) -> None:
    """It passes its ValidateService; only clients see what is wrong with it, a quarter of them and not for long."""
    stage = Stage(lab, lambda line: None, sys.stderr)
    healthz = {"http": f"http://{{address}}:{APP_PORT}/healthz", "interval": "250ms"}
    scene = server_canary.prepared(stage, 600.0, health=healthz)
    bundle = bundles.make(lab.directory / "broken", "v3", defect=bundles.DEFECT)
    (bundle / "hooks" / "validate_service.sh").write_text("#!/bin/sh\n")
    scene.revisions["v3"] = stage.push("v3", bundle)
    with server_canary.asking(scene) as traffic:
        view = scene.deploy("v3")
        found = traffic.stop()
    told = server_canary.reported(scene, [view], found, "v3")
    assert (view["status"], view["errorInformation"]["code"]) == ("Stopped", "ALARM_ACTIVE")
    assert [step["weight"] for step in told.traffic_weights] == [0.25, 0.0]
    assert (told.left_behind, told.serving) == ((), "v1")
    assert {one.version for one in found if not one.fine} == {"v3"}
    back = split.shares(told.aws_calls, scene.made.listener, scene.made.others)[-1][0]
    assert all(one.version == "v1" for one in found if one.sent > back.answered)
    done = [call.operation for call in told.aws_calls if call.at >= back.at]
    assert done.index("DeregisterTargets") < done.index("DeleteAutoScalingGroup"), "the weight first, then the rest"
    (alarm,) = client(lab, "cloudwatch").describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]
    assert back.answered - alarm["StateUpdatedTimestamp"].timestamp() < 1.0 + 4.0, "a poll, and a little"
