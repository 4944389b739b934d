"""The simulated agents of the benchmarks, through a real coordinator process: not fast, but right."""

import json
import subprocess
import sys
from pathlib import Path

AGENTS = 5


def test_five_simulated_agents_deploy_once():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.bench.swarm", "--agents", str(AGENTS)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    assert view["status"] == "Succeeded"
    assert [target["targetId"] for target in view["targets"]] == [f"sim-{n}" for n in range(1, AGENTS + 1)]
    assert [target["batch"] for target in view["targets"]].count(1) == 2, "half of five, rounded down"
    for target in view["targets"]:
        assert target["agent"]["connected"]
        events = target["lifecycleEvents"]
        assert len(events) == 7
        assert {event["status"] for event in events} == {"Succeeded"}
        assert all(event["startTime"] and event["endTime"] for event in events)
