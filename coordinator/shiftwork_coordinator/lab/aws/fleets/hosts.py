"""Runs an instance: an agent that has joined the lab's coordinator under EC2's id, and what it deploys. It is a tree of
processes, or a container on the host's network, as the tasks of services are."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab import operator, plan, process, processes
from shiftwork_coordinator.lab.aws.fleets import metadata
from shiftwork_coordinator.lab.docker_cli import attempt, docker, label
from shiftwork_coordinator.lab.plan import Instance, Lab

APPLICATION = "demo-app.env"
JOINS_WITHIN, AGAIN_AFTER = 30.0, 0.25


class Hosts(Protocol):
    """Both return when it is done; they are called in threads."""

    def start(self, id: str, address: str) -> None:
        """Raises ShiftworkError when it cannot."""

    def end(self, id: str) -> None:
        """Nothing of it is left, however far its start came."""


class AgentHosts:
    """Of the lab in `directory`, whose coordinator may come later than this, and be away for a moment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ending = threading.Lock()

    def start(self, id: str, address: str) -> None:
        lab, instance = plan.load(self._directory), Instance(id, address)
        process.furnish(lab, instance)
        about = _environment(address)
        _patiently(lambda: process.start_agent(lab, instance, lab.url, operator.agent_token(lab, id), about))

    def end(self, id: str) -> None:
        place = process.home(plan.load(self._directory), id)
        with self._ending:  # to find a host's processes takes a look at all there are
            processes.end_all(place)
        shutil.rmtree(place, ignore_errors=True)


class ContainerHosts:
    """Of the lab in `directory`, from its image. Where the application listens stands in a file of the instance."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, id: str, address: str) -> None:
        lab, instance = plan.load(self._directory), Instance(id, address)
        place = process.home(lab, id)
        place.mkdir(parents=True)
        (place / APPLICATION).write_text(process.application_settings(instance, "python3"))
        joins = {"COORDINATOR": lab.url, "TOKEN": operator.agent_token(lab, id), "NAME": id, "ADDRESS": address}
        about = {**{f"LAB_{key}": value for key, value in joins.items()}, **_environment(address)}
        given = [word for name, value in about.items() for word in ("--env", f"{name}={value}")]
        where = ["--network", "host", "--volume", f"{place / APPLICATION}:/etc/{APPLICATION}:ro"]
        marked = ["--name", _container(lab, id), "--label", label(lab.name)]
        docker("run", "--detach", *marked, *where, *given, lab.image, "instance")

    def end(self, id: str) -> None:
        lab = plan.load(self._directory)
        attempt("rm", "--force", "--volumes", _container(lab, id))
        shutil.rmtree(process.home(lab, id), ignore_errors=True)


def _container(lab: Lab, id: str) -> str:
    return f"{lab.name}-{id}"


def _environment(address: str) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint(address), "AWS_EC2_METADATA_DISABLED": "false"}


def _patiently(join: Callable[[], None]) -> None:
    """Again while the coordinator does not answer, as an image's boot script does."""
    until = time.monotonic() + JOINS_WITHIN
    while True:
        try:
            return join()
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(AGAIN_AFTER)
