"""Deployment configs: what is predefined, and what a custom one may be."""

from __future__ import annotations

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.model.config import (
    DEFAULT,
    PREDEFINED,
    DeploymentConfig,
    MinimumHealthyHosts,
    TimeBasedCanary,
    TimeBasedLinear,
    Traffic,
    checked,
    full_name,
)


def custom(name: str = "mine", kind: str = "HOST_COUNT", value: int = 1, **more: object) -> DeploymentConfig:
    return DeploymentConfig(name, MinimumHealthyHosts(kind, value), **more)  # type: ignore[arg-type]


def test_the_predefined_names_are_codedeploys() -> None:
    assert {full_name(n) for n in ("OneAtATime", "HalfAtATime", "AllAtOnce")} == {
        name for name, config in PREDEFINED.items() if config.platform == "Server"
    }
    assert full_name("mine") == "mine"
    assert DEFAULT == "CodeDeployDefault.OneAtATime"


@pytest.mark.parametrize(
    ("name", "total", "floor"),
    [("OneAtATime", 9, 8), ("HalfAtATime", 9, 5), ("AllAtOnce", 9, 0), ("OneAtATime", 1, 0), ("HalfAtATime", 0, 0)],
)
def test_the_predefined_floors(name: str, total: int, floor: int) -> None:
    assert PREDEFINED[full_name(name)].minimum_healthy_hosts.of(total) == floor


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (custom("AllAtOnce"), "predefined"),
        (custom("CodeDeployDefault.Mine"), "predefined"),
        (custom(""), "1 to 100"),
        (custom("x" * 101), "1 to 100"),
        (custom(kind="FLEET_PERCENT", value=100), "0 to 99"),
        (custom(kind="MOST_CONCURRENCY", value=0), "at least 1"),
        (custom(bake=-1.0), "0 or more"),
        (custom(max_failed=-1), "0 or more"),
    ],
)
def test_what_is_refused(config: DeploymentConfig, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        checked(config)


def test_what_is_taken() -> None:
    config = custom(kind="FLEET_PERCENT", value=99, bake=5.0, max_failed=0)
    assert checked(config) is config


TWO_DAYS = 2880 * 60.0


@pytest.mark.parametrize(
    ("traffic", "minutes"),
    [
        (TimeBasedCanary(10, TWO_DAYS), ""),
        (TimeBasedCanary(10, TWO_DAYS + 60), "2881 minutes"),
        (TimeBasedLinear(10, TWO_DAYS / 9), ""),
        (TimeBasedLinear(10, TWO_DAYS / 9 + 60), "2889 minutes"),
        (TimeBasedLinear(30, TWO_DAYS / 3), ""),  # 30, 60, 90, 100
        (TimeBasedLinear(30, TWO_DAYS / 3 + 20), "2881 minutes"),
        (TimeBasedLinear(99, TWO_DAYS), ""),
    ],
)
def test_two_days_are_the_most_that_a_shift_takes(traffic: Traffic, minutes: str) -> None:
    """CodeDeploy's limit: 2880 minutes from the first share to the last."""
    config = custom(traffic=traffic, platform="Lambda", value=0)
    if not minutes:
        assert checked(config) is config
        return
    with pytest.raises(InvalidRequest, match=f"'mine': .*{minutes}.*2880 are allowed; give a shorter") as err:
        checked(config)
    assert err.value.code == "InvalidTrafficRoutingConfigurationException"
