"""Version 2 fails a share of its invocations: their count turns an alarm red, and all traffic goes back."""

from __future__ import annotations

import time

from shiftwork_coordinator.demo import function_stage, load
from shiftwork_coordinator.demo.function_stage import FORESHOCK, NAME, NEW, RATE
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.split import moves
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab.aws import sample

FAILING = 0.5
INTERVAL = 60.0
POLL = 1.0
AT_MOST = POLL + 2.0
"""Seconds from the alarm's turning red until the traffic is back: one poll of the alarm and two more."""


def run(stage: Stage) -> Shown:
    function_stage.apply(stage, failing=FAILING, interval=INTERVAL)
    stage.say(f"Invoking {NAME} {RATE:g} times a second from here on; of version 2 {FAILING:.0%} fail.")
    with load.invoking(stage.lab.aws_url, NAME, stage.lab.directory / "invocations.json", RATE) as traffic:
        time.sleep(FORESHOCK)
        view = function_stage.deploy(stage)
        time.sleep(FORESHOCK)
        found = traffic.stop()
    back = _seconds(stage)
    whole = function_stage.reported(stage, view, found, back)
    told = "the alarm was never red" if back is None else f"{back:.2f} s after the alarm turned red"
    late = back is None or back > AT_MOST
    problems = function_stage.problems(whole, "Stopped", "v1", [0.25, 0.0])
    problems += [f"all traffic was back: {told}; at most {AT_MOST:g} s promised"] if late else []
    return Shown(whole, (*function_stage.lines(whole), f"back on v1   {told}"), tuple(problems))


def _seconds(stage: Stage) -> float | None:
    """From red to the write that gave all traffic back."""
    (alarm,) = sample.client(stage.lab, "cloudwatch").describe_alarms(AlarmNames=[sample.ALARM])["MetricAlarms"]
    moved = moves(function_stage.calls(stage.lab), sample.FUNCTION, NEW)
    backs = [call.answered for call, weight in moved if weight == 0.0]
    if alarm["StateValue"] != "ALARM" or not backs:
        return None
    return float(backs[-1] - alarm["StateUpdatedTimestamp"].timestamp())
