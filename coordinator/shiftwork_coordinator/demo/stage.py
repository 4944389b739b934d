"""Where a scenario plays: a lab, the real `shiftwork` command, and the coordinator's own record of what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab import application, bundles, operator
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.lab.runtime import Say

ENDED = ("Succeeded", "Failed", "Stopped")
WITHIN = 180.0
View = Mapping[str, Any]


class Stage:
    """`shown` is where the command's own output goes; `names` the versions by revision, as far as pushed."""

    def __init__(self, lab: Lab, say: Say, shown: IO[str] | None) -> None:
        self.lab, self.say, self._shown = lab, say, shown
        self.names: dict[str, str] = {}

    def apply(self, **changes: object) -> None:
        """Creates or changes application and group; `changes` are to the group's settings."""
        self.checked("apply", "-f", str(application.write(self.lab, **changes)))

    def push_all(self) -> dict[str, str]:
        """v1 and v2 that work and v3 that does not; their revisions by version."""
        made = bundles.make_all(self.lab.directory / "bundles")
        return {version: self.push(version, bundle) for version, bundle in made.items()}

    def push(self, version: str, bundle: Path) -> str:
        answer = json.loads(self.checked("push", str(bundle), "--application", application.APPLICATION))
        self.names[answer["revision"]] = version
        return str(answer["revision"])

    def deploy(self, revision: str) -> View:
        """The ended deployment, whatever its end; its progress is shown by the command itself."""
        self.say(f"$ shiftwork deploy {application.GROUP_NAME} --revision {revision[:19]}…  ({self.names[revision]})")
        return self.deployed(self.names[revision], application.GROUP_NAME, "--revision", revision)

    def deployed(self, name: str, *args: str) -> View:
        """The ended deployment that `shiftwork deploy ARGS` makes; `name` is for people."""
        made = [view for view in self.made("deploy", *args) if view["creator"] == "user"]
        if not made:
            raise Unavailable(f"cannot deploy {name}: `shiftwork deploy` made no deployment")
        return made[0]

    def made(self, *args: str) -> list[View]:
        """The ended deployments that the command made or caused, in the order of their creation."""
        before = {view["deploymentId"] for view in self.deployments()}
        self.run(*args)
        new = [view["deploymentId"] for view in self.deployments() if view["deploymentId"] not in before]
        return [self.ended(id) for id in reversed(new)]

    def begin(self, revision: str) -> str:
        """Starts a deployment and returns its id."""
        answer = self.checked("deploy", application.GROUP_NAME, "--revision", revision, "--no-wait")
        return str(json.loads(answer)["deploymentId"])

    def rollback_of(self, deployment_id: str) -> View:
        """The ended rollback of a failed deployment."""
        found: list[str] = []

        def begun() -> bool:
            found.extend(filter(None, [self.view(deployment_id)["rollbackInfo"]["rollbackDeploymentId"]]))
            return bool(found)

        self.wait(begun, f"the rollback of {deployment_id}")
        return self.ended(found[0])

    def ended(self, deployment_id: str) -> View:
        self.wait(lambda: self.view(deployment_id)["status"] in ENDED, f"deployment {deployment_id} to end")
        return self.view(deployment_id)

    def view(self, deployment_id: str) -> View:
        return dict(operator.ask(self.lab, "GET", f"/v1/deployments/{deployment_id}"))

    def deployments(self) -> list[View]:
        """Newest first."""
        return list(operator.ask(self.lab, "GET", "/v1/deployments?limit=50")["deployments"])

    def group(self) -> View:
        return dict(operator.ask(self.lab, "GET", f"/v1/groups/{application.GROUP_NAME}"))

    def wait(self, done: Callable[[], bool], what: str, within: float = WITHIN) -> None:
        """Until `done`, through restarts of the coordinator; says every two seconds what is waited for."""
        began, spoken = time.monotonic(), 0
        while not _patiently(done):
            waited = time.monotonic() - began
            if waited > within:
                raise Unavailable(f"cannot go on: waited {within:g} s for {what}")
            if int(waited) // 2 > spoken:
                spoken = int(waited) // 2
                self.say(f"Waiting for {what} ({waited:.0f} s) ...")
            time.sleep(0.1)

    def checked(self, *args: str) -> str:
        """The JSON that the command prints. Raises Unavailable with its error output when it fails."""
        self.say(f"$ shiftwork {' '.join(args)}")
        argv = [*command(), *args, "--output", "json"]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(
                f"cannot go on: `shiftwork {args[0]}` failed: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def run(self, *args: str) -> int:
        """The exit code of the command, whose output is shown. Raises Unavailable when it does not end."""
        argv = [*command(), *args]
        try:
            done = subprocess.run(argv, env=self._environment(), stdout=self._shown, timeout=WITHIN, check=False)
        except subprocess.TimeoutExpired as err:
            raise Unavailable(f"cannot go on: `shiftwork {args[0]}` has not ended within {WITHIN:g} s") from err
        return done.returncode

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.lab.environment()}


def _patiently(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except Unavailable:
        return False


def command() -> list[str]:
    """The `shiftwork` of this very installation."""
    beside = Path(sys.executable).with_name("shiftwork")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "shiftwork_coordinator.cli"]
