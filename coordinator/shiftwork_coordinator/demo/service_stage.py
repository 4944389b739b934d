"""What the demonstrations with services share: one under traffic, the report, and what must hold at the end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from shiftwork_coordinator.demo import function_stage, load, report, split
from shiftwork_coordinator.demo.function_stage import FORESHOCK, RATE
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.load import Invoking
from shiftwork_coordinator.demo.report import Requests, ShiftReport
from shiftwork_coordinator.demo.split import Step, between
from shiftwork_coordinator.demo.stage import Stage, View
from shiftwork_coordinator.lab.aws import service_sample
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.aws.service_sample import CLUSTER, GROUP_NAME, Made
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.shifters.task_sets import NOTE

OLD, NEW = "v1", "v2"


def prepared(stage: Stage, traffic: Mapping[str, Any] | None = None, **settings: object) -> Made:
    """The service, whose tasks are healthy, and its group."""
    stage.say("Starting the service's tasks ...")
    made = service_sample.make(stage.lab)
    service_sample.await_healthy(stage.lab, made)
    stage.checked("apply", "-f", str(service_sample.write(stage.lab, made, traffic, **settings)))
    return made


@contextmanager
def asking(stage: Stage, made: Made) -> Iterator[Invoking]:
    url = service_sample.url(stage.lab, made)
    stage.say(f"Asking {url} {RATE:g} times a second from here on.")
    with load.asking(url, stage.lab.directory / "requests.json", RATE) as traffic:
        time.sleep(FORESHOCK)
        yield traffic


def deploy(stage: Stage, definition: str) -> View:
    name = definition.rpartition("/")[2]
    stage.say(f"$ shiftwork deploy {GROUP_NAME} --task-definition {name}")
    view = stage.deployed(name, GROUP_NAME, "--task-definition", definition)
    time.sleep(FORESHOCK)
    return view


def reported(stage: Stage, made: Made, views: Sequence[View], found: Sequence[Invocation]) -> ShiftReport:
    recorded = function_stage.calls(stage.lab)
    served = Counter(one.version for one in found if one.fine)
    return ShiftReport(
        stage.lab.runtime,
        service_sample.DESIRED,
        tuple(_deployment(view) for view in views),
        Requests(len(found), sum(not one.fine for one in found), dict(sorted(served.items()))),
        least_hosts(found),
        found[-1].version if found else "",
        aws_calls=tuple(recorded),
        traffic_weights=tuple(step for view in views for step in view["trafficWeights"]),
        split=between(found, moves(recorded, made), made.service, NEW),
        left_behind=tuple(left(stage, made, views)),
    )


def _deployment(view: View) -> report.Deployment:
    definition = view["targets"][0]["resource"]["target"]
    return msgspec.structs.replace(report.deployment(view), revision=definition.rpartition("/")[2])


def moves(calls: Sequence[Recorded], made: Made) -> list[tuple[Recorded, float]]:
    """Of the main listener, each with the second target group's share."""
    return split.shares(calls, made.listener, made.groups[1])


def least_hosts(found: Sequence[Invocation]) -> int:
    """The least number of hosts that answered within one whole second."""
    hosts: defaultdict[int, set[str]] = defaultdict(set)
    for one in found:
        hosts[int(one.sent)].add(one.host)
    whole = sorted(hosts)[1:-1]
    return min((len(hosts[second]) for second in whole), default=0)


# What is left


def left(stage: Stage, made: Made, views: Sequence[View]) -> list[str]:
    """Whatever stands otherwise than before, but for which task set is the primary."""
    stage.wait(lambda: not _draining(stage.lab, made), "task sets that go to be gone", within=30.0)
    events = [event for view in views for target in view["targets"] for event in target["lifecycleEvents"]]
    still = [f"{event['lifecycleEventName']} has not ended" for event in events if event["status"] == "InProgress"]
    return [*still, *_task_sets(stage.lab, made), *_shares(stage.lab, made), *_scaling(stage.lab, made)]


def service(lab: Lab, made: Made) -> Any:
    about = {"cluster": CLUSTER, "services": [made.service], "include": ["TAGS"]}
    return client(lab, "ecs").describe_services(**about)["services"][0]


def _draining(lab: Lab, made: Made) -> bool:
    return any(one["status"] == "DRAINING" for one in service(lab, made)["taskSets"])


def _task_sets(lab: Lab, made: Made) -> Iterator[str]:
    for one in service(lab, made)["taskSets"]:
        if one["status"] != "PRIMARY":
            yield f"task set {one['taskSetArn']} is there"
        elif one["runningCount"] != service_sample.DESIRED:
            yield f"{one['runningCount']} tasks run, {service_sample.DESIRED} are wanted"


def _shares(lab: Lab, made: Made) -> Iterator[str]:
    """Both listeners must send everything to the group of the primary."""
    (primary,) = [one for one in service(lab, made)["taskSets"] if one["status"] == "PRIMARY"]
    home = primary["loadBalancers"][0]["targetGroupArn"]
    told = client(lab, "elbv2").describe_listeners(ListenerArns=[made.listener, made.test_listener])
    for one in told["Listeners"]:
        if (share := split.share(one["DefaultActions"], home)) != 1.0:
            yield f"{one['ListenerArn']} gives {1 - share:.0%} to others than the primary"


def _scaling(lab: Lab, made: Made) -> Iterator[str]:
    told = client(lab, "application-autoscaling").describe_scalable_targets(
        ServiceNamespace="ecs", ResourceIds=[f"service/{CLUSTER}/{made.service}"]
    )["ScalableTargets"][0]
    if any((told.get("SuspendedState") or {}).values()):
        yield "scaling is suspended"
    if any(tag["key"] == NOTE for tag in service(lab, made).get("tags") or ()):
        yield f"the service has the tag {NOTE}"


# What is shown


def problems(whole: ShiftReport, statuses: list[str], weights: list[float], served: list[str]) -> list[str]:
    """What differs from the promise, in words; empty when all of it held."""
    ended = [one.status for one in whole.deployments]
    moved = [step["weight"] for step in whole.traffic_weights]
    off = [step for step in whole.split if not step.within]
    least = whole.minimum_in_service
    checks = {
        f"the deployments ended {ended}, expected {statuses}": ended != statuses,
        "nothing was asked": whole.requests.sent == 0,
        f"{whole.requests.failed} of {whole.requests.sent} requests failed": whole.requests.failed > 0,
        f"{list(whole.requests.by_version)} answered, expected {served}": list(whole.requests.by_version) != served,
        f"{whole.serving} serves at the end, expected {NEW}": whole.serving != NEW,
        f"{least} hosts answered, at least {whole.instances} promised": least < whole.instances,
        f"the replacement's shares were {moved}, expected {weights}": moved != weights,
        f"the measured split is not what the listener says: {off}": bool(off),
        f"left behind: {', '.join(whole.left_behind)}": bool(whole.left_behind),
    }
    return [text for text, wrong in checks.items() if wrong]


def lines(whole: ShiftReport) -> tuple[str, ...]:
    requests, counted = whole.requests, Counter(call.operation for call in whole.aws_calls)
    served = ", ".join(f"{count} by {version}" for version, count in requests.by_version.items())
    return (
        "",
        *(
            f"deployment   {one.deployment_id}  {one.revision}: {one.status} in {one.duration_seconds:.1f} s"
            for one in whole.deployments
        ),
        f"requests     {requests.sent} sent, {requests.failed} failed ({served})",
        *(f"             {_measured(step)}" for step in whole.split),
        f"in service   never fewer than {whole.minimum_in_service} hosts of {whole.instances} wanted",
        f"AWS calls    {', '.join(f'{count} {name}' for name, count in counted.most_common())}",
        f"serving      {whole.serving}",
    )


def _measured(step: Step) -> str:
    found = f"{step.by_replacement / step.invocations:.1%}" if step.invocations else "-"
    return f"at {step.weight:.0%}: {NEW} answered {step.by_replacement} of {step.invocations} ({found})"
