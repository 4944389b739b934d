"""Tasks and task sets: what they are, and how ECS describes them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

PENDING, RUNNING, DEACTIVATING, STOPPED = "PENDING", "RUNNING", "DEACTIVATING", "STOPPED"
Described = Mapping[str, Any]


class Container(NamedTuple):
    """What of a task definition is run: without a command the lab's application, in the version that is the image's
    tag."""

    definition: str
    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int

    @property
    def version(self) -> str:
        return self.image.rpartition(":")[2]


class Running(Protocol):
    async def ended(self) -> int:
        """Its exit code, once it has one."""

    def stop(self) -> None:
        """Asks it to end; after a while it is killed."""


@dataclass
class Task:
    """`why` is the stop code and the reason, once it is told or decided that it stops."""

    arn: str
    address: str
    of: TaskSet
    status: str = PENDING
    created: float = 0.0
    began: float = 0.0
    stopped: float = 0.0
    why: tuple[str, str] | None = None
    exit_code: int | None = None
    running: Running | None = None

    @property
    def alive(self) -> bool:
        return self.status in (PENDING, RUNNING)

    def described(self) -> dict[str, Any]:
        one = self.of
        inside: dict[str, Any] = {
            "name": one.container.name, "image": one.container.image, "lastStatus": self.status,
            "networkInterfaces": [{"privateIpv4Address": self.address}],
        }  # fmt: skip
        told: dict[str, Any] = {
            "taskArn": self.arn, "clusterArn": one.cluster, "taskDefinitionArn": one.container.definition,
            "group": f"service:{one.service}", "startedBy": one.id, "lastStatus": self.status,
            "desiredStatus": RUNNING if self.alive else STOPPED, "createdAt": self.created, "containers": [inside],
        }  # fmt: skip
        if self.began:
            told["startedAt"] = self.began
        if self.status == STOPPED:
            told["stoppedAt"] = self.stopped
        if self.why:
            told["stopCode"], told["stoppedReason"] = self.why
        if self.exit_code is not None:
            inside["exitCode"] = self.exit_code
        return told


@dataclass
class TaskSet:
    """`groups` are the target groups of its tasks, with their ports. `described` is what moto tells of it."""

    described: Described
    container: Container
    groups: tuple[tuple[str, int], ...]
    token: str
    scale: Described
    desired: int
    grace: float
    deleted: bool = False
    tasks: list[Task] = field(default_factory=list)

    @property
    def arn(self) -> str:
        return str(self.described["taskSetArn"])

    @property
    def id(self) -> str:
        return str(self.described["id"])

    @property
    def cluster(self) -> str:
        return str(self.described["clusterArn"])

    @property
    def service(self) -> str:
        return str(self.described["serviceArn"]).rpartition("/")[2]

    @property
    def wanted(self) -> int:
        return 0 if self.deleted else math.ceil(self.desired * float(self.scale.get("value", 100.0)) / 100)

    def count(self, status: str) -> int:
        return sum(task.status == status for task in self.tasks)

    def new_task(self, address: str, now: float) -> Task:
        cluster = self.cluster.replace(":cluster/", ":task/")
        return Task(f"{cluster}/{secrets.token_hex(16)}", address, self, created=now)


def container(definition: Described, balanced: Described | None) -> Container:
    """The one that the load balancer sends to, else the first."""
    every = definition["containerDefinitions"]
    name = balanced["containerName"] if balanced else every[0]["name"]
    found = next((one for one in every if one["name"] == name), every[0])
    return Container(
        definition["taskDefinitionArn"], found["name"], found["image"], tuple(found.get("command") or ()),
        {one["name"]: one["value"] for one in found.get("environment") or ()},
        int(balanced["containerPort"]) if balanced else 0,
    )  # fmt: skip
