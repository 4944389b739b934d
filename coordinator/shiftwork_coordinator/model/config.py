"""Deployment configs: how fast and how safely, as a frozen value.

Source of the rules: CodeDeploy's documentation of predefined configurations and minimum healthy hosts.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest

PREFIX = "CodeDeployDefault."
Pace = Literal["batches", "sliding"]


class MinimumHealthyHosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`FLEET_PERCENT` is rounded up over the deployment's instances; `MOST_CONCURRENCY` n lets n go at once."""

    type: Literal["HOST_COUNT", "FLEET_PERCENT", "MOST_CONCURRENCY"]
    value: Annotated[int, msgspec.Meta(ge=0)]

    def of(self, total: int) -> int:
        """The floor in instances. A group of one has none: otherwise it could never be deployed to."""
        if total <= 1:
            return 0
        if self.type == "HOST_COUNT":
            return self.value
        if self.type == "FLEET_PERCENT":
            return -(-total * self.value // 100)
        return max(0, total - self.value)


class DeploymentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`max_failed` None = CodeDeploy's rule (engine/verdict.py). `bake` is seconds after each batch and at the end."""

    name: str
    minimum_healthy_hosts: MinimumHealthyHosts
    pace: Pace = "batches"
    max_failed: int | None = None
    bake: float = 0.0


PREDEFINED = {
    c.name: c
    for c in (
        DeploymentConfig(PREFIX + "OneAtATime", MinimumHealthyHosts("MOST_CONCURRENCY", 1)),
        DeploymentConfig(PREFIX + "HalfAtATime", MinimumHealthyHosts("FLEET_PERCENT", 50)),
        DeploymentConfig(PREFIX + "AllAtOnce", MinimumHealthyHosts("HOST_COUNT", 0)),
    )
}
DEFAULT = PREFIX + "OneAtATime"


def full_name(name: str) -> str:
    """The name with CodeDeploy's prefix where that makes it a predefined one."""
    return PREFIX + name if PREFIX + name in PREDEFINED else name


def checked(config: DeploymentConfig) -> DeploymentConfig:
    """The custom config itself. Raises InvalidRequest where CodeDeploy would refuse it."""
    wanted = config.minimum_healthy_hosts
    if config.name.startswith(PREFIX) or full_name(config.name) in PREDEFINED:
        raise InvalidRequest(
            f"cannot define config {config.name!r}: the name belongs to a predefined one; choose another",
            code="InvalidDeploymentConfigNameException",
        )
    if not 1 <= len(config.name) <= 100:
        raise InvalidRequest(
            f"cannot define config {config.name[:20]!r}: a name has 1 to 100 characters, this has {len(config.name)}",
            code="InvalidDeploymentConfigNameException",
        )
    if wanted.type == "FLEET_PERCENT" and wanted.value > 99:
        raise InvalidRequest(
            f"cannot define config {config.name!r}: FLEET_PERCENT is 0 to 99, this is {wanted.value};"
            " at 100 no instance could ever be taken",
            code="InvalidMinimumHealthyHostValueException",
        )
    if wanted.type == "MOST_CONCURRENCY" and wanted.value < 1:
        raise InvalidRequest(f"cannot define config {config.name!r}: at least 1 instance must go at a time")
    if config.bake < 0 or (config.max_failed is not None and config.max_failed < 0):
        raise InvalidRequest(f"cannot define config {config.name!r}: bake and max_failed are 0 or more")
    return config
