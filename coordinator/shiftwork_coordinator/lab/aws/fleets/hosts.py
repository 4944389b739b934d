"""Runs an instance: an agent that has joined the lab's coordinator under EC2's id, and what it deploys."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Protocol

from shiftwork_coordinator.lab import operator, plan, process, processes
from shiftwork_coordinator.lab.aws.fleets import metadata
from shiftwork_coordinator.lab.plan import Instance


class Hosts(Protocol):
    """Both return when it is done; they are called in threads."""

    def start(self, id: str, address: str) -> None:
        """Raises ShiftworkError when it cannot."""

    def end(self, id: str) -> None:
        """Nothing of it is left, however far its start came."""


class AgentHosts:
    """Of the lab in `directory`, whose coordinator may come later than this."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ending = threading.Lock()

    def start(self, id: str, address: str) -> None:
        lab, instance = plan.load(self._directory), Instance(id, address)
        process.furnish(lab, instance)
        about = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint(address), "AWS_EC2_METADATA_DISABLED": "false"}
        process.start_agent(lab, instance, lab.url, operator.agent_token(lab, id), about)

    def end(self, id: str) -> None:
        place = process.home(plan.load(self._directory), id)
        with self._ending:  # to find a host's processes takes a look at all there are
            processes.end_all(place)
        shutil.rmtree(place, ignore_errors=True)
