"""The demonstrations there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shiftwork_coordinator.demo import (
    autoscaling_blue_green,
    autoscaling_in_place,
    autoscaling_scale_out,
    autoscaling_swap,
    ecs_blue_green,
    ecs_canary,
    half_at_a_time,
    lambda_alarm_rollback,
    lambda_canary,
    lambda_sam,
    server_canary,
)
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage


class Scenario(NamedTuple):
    """`fewest` instances are needed to show it; with `aws` it plays in a lab with AWS's stand-in and none."""

    summary: str
    fewest: int
    run: Callable[[Stage], Shown]
    aws: bool = False


DEFAULT = "half-at-a-time"
SCENARIOS = {
    DEFAULT: Scenario(
        "v2 reaches one half of the instances, then the other; v3 is broken and rolled back; no request fails",
        2,
        half_at_a_time.run,
    ),
    "lambda-canary": Scenario(
        "a function's traffic moves from v1 to v2, a quarter first; the split is measured",
        0,
        lambda_canary.run,
        aws=True,
    ),
    "lambda-alarm-rollback": Scenario(
        "v2 fails some requests: an alarm turns red, and all traffic goes back", 0, lambda_alarm_rollback.run, aws=True
    ),
    "lambda-sam": Scenario(
        "a SAM template's three functions move together to v2; a hook of one refuses v3, and all go back",
        0,
        lambda_sam.run,
        aws=True,
    ),
    "ecs-blue-green": Scenario(
        "a service's v2 is tested, then gets all the traffic; a broken v3 is found on the test listener, and goes",
        0,
        ecs_blue_green.run,
        aws=True,
    ),
    "ecs-canary": Scenario(
        "a service's traffic moves from v1 to v2, a quarter first; the split is measured", 0, ecs_canary.run, aws=True
    ),
    "autoscaling-in-place": Scenario(
        "half of an Auto Scaling group at a time, held still meanwhile; a broken v3 is rolled back",
        0,
        autoscaling_in_place.run,
        aws=True,
    ),
    "autoscaling-scale-out": Scenario(
        "an Auto Scaling group grows during a deployment and shrinks after it; nothing serves unprepared",
        0,
        autoscaling_scale_out.run,
        aws=True,
    ),
    "autoscaling-blue-green": Scenario(
        "a copy of an Auto Scaling group takes over with v2; a broken v3 is given up and serves nobody",
        0,
        autoscaling_blue_green.run,
        aws=True,
    ),
    "autoscaling-swap": Scenario(
        "two Auto Scaling groups swap: v2 takes over on the standby; a broken v3 is given up and serves nobody",
        0,
        autoscaling_swap.run,
        aws=True,
    ),
    "server-canary": Scenario(
        "the traffic of an Auto Scaling group moves from v1 to v2 by weights, a quarter first; the split is measured",
        0,
        server_canary.run,
        aws=True,
    ),
}
