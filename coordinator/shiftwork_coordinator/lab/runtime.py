"""The port of the lab: what stands in for hosts. Docker containers where an engine answers, else plain processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from shiftwork_coordinator.lab.plan import Instance, Lab, RuntimeKind

Say = Callable[[str], None]
"""Gets a line about what is going on now, for people."""

Verb = Literal["kill", "pause", "resume", "cut", "heal"]
COORDINATOR, BALANCER, AGENT = "coordinator", "balancer", "agent:"


class Runtime(Protocol):
    """Verbs return when the thing was started or asked; `lab/lifecycle.py` waits until it answers.

    All raise Unavailable when the machine does not let them, InvalidRequest for what this runtime cannot do.
    """

    kind: RuntimeKind

    def unusable(self) -> str:
        """Why this machine cannot run it; empty when it can."""

    def prepare(self, say: Say) -> str:
        """Makes what must be there before any lab: the image. Returns its name."""

    def layout(self, lab: Lab, count: int) -> Lab:
        """`lab` with its instances named and addressed, and whatever network they need made."""

    def start_coordinator(self, lab: Lab) -> None: ...

    def on_coordinator(self, lab: Lab, module: str) -> str:
        """What `python -m MODULE DATA` prints on the coordinator's own host."""

    def start_instance(self, lab: Lab, instance: Instance, token: str) -> None:
        """An instance with an agent that joins with `token`."""

    def start_balancer(self, lab: Lab) -> None: ...

    def balancer_settings(self, lab: Lab) -> dict[str, dict[str, object]]:
        """The entry under `load_balancers` in shiftwork.yml."""

    def health(self) -> dict[str, object]:
        """The group's `health` in shiftwork.yml."""

    def statuses(self, lab: Lab) -> Mapping[str, str]:
        """running, paused, cut or stopped, for coordinator, balancer and each instance."""

    def fault(self, lab: Lab, verb: Verb, target: str) -> None:
        """`target` is an instance's name, agent:NAME, coordinator or balancer."""

    def keep_logs(self, lab: Lab) -> None:
        """Puts every log into `lab.logs`."""

    def down(self, lab: Lab) -> None:
        """Ends everything of this lab, however far it came; nothing of it runs afterwards. Files are left."""
