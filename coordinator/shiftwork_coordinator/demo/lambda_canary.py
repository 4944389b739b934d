"""A function's traffic moves from version 1 to version 2: a quarter first, then all, while it is invoked."""

from __future__ import annotations

import time

from shiftwork_coordinator.demo import function_stage, load
from shiftwork_coordinator.demo.function_stage import FORESHOCK, NAME, RATE, FunctionReport
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.stage import Stage

INTERVAL = 4.0
HOOKS = 2


def run(stage: Stage) -> Shown:
    function_stage.apply(stage, interval=INTERVAL)
    stage.say(f"Invoking {NAME} {RATE:g} times a second from here on.")
    with load.invoking(stage.lab.aws_url, NAME, stage.lab.directory / "invocations.json", RATE) as traffic:
        time.sleep(FORESHOCK)
        view = function_stage.deploy(stage)
        time.sleep(FORESHOCK)
        found = traffic.stop()
    whole = function_stage.reported(stage, view, found)
    return Shown(whole, function_stage.lines(whole), tuple(_problems(whole)))


def _problems(whole: FunctionReport) -> list[str]:
    asked = sum(call.operation == "Invoke" and call.status == 200 for call in whole.aws_calls)
    checks = {
        f"{whole.requests.failed} of {whole.requests.sent} invocations failed": whole.requests.failed > 0,
        f"hook functions were asked {asked} times, expected {HOOKS}": asked != HOOKS,
    }
    found = function_stage.problems(whole, "Succeeded", "v2", [0.25, 1.0])
    return [*found, *(text for text, wrong in checks.items() if wrong)]
