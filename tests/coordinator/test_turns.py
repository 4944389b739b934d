"""Two sets that take turns, as `apply` takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.applying import read
from shiftwork_coordinator.checking import check_group
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.shell.launching import wants_hooks

BALANCER = "load_balancers: [{haproxy: {endpoint: 'tcp://127.0.0.1:9999', backend: web}}]"
BLUE, GREEN = (
    "instances: {tags: {Color: [blue]}}",
    "blue_green: {green: existing, replacements: {tags: {Color: [green]}}}",
)
EC2_BLUE = BLUE.replace("tags", "ec2_tags")
EC2_GREEN = GREEN.replace("tags", "ec2_tags")


def settings(*lines: str) -> Any:
    text = "application: web\ngroups:\n  production:\n" + "".join(f"    {line}\n" for line in lines)
    return read(text, "f").groups["production"]


def check(*lines: str) -> None:
    home: Any = SimpleNamespace(clock=SystemClock(), epoch=1)
    check_group(home, "production", settings(*lines), {})


@pytest.mark.parametrize(
    "lines",
    [
        (BALANCER, BLUE, GREEN),
        (BALANCER, BLUE, GREEN, "ready: {manual: true}", "originals: {keep_for: 30m, then: keep}"),
        (BALANCER, EC2_BLUE, EC2_GREEN, "originals: {then: terminate}"),
        (BALANCER, "instances: {names: [a]}", "blue_green: {green: existing, replacements: {names: [b]}}"),
        (BALANCER, "instances: {autoscaling: [a]}", "blue_green: {green: existing, replacements: {autoscaling: [b]}}"),
        (BALANCER, "instances: {autoscaling: [a]}", "blue_green: {green: copy}", "originals: {keep_for: 30m}"),
    ],
)
def test_what_can_be_deployed_to(lines: tuple[str, ...]) -> None:
    check(*lines)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((BLUE, GREEN), "it needs `load_balancers`"),
        ((BALANCER, BLUE, "blue_green: {green: existing}"), "`replacements` belongs to `green: existing`, which needs"),
        ((BALANCER, "instances: {autoscaling: [a]}", GREEN.replace("existing", "copy")), "`replacements` belongs to"),
        ((BALANCER, BLUE, GREEN.replace("green]", "blue]")), "selects the same as `instances`"),
        ((BALANCER, BLUE, GREEN.replace("existing,", "existing, standby: b,")), "`standby` belongs to `green: swap`"),
        (
            (BALANCER, "instances: {names: [a, b]}", "blue_green: {green: existing, replacements: {names: [b, c]}}"),
            "b stands in `names` of `instances` and of `replacements`",
        ),
        ((BALANCER, BLUE, GREEN, "originals: {then: terminate}"), "is for instances that `ids` or `ec2_tags` select"),
        (
            (BALANCER, EC2_BLUE, EC2_GREEN.replace("ec2_tags: {Color: [green]}", "autoscaling: [b]"),
             "originals: {then: terminate}"),
            "is not for instances of the Auto Scaling group b",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_with_codedeploys_code(lines: tuple[str, ...], told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(*lines)
    assert told in refused.value.message
    assert refused.value.code == "InvalidBlueGreenDeploymentConfigurationException"


def test_selectors_of_both_sets_are_looked_at() -> None:
    with pytest.raises(InvalidRequest, match="'web-9', which is no instance's id"):
        check(BALANCER, BLUE, "blue_green: {green: existing, replacements: {ids: [web-9]}}")


def test_ready_and_originals_are_for_those_who_replace_something() -> None:
    with pytest.raises(InvalidRequest, match="originals belong to platform ECS or to `blue_green`"):
        check(BALANCER, BLUE, "originals: {keep_for: 30m}")


def test_what_the_groups_of_two_sets_launch_is_nobodys_to_let_in() -> None:
    line = "blue_green: {green: existing, replacements: {autoscaling: [b]}}"
    found = settings(BALANCER, "instances: {autoscaling: [a]}", line)
    assert not wants_hooks(Group("g", "web", "production", found))
