"""The API's objects, as far as the command line reads them.

Everything has a default and unknown members are ignored, so that an older or newer coordinator can be read too.
"""

from __future__ import annotations

from typing import Final

import msgspec

ENDED: Final = frozenset({"Succeeded", "Failed", "Stopped"})


class View(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all."""


class Problem(View, frozen=True):
    code: str = ""
    message: str = ""


class Diagnosis(View, frozen=True):
    error_code: str = ""
    script_name: str = ""
    message: str = ""
    log_tail: str = ""


class Event(View, frozen=True):
    lifecycle_event_name: str
    status: str = "Pending"
    start_time: float | None = None
    end_time: float | None = None
    diagnostics: Diagnosis | None = None


class Agent(View, frozen=True):
    """`connections`: established on the port that the group watches; None where nobody looks."""

    connected: bool | None = None
    last_seen: float | None = None
    connections: int | None = None


class Resource(View, frozen=True):
    """Of a group that launches instances: the one that takes its place, if any."""

    replacement: str = ""


HELD = {"provisioned": "held", "retired": "let go", "abandoned": "let go"}
"""How a group stands whose instances are changed in place."""


class Target(View, frozen=True):
    """`arranged` is how a resource or a group is to stand now. A fleet is a group that launches the others."""

    target_id: str
    address: str = ""
    role: str = ""
    status: str = "Pending"
    arranged: str | None = None
    resource: Resource | None = None
    batch: int = 0
    traffic: str | None = ""
    in_service: bool | None = None
    requests_cut: int | None = None
    agent: Agent = Agent()
    start_time: float | None = None
    complete_time: float | None = None
    error_information: Problem | None = None
    lifecycle_events: tuple[Event, ...] = ()

    @property
    def shown(self) -> str:
        """Its name, and in blue/green which side it is on."""
        return f"{self.target_id} ({self.role})" if self.role in ("original", "replacement") else self.target_id

    @property
    def stands(self) -> str:
        """How it is to stand now, in words; empty for an instance."""
        in_place = self.role == "fleet" and not (self.resource and self.resource.replacement)
        return HELD.get(self.arranged or "", "") if in_place else self.arranged or ""

    def current(self) -> Event | None:
        """The event that runs, else the one that failed, else the last that ended."""
        begun = [event for event in self.lifecycle_events if event.status not in ("Pending", "Skipped")]
        for wanted in ("InProgress", "Failed"):
            for event in begun:
                if event.status == wanted:
                    return event
        return begun[-1] if begun else None


class Waiting(View, frozen=True):
    message: str
    code: str = ""
    target: str = ""
    since: float | None = None
    until: float | None = None


class TrafficWeight(View, frozen=True):
    """The replacement's share, in force since `at`."""

    target_id: str
    weight: float
    at: float


class Revision(View, frozen=True):
    identity: str = ""
    url: str = ""


class RollbackInfo(View, frozen=True):
    rollback_deployment_id: str = ""
    rollback_triggering_deployment_id: str = ""
    rollback_message: str = ""


class Deployment(View, frozen=True):
    deployment_id: str
    status: str
    application_name: str = ""
    deployment_group_name: str = ""
    deployment_config_name: str = ""
    compute_platform: str = "Server"
    creator: str = ""
    created_by: str = ""
    description: str | None = ""
    create_time: float | None = None
    start_time: float | None = None
    complete_time: float | None = None
    revision: Revision | None = None
    parameters: dict[str, str] = {}
    deployment_overview: dict[str, int] = {}
    error_information: Problem | None = None
    rollback_info: RollbackInfo | None = None
    minimum_healthy_hosts: int | None = None
    in_service: int | None = None
    minimum_in_service: int | None = None
    batch: int = 0
    batches: int = 0
    bake_until: float | None = None
    waiting: tuple[Waiting, ...] = ()
    traffic_weights: tuple[TrafficWeight, ...] = ()
    together: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def has_hosts(self) -> bool:
        return self.compute_platform == "Server"

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def group(self) -> str:
        return f"{self.application_name}/{self.deployment_group_name}"

    @property
    def size(self) -> int:
        """How many targets the revision goes to."""
        return sum(t.role in ("", "replacement") for t in self.targets) or sum(self.deployment_overview.values())

    @property
    def rolled_back_by(self) -> str:
        """The id of the deployment that rolls this one back, or ""."""
        return self.rollback_info.rollback_deployment_id if self.rollback_info else ""


class Deployments(View, frozen=True):
    deployments: tuple[Deployment, ...]


class History(View, frozen=True):
    """One thing that happened. What `kind` it is decides what stands in `data`."""

    kind: str
    at: float = 0.0
    target: str = ""
    data: dict[str, object] = {}
    number: int = 0
