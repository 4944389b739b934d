"""Deployment configs: how fast and how safely, as a frozen value.

Source of the rules: CodeDeploy's documentation of predefined configurations and minimum healthy hosts.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest

PREFIX = "CodeDeployDefault."
LONGEST_SHIFT = 2880 * 60.0
"""Seconds from the first share to the last."""
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


class AllAtOnce(msgspec.Struct, frozen=True, tag=True):
    """All traffic in one step."""


class TimeBasedCanary(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`percentage` of the traffic first, the rest after `interval` seconds."""

    percentage: Annotated[int, msgspec.Meta(ge=1, le=99)]
    interval: Annotated[float, msgspec.Meta(gt=0)]


class TimeBasedLinear(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`percentage` more every `interval` seconds, the first at once."""

    percentage: Annotated[int, msgspec.Meta(ge=1, le=99)]
    interval: Annotated[float, msgspec.Meta(gt=0)]


Traffic = AllAtOnce | TimeBasedCanary | TimeBasedLinear
Platform = Literal["Server", "Lambda", "ECS"]


class DeploymentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`max_failed` None = CodeDeploy's rule (engine/verdict.py). `bake` is seconds after each batch and at the end.
    `traffic` is how weights rise where they move it; elsewhere instances come and go in batches."""

    name: str
    minimum_healthy_hosts: MinimumHealthyHosts
    pace: Pace = "batches"
    max_failed: int | None = None
    bake: float = 0.0
    traffic: Traffic = AllAtOnce()
    platform: Platform = "Server"


def _shifting(platform: Platform, name: str, traffic: Traffic) -> DeploymentConfig:
    """Of a platform without hosts: no floor, and one target that fails ends it for all."""
    return DeploymentConfig(
        PREFIX + platform + name, MinimumHealthyHosts("HOST_COUNT", 0), max_failed=0, traffic=traffic, platform=platform
    )


PREDEFINED = {
    c.name: c
    for c in (
        DeploymentConfig(PREFIX + "OneAtATime", MinimumHealthyHosts("MOST_CONCURRENCY", 1)),
        DeploymentConfig(PREFIX + "HalfAtATime", MinimumHealthyHosts("FLEET_PERCENT", 50)),
        DeploymentConfig(PREFIX + "AllAtOnce", MinimumHealthyHosts("HOST_COUNT", 0)),
        _shifting("Lambda", "AllAtOnce", AllAtOnce()),
        *(_shifting("Lambda", f"Canary10Percent{m}Minutes", TimeBasedCanary(10, m * 60)) for m in (5, 10, 15, 30)),
        _shifting("Lambda", "Linear10PercentEvery1Minute", TimeBasedLinear(10, 60)),
        *(_shifting("Lambda", f"Linear10PercentEvery{m}Minutes", TimeBasedLinear(10, m * 60)) for m in (2, 3, 10)),
        _shifting("ECS", "AllAtOnce", AllAtOnce()),
        *(_shifting("ECS", f"Canary10Percent{m}Minutes", TimeBasedCanary(10, m * 60)) for m in (5, 15)),
        *(_shifting("ECS", f"Linear10PercentEvery{m}Minutes", TimeBasedLinear(10, m * 60)) for m in (1, 3)),
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
    if (takes := _shift(config.traffic)) > LONGEST_SHIFT:
        raise InvalidRequest(
            f"cannot define config {config.name!r}: its traffic would take {takes / 60:g} minutes from the first share"
            f" to the last, {LONGEST_SHIFT / 60:g} are allowed; give a shorter interval, or a larger percentage",
            code="InvalidTrafficRoutingConfigurationException",
        )
    if config.bake < 0 or (config.max_failed is not None and config.max_failed < 0):
        raise InvalidRequest(f"cannot define config {config.name!r}: bake and max_failed are 0 or more")
    return config


def _shift(traffic: Traffic) -> float:
    """Seconds from the first share to the last."""
    if isinstance(traffic, AllAtOnce):
        return 0.0
    pauses = 1 if isinstance(traffic, TimeBasedCanary) else -(-100 // traffic.percentage) - 1
    return pauses * traffic.interval
