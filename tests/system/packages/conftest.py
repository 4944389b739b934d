"""The machines that the packages are installed on."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from packaged import Home, Machine, docker
from tests.system.conftest import usable

NETWORK = f"shiftwork-packages-{os.getpid()}"


@pytest.fixture(scope="session")
def image():
    usable("docker")
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
