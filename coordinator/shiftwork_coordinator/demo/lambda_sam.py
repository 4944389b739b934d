"""The functions of a SAM template move together to version 2; the hook of one refuses version 3, and all go back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from shiftwork_coordinator.demo import function_stage, load, report
from shiftwork_coordinator.demo.function_stage import FORESHOCK, FunctionReport
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.report import Deployment, Requests, Shown
from shiftwork_coordinator.demo.split import Step, moves, steps
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.lab.aws import sample, shop
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.aws.sample import ALIAS
from shiftwork_coordinator.lab.aws.shop import BILLS, FUNCTIONS, HOOK, MAILS, ORDERS

RATE = 25.0
"""Invocations of each function in a second."""
CANARY, LINEAR = 2.0, 5.0
"""Seconds between two steps. `mails` has all its traffic, and its hook has answered, while `orders` is half-way."""
AT_MOST = 3.0
"""Seconds from the hook's answer until all traffic is back."""
GOOD, BAD = 2, 3
Weights = dict[str, list[float]]
FORTH: Weights = {ORDERS: [0.5, 1.0], BILLS: [1.0], MAILS: [0.25, 1.0]}
BACK: Weights = {ORDERS: [0.5, 0.0], BILLS: [1.0, 0.0], MAILS: [0.25, 1.0, 0.0]}
ENDS = {
    GOOD: {name: ["Succeeded"] for name in FUNCTIONS},
    BAD: {ORDERS: ["Stopped"], BILLS: ["Stopped", "Succeeded"], MAILS: ["Failed"]},
}
"""What has arrived is put back by a deployment of its own; the others give their traffic back in place."""


class Act(msgspec.Struct, frozen=True):
    """One `shiftwork sam deploy`: the deployments that it made or caused, what was invoked and called meanwhile."""

    version: int
    views: list[View]
    found: Mapping[str, Sequence[Invocation]]
    calls: list[Recorded]

    def weights(self, function: str) -> list[float]:
        """The new version's shares, one after the other, as they were asked for."""
        return [weight for _, weight in moves(self.calls, function, str(self.version))]

    def split(self) -> list[Step]:
        return [step for name in FUNCTIONS for step in steps(self.found[name], self.calls, name, str(self.version))]


def run(stage: Stage) -> Shown:
    shop.make(stage.lab)
    stage.checked("apply", "-f", str(shop.configs(stage.lab, CANARY, LINEAR)))
    acts = [_deployed(stage, version) for version in (GOOD, BAD)]
    whole = _reported(stage, acts)
    problems = [problem for act in acts for problem in _act_problems(act)] + _problems(whole)
    return Shown(whole, tuple(_lines(whole, acts)), tuple(problems))


def _deployed(stage: Stage, version: int) -> Act:
    lab, before = stage.lab, len(function_stage.calls(stage.lab))
    args = ("sam", "deploy", str(shop.write(lab, version)), "--application", shop.APPLICATION, "--answer", "return")
    with ExitStack() as stack:
        traffic = {
            name: stack.enter_context(
                load.invoking(lab.aws_url, f"{name}:{ALIAS}", lab.directory / f"{name}-{version}.json", RATE)
            )
            for name in FUNCTIONS
        }
        stage.say(f"Invoking {', '.join(FUNCTIONS)} {RATE:g} times a second each.")
        time.sleep(FORESHOCK)
        stage.say(f"$ shiftwork {' '.join(args)}  (version {version})")
        views = stage.made(*args)
        time.sleep(FORESHOCK)
        found = {name: one.stop() for name, one in traffic.items()}
    return Act(version, views, found, function_stage.calls(lab)[before:])


# What is told


def _reported(stage: Stage, acts: Sequence[Act]) -> FunctionReport:
    client = sample.client(stage.lab, "lambda")
    aliases = {name: client.get_alias(FunctionName=name, Name=ALIAS) for name in FUNCTIONS}
    views = [view for act in acts for view in act.views]
    every = [one for act in acts for found in act.found.values() for one in found]
    served = Counter(f"v{one.version}" for one in every if one.fine)
    left = [what for name in FUNCTIONS for what in function_stage.left(name, aliases[name], *_of(name, views))]
    return FunctionReport(
        stage.lab.runtime,
        0,
        tuple(_deployment(view) for view in views),
        Requests(len(every), sum(not one.fine for one in every), dict(sorted(served.items()))),
        0,
        ", ".join(sorted({f"v{alias['FunctionVersion']}" for alias in aliases.values()})),
        aws_calls=tuple(call for act in acts for call in act.calls),
        traffic_weights=tuple(_weight(view, weight) for view in views for weight in view["trafficWeights"]),
        split=tuple(step for act in acts for step in act.split()),
        left_behind=tuple(left),
        seconds_to_traffic_back=_seconds(acts[-1]),
    )


def _of(function: str, views: Sequence[View]) -> list[View]:
    return [view for view in views if view["targets"][0]["targetId"] == function]


def _deployment(view: View) -> Deployment:
    resource = view["targets"][0]["resource"]
    made = report.deployment(view, view["rollbackInfo"]["rollbackTriggeringDeploymentId"])
    return msgspec.structs.replace(made, revision=f"{resource['function']}:{ALIAS} at version {resource['target']}")


def _weight(view: View, weight: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"deploymentId": view["deploymentId"], **weight}


def _seconds(act: Act) -> float | None:
    """From the hook's answer to the last write that gave traffic back."""
    answers = [call.answered for call in act.calls if _asks(call)]
    moved = [moves(act.calls, name, str(act.version)) for name in FUNCTIONS]
    backs = [call.answered for made in moved for call, weight in made if weight == 0.0]
    return max(backs) - max(answers) if backs and answers else None


def _asks(call: Recorded) -> bool:
    return call.operation == "Invoke" and call.parameters.get("FunctionName") == HOOK and call.status == 200


def _lines(whole: FunctionReport, acts: Sequence[Act]) -> list[str]:
    requests, back = whole.requests, whole.seconds_to_traffic_back
    served = ", ".join(f"{count} by {version}" for version, count in requests.by_version.items())
    return [
        "",
        *(_row(one) for one in whole.deployments),
        f"invocations  {requests.sent} sent, {requests.failed} failed ({served})",
        *(
            f"             {step.name:<7}{function_stage.measured(step, str(act.version))}"
            for act in acts
            for step in act.split()
        ),
        function_stage.called(whole),
        "back on v2   " + ("never" if back is None else f"{back:.2f} s after the hook's answer"),
        f"serving      {whole.serving}",
    ]


def _row(one: Deployment) -> str:
    what = f", rollback of {one.rollback_of}" if one.rollback_of else ""
    return f"deployment   {one.deployment_id}  {one.revision}: {one.status} in {one.duration_seconds:.1f} s{what}"


# What must hold


def _act_problems(act: Act) -> list[str]:
    ends = {name: [view["status"] for view in _of(name, act.views)] for name in FUNCTIONS}
    shares, wanted = {name: act.weights(name) for name in FUNCTIONS}, FORTH if act.version == GOOD else BACK
    off, asked = [step for step in act.split() if not step.within], sum(map(_asks, act.calls))
    checks = {
        f"the deployments ended {ends}, expected {ENDS[act.version]}": ends != ENDS[act.version],
        f"the new version's shares were {shares}, expected {wanted}": shares != wanted,
        f"the measured split is not what the aliases say: {off}": bool(off),
        f"the hook function was asked {asked} times, expected once": asked != 1,
    }
    return [f"version {act.version}: {text}" for text, wrong in checks.items() if wrong]


def _problems(whole: FunctionReport) -> list[str]:
    back = whole.seconds_to_traffic_back
    checks = {
        "nothing was invoked": whole.requests.sent == 0,
        f"{whole.requests.failed} of {whole.requests.sent} invocations failed": whole.requests.failed > 0,
        f"{whole.serving} serves at the end, expected v{GOOD}": whole.serving != f"v{GOOD}",
        f"left behind: {', '.join(whole.left_behind)}": bool(whole.left_behind),
        f"all traffic was back {back} s after the hook's answer, at most {AT_MOST:g} promised": (
            back is None or back > AT_MOST
        ),
    }
    return [text for text, wrong in checks.items() if wrong]
