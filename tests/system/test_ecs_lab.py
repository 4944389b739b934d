"""Services deployed in AWS's stand-in: what is called in which order, how traffic was split, and that nothing stays
behind, whatever fails and whenever the coordinator dies."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from shiftwork_coordinator.demo.stage import command
from shiftwork_coordinator.lab import processes


def test_the_demonstrations_hold_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        names = ("ecs-canary", "ecs-blue-green")
        argv = [[*command(), "demo", name, "--output", "json"] for name in names]
        started = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in argv]
        told = [(demo.communicate(timeout=180), demo.returncode) for demo in started]
        for (_, complaints), code in told:
            assert code == 0, complaints
        canary, both = (json.loads(out) for (out, _), _ in told)
        assert list(Path(directory).iterdir()) == processes.of(Path(directory)) == []
    assert [one["status"] for one in (*canary["deployments"], *both["deployments"])] == [
        "Succeeded", "Succeeded", "Failed",
    ]  # fmt: skip
    assert canary["leftBehind"] == both["leftBehind"] == []
    assert [step["weight"] for step in canary["trafficWeights"]] == [0.25, 1.0]
    assert [step["weight"] for step in both["trafficWeights"]] == [1.0]
    assert canary["requests"]["failed"] == both["requests"]["failed"] == 0
    assert set(both["requests"]["byVersion"]) == {"v1", "v2"}, "nobody has seen v3"
    assert canary["minimumInService"] == both["minimumInService"] == 2
    assert [call["operation"] for call in canary["awsCalls"] if call["operation"].startswith(("Create", "Delete"))] == [
        "CreateTaskSet", "DeleteTaskSet",
    ]  # fmt: skip
