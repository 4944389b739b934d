"""`shiftwork demo` as a newcomer starts it, and as an impatient one ends it."""

import json
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from shiftwork_coordinator.demo.stage import command
from shiftwork_coordinator.lab import processes
from shiftwork_coordinator.lab.docker_cli import attempt


@pytest.fixture
def place(monkeypatch):
    """Where the demonstration makes its temporary directories; short, for the sake of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


def containers_and_networks(kind):
    if kind != "docker":
        return set()
    label = ("-q", "--filter", "label=shiftwork.lab")
    return {*(attempt("ps", "-a", *label) or "").split(), *(attempt("network", "ls", *label) or "").split()}


@pytest.fixture
def left_behind(where, place):
    """Lists whatever is still there of a lab that was started with temporary files in `place`."""
    before = containers_and_networks(where.kind)

    def listed():
        files = [str(path) for path in place.iterdir()]
        return [*files, *map(str, processes.of(place)), *(containers_and_networks(where.kind) - before)]

    return listed


def test_the_demonstration_holds_and_leaves_nothing(where, left_behind):
    argv = [*command(), "demo", "--runtime", where.kind, "--output", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"runtime", "instances", "deployments", "requests", "minimumInService", "serving"}
    assert [d["status"] for d in told["deployments"]] == ["Succeeded", "Succeeded", "Failed", "Succeeded"]
    assert told["deployments"][3]["rollbackOf"] == told["deployments"][2]["deploymentId"]
    assert told["requests"]["failed"] == 0
    assert set(told["requests"]["byVersion"]) == {"v1", "v2"}
    assert (told["runtime"], told["instances"], told["minimumInService"], told["serving"]) == (where.kind, 4, 2, "v2")
    assert left_behind() == []


@pytest.mark.parametrize(("moment", "number"), [("Starting a coordinator", signal.SIGINT), ("Sending", signal.SIGTERM)])
def test_an_interrupted_demonstration_leaves_nothing(where, left_behind, number, moment):
    argv = [*command(), "demo", "--runtime", where.kind]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as demo:
        seen = ""
        for line in demo.stderr:
            seen += line
            if moment in line:
                demo.send_signal(number)
        assert demo.wait(timeout=60) == 128 + number, seen
    assert "nothing is left behind" in seen
    assert left_behind() == []
