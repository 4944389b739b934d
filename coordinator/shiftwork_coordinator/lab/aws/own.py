"""What the stand-in answers for itself under `/_lab/`: what was called, what is to go wrong, where listeners are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shiftwork_coordinator.lab.aws import functions
from shiftwork_coordinator.lab.aws.balancing import health
from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.containers import scheduler
from shiftwork_coordinator.lab.aws.containers.scheduler import Scheduler
from shiftwork_coordinator.lab.aws.faults import Fault, Faults
from shiftwork_coordinator.lab.aws.fleets import launcher
from shiftwork_coordinator.lab.aws.fleets.launcher import Launcher
from shiftwork_coordinator.lab.aws.functions import Functions
from shiftwork_coordinator.lab.aws.recording import Recording

NAME = "shiftwork"
"""What the coordinator's user agent says."""
Told = Callable[[Mapping[str, str], bytes], Any]
"""What is answered to a query and a body; None where there is nothing to tell."""


class Own:
    def __init__(
        self,
        recording: Recording,
        faults: Faults,
        functions: Functions,
        balancing: Balancing,
        scheduler: Scheduler,
        launcher: Launcher,
    ) -> None:
        self._functions, self._balancing, self._scheduler, self._launcher = functions, balancing, scheduler, launcher
        self._table: dict[tuple[str, str], Told] = {
            ("GET", "calls"): lambda query, _: recording.calls(by_shiftwork=query.get("by") == NAME),
            ("DELETE", "calls"): lambda *_: recording.clear(),
            ("POST", "faults"): lambda _, body: faults.add(msgspec.json.decode(body, type=Fault)),
            ("DELETE", "faults"): lambda *_: faults.clear(),
            ("PUT", "settings"): lambda _, body: self._set_functions(body),
            ("GET", "listeners"): lambda *_: balancing.routes(),
            ("PUT", "targets"): lambda _, body: self._set_targets(body),
            ("PUT", "tasks"): lambda _, body: self._set_tasks(body),
            ("PUT", "instances"): lambda _, body: self._set_instances(body),
            ("PUT", "addresses"): lambda _, body: balancing.addresses.update(_addresses(body)),
            ("GET", ""): lambda *_: None,
        }

    def answer(self, method: str, what: str, query: Mapping[str, str], body: bytes) -> bytes:
        """Raises MsgspecError for what is not there, or not understood."""
        told = self._table.get((method, what))
        if told is None:
            known = ", ".join(f"{method} {name}" for method, name in self._table if name)
            raise msgspec.ValidationError(f"there are {known}")
        found = told(query, body)
        return b"{}" if found is None else msgspec.json.encode(found)

    def _set_functions(self, body: bytes) -> None:
        self._functions.settings = msgspec.json.decode(body, type=functions.Settings)

    def _set_targets(self, body: bytes) -> None:
        self._balancing.targets.settings = msgspec.json.decode(body, type=health.Settings)

    def _set_tasks(self, body: bytes) -> None:
        self._scheduler.settings = msgspec.json.decode(body, type=scheduler.Settings)

    def _set_instances(self, body: bytes) -> None:
        self._launcher.settings = msgspec.json.decode(body, type=launcher.Settings)


def _addresses(body: bytes) -> dict[str, str]:
    return msgspec.json.decode(body, type=dict[str, str])
