"""A lab with an Auto Scaling group that serves, whose coordinator dies at calls of AWS, and what came of it."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.system import reviving

from shiftwork_coordinator.demo import fleet_account, fleet_stage, function_stage
from shiftwork_coordinator.demo.fleet_stage import Scene
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.demo.tally import Result
from shiftwork_coordinator.lab import lifecycle, process, processes
from shiftwork_coordinator.lab.aws import fleet_sample
from shiftwork_coordinator.lab.aws.fleet_sample import GROUP_NAME, STANDBY
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.plan import Lab

ROOT = Path(__file__).resolve().parents[2]
DESIRED = 2
KINDS: dict[str, dict[str, Any]] = {
    "in-place": {},
    "copy": {"blue_green": {"green": "copy"}, "config": "AllAtOnce"},
    "swap": {"blue_green": {"green": "swap", "standby": STANDBY}, "config": "AllAtOnce"},
}
CHANGES = ("*:[!D]*", "*:D[!e]*", "*:De[!s]*")
"""Everything but Describe…"""


class Fleet:
    """Of the last story: `result` is what became of the requests, `calls` what the coordinator called meanwhile."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.stage, self.lab = scene, scene.stage, scene.stage.lab
        self.result: Result
        self.calls: list[Recorded] = []

    @contextmanager
    def story(self, kind: str, **settings: Any) -> Iterator[None]:
        """The group deployed in this way, under requests; no fault is left afterwards."""
        self.scene.apply(**{**KINDS[kind], **settings})
        with fleet_stage.under_traffic(self.scene) as traffic:
            function_stage.forget(self.lab)
            try:
                yield
            finally:
                self.calls = function_stage.calls(self.lab)
                self._told("DELETE", "faults")
            self.result = traffic.stop()

    def deploy(self, version: str) -> View:
        """The ended deployment, however often the coordinator dies meanwhile. What is cut while it is created is asked
        for again, as by a person."""
        before = made = self._ids()
        while made == before:
            self.stage.run("deploy", GROUP_NAME, "--revision", self.scene.revisions[version], "--no-wait")
            made = self._ids()
        (id,) = made - before
        return self.stage.ended(id)

    def _ids(self) -> set[str]:
        found: list[set[str]] = []
        self.stage.wait(
            lambda: not found.append({view["deploymentId"] for view in self.stage.deployments()}), "the coordinator"
        )
        return found[-1]

    @property
    def other(self) -> str:
        """The version that does not serve now."""
        return "v1" if self.serving == "v2" else "v2"

    @property
    def serving(self) -> str:
        with urllib.request.urlopen(fleet_sample.url(self.lab, self.scene.made), timeout=10) as answer:
            return str(json.load(answer)["version"])

    def fault(self, kind: str, operation: str, **more: Any) -> None:
        self._told("POST", "faults", {"kind": kind, "operation": operation, **more})

    def deadly(self, *operations: str) -> None:
        """The coordinator dies after each of these calls, once."""
        for operation in operations:
            self.fault("kill", operation, each=True, late=True, **self._whom)

    def deadlier(self, *operations: str) -> None:
        """It dies before each of these calls, and after it when it is made again."""
        for operation in operations:
            self.fault("kill", operation, each=True, **self._whom)
            self.fault("kill", operation, each=True, first=2, late=True, **self._whom)

    def deadly_reads(self, first: int, every: int) -> None:
        for number in range(first, 150, every):
            self.fault("kill", "*:Describe*", first=number, **self._whom)

    @property
    def _whom(self) -> dict[str, str]:
        return {"pid_file": str(process.pid_file(self.lab, "coordinator"))}

    def left(self) -> list[str]:
        return fleet_account.left(self.stage, self.scene.made, self.scene.before)

    def _told(self, method: str, what: str, body: Any = None) -> None:
        asked = urllib.request.Request(f"{self.lab.aws_url}/_lab/{what}", json.dumps(body).encode(), method=method)
        urllib.request.urlopen(asked, timeout=60).close()


def changes(calls: list[Recorded]) -> dict[str, list[int]]:
    """What became of each different call that changes something, in order; 0 = it was never answered."""
    found = defaultdict(list)
    for call in calls:
        if not call.operation.startswith("Describe"):
            found[f"{call.operation} {msgspec.json.encode(call.parameters).decode()}"].append(call.status)
    return found


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Two instances that serve v1, with a standby; nothing is left on this machine afterwards."""
    with tempfile.TemporaryDirectory(prefix="sw-") as name:
        lab = lifecycle.aws_up(Path(name) / "lab", print)
        try:
            stage = Stage(lab, print, None)
            _revive(lab, stage)
            yield Fleet(fleet_stage.prepared(stage, DESIRED, standby=True))
        finally:
            for log in sorted(lab.logs.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-5000:]}")
            lifecycle.down(lab)
            assert processes.of(Path(name)) == []


def _revive(lab: Lab, stage: Stage) -> None:
    """From here on the coordinator is there again a moment after its death."""
    place = process.home(lab, "coordinator")
    processes.send(place, signal.SIGTERM)
    stage.wait(lambda: processes.of(place) == [], "the coordinator to end")
    where = [str(process.pid_file(lab, "coordinator")), str(place / "data"), lab.url.removeprefix("https://")]
    environment = {**lab.aws_environment(), "PYTHONPATH": str(ROOT)}
    processes.start(place, [sys.executable, "-m", reviving.__name__, *where], lab.logs / "coordinator.log", environment)
    stage.wait(lambda: bool([stage.deployments()]), "the coordinator")
