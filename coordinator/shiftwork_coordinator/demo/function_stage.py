"""What the demonstrations with functions share: the stand-in's record, the report, and what must hold at the end."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_coordinator.demo import report
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.report import AwsReport, Requests, ShiftReport
from shiftwork_coordinator.demo.split import Step, steps
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.lab.aws import sample
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.plan import Lab

NAME = f"{sample.FUNCTION}:{sample.ALIAS}"
OLD, NEW = "1", "2"
RATE = 60.0
FORESHOCK = 1.0
"""Seconds of traffic before anything is deployed."""


class FunctionReport(ShiftReport, frozen=True, kw_only=True, rename="camel"):
    """`seconds_to_traffic_back` from the alarm's turning red, or the hook's answer."""

    seconds_to_traffic_back: float | None = None


def deploy(stage: Stage) -> View:
    args = ("--function", sample.FUNCTION, "--alias", sample.ALIAS, "--version", NEW)
    stage.say(f"$ shiftwork deploy {sample.GROUP_NAME} {' '.join(args)}")
    return stage.deployed("version 2", sample.GROUP_NAME, *args)


def calls(lab: Lab) -> list[Recorded]:
    """The coordinator's, in order."""
    with urllib.request.urlopen(f"{lab.aws_url}/_lab/calls?by=shiftwork", timeout=10.0) as answer:
        return msgspec.json.decode(answer.read(), type=list[Recorded])


def forget(lab: Lab) -> None:
    """What was called before."""
    asked = urllib.request.Request(f"{lab.aws_url}/_lab/calls", method="DELETE")
    urllib.request.urlopen(asked, timeout=10.0).close()


def reported(stage: Stage, view: View, found: Sequence[Invocation], back: float | None = None) -> FunctionReport:
    recorded = calls(stage.lab)
    served = Counter(f"v{one.version}" for one in found if one.fine)
    alias = sample.client(stage.lab, "lambda").get_alias(FunctionName=sample.FUNCTION, Name=sample.ALIAS)
    made = msgspec.structs.replace(report.deployment(view), revision=f"{NAME} at version {NEW}")
    return FunctionReport(
        stage.lab.runtime,
        0,
        (made,),
        Requests(len(found), sum(not one.fine for one in found), dict(sorted(served.items()))),
        0,
        f"v{alias['FunctionVersion']}",
        aws_calls=tuple(recorded),
        traffic_weights=tuple(view["trafficWeights"]),
        split=steps(found, recorded, sample.FUNCTION, NEW),
        left_behind=left(NAME, alias, view),
        seconds_to_traffic_back=back,
    )


def left(name: str, alias: Mapping[str, Any], *views: View) -> tuple[str, ...]:
    """What the alias still gives elsewhere, and what has not ended."""
    routes = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    events = [event for view in views for target in view["targets"] for event in target["lifecycleEvents"]]
    still = [f"{name} gives {weight:.0%} to version {version}" for version, weight in routes.items()]
    return (*still, *(f"{e['lifecycleEventName']} of {name} goes on" for e in events if e["status"] == "InProgress"))


def problems(whole: FunctionReport, status: str, serving: str, weights: list[float]) -> list[str]:
    """What differs from the promise, in words; empty when all of it held."""
    ended = whole.deployments[0].status
    moved = [step["weight"] for step in whole.traffic_weights]
    off = [step for step in whole.split if not step.within]
    checks = {
        f"the deployment ended {ended}, expected {status}": ended != status,
        "nothing was invoked": whole.requests.sent == 0,
        f"{whole.serving} serves at the end, expected {serving}": whole.serving != serving,
        f"the replacement's shares were {moved}, expected {weights}": moved != weights,
        f"the measured split is not what the alias says: {off}": bool(off),
        f"left behind: {', '.join(whole.left_behind)}": bool(whole.left_behind),
    }
    return [text for text, wrong in checks.items() if wrong]


def lines(whole: FunctionReport) -> tuple[str, ...]:
    made, requests = whole.deployments[0], whole.requests
    served = ", ".join(f"{count} by {version}" for version, count in requests.by_version.items())
    return (
        "",
        f"deployment   {made.deployment_id}  {made.revision}: {made.status} in {made.duration_seconds:.1f} s",
        f"invocations  {requests.sent} sent, {requests.failed} failed ({served})",
        *(f"             {measured(step, NEW)}" for step in whole.split),
        called(whole),
        f"serving      {whole.serving}",
    )


def called(whole: AwsReport) -> str:
    counted = Counter(call.operation for call in whole.aws_calls)
    return f"AWS calls    {', '.join(f'{count} {name}' for name, count in counted.most_common())}"


def measured(step: Step, version: str) -> str:
    found = f"{step.by_replacement / step.invocations:.1%}" if step.invocations else "-"
    return f"at {step.weight:.0%}: {step.by_replacement} of {step.invocations} ran v{version} ({found})"


def apply(stage: Stage, *, failing: float = 0.0, interval: float) -> None:
    stage.checked("apply", "-f", str(sample.make(stage.lab, failing=failing, interval=interval)))
