"""Services deployed in AWS's stand-in: what is called in which order, how traffic was split, and that nothing stays
behind, whatever fails and whenever the coordinator dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.system import ecs_world
from tests.system.aws_world import Home, home, until
from tests.system.ecs_world import AT_FIRST, AT_THE_END, CRASHES, DEFECT, SICK, Cloud, deploy, group

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.demo import invocations, service_stage
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.split import between
from shiftwork_coordinator.demo.stage import command
from shiftwork_coordinator.lab import processes
from shiftwork_coordinator.lab.aws.containers.scheduler import Settings
from shiftwork_coordinator.lab.aws.exchange import Asked
from shiftwork_coordinator.lab.aws.faults import Fault
from shiftwork_coordinator.lab.aws.service_sample import CLUSTER, Made
from shiftwork_coordinator.model.settings import Alarms, FunctionHooks, Limits, Originals
from shiftwork_coordinator.model.status import DeploymentStatus as D
from shiftwork_coordinator.operations import rollback_deployment, stop_deployment

SUCCESS = [
    "ModifyListener main 0%", "CreateTaskSet 2", "TagResource", "RegisterScalableTarget 3 suspended",
    "ModifyListener test 100%", "Invoke", "ModifyListener main 100%", "UpdateServicePrimaryTaskSet",
    "RegisterScalableTarget 0 suspended", "UntagResource", "DeleteTaskSet",
]  # fmt: skip
"""All at once, with a hook on the test listener."""
THERE, BACK = SUCCESS[:4], ["RegisterScalableTarget 0 suspended", "UntagResource", "DeleteTaskSet"]
FAILURE = [*THERE, "ModifyListener test 100%", "Invoke", "ModifyListener test 0%", *BACK]
"""The hook fails."""
READ = {"DescribeServices", "DescribeListeners", "DescribeTaskDefinition", "DescribeTargetHealth", "ListTasks",
        "DescribeScalableTargets"}  # fmt: skip


@pytest.fixture
async def cloud(moto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    moto.reset()
    async with ecs_world.cloud(moto.url, tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
async def world(cloud: Cloud, tmp_path: Path) -> AsyncIterator[Home]:
    async with home(tmp_path / "home", "ECS") as found:
        yield found


class Asking:
    """Steady requests meanwhile; `found` afterwards."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate, self._stopping = url, rate, asyncio.Event()
        self.found: list[Invocation] = []

    async def __aenter__(self) -> Asking:
        self._running = asyncio.ensure_future(invocations.run(self._url, self._rate, self._stopping))
        await asyncio.sleep(0.2)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.2)
        self._stopping.set()
        self.found = await self._running


async def test_a_linear_shift_calls_what_it_must_and_the_measured_split_is_the_listeners(
    cloud: Cloud, world: Home
) -> None:
    made = await cloud.make()
    await world.linear(1.0, 40)
    await group(world, made, config="linear")
    async with Asking(cloud.url, 120.0) as asking:
        id = await deploy(world, made)
        ended = await world.ended(id)
    assert ended.status is D.SUCCEEDED, await world.message(id)
    steps = [f"ModifyListener main {share}%" for share in (40, 80, 100)]
    assert cloud.done() == [*SUCCESS[:6], *steps, *SUCCESS[7:]]
    assert {call.operation for call in cloud.calls()} - {name.split()[0] for name in SUCCESS} <= READ
    told = service_stage.moves(cloud.calls(), made)
    found = between(asking.found, told, made.service, "v2")
    assert [step.weight for step in found] == [0.0, 0.4, 0.8, 1.0]
    assert all(step.within for step in found), found
    assert min(found[1].invocations, found[2].invocations) > 40
    assert [one for one in asking.found if not one.fine] == []
    since = await world.weights(id)
    assert [weight for _, weight in since] == [0.4, 0.8, 1.0]
    assert all(call.at >= at + 1.0 for (at, _), (call, _) in zip(since, told[1:], strict=False)), "never early"
    assert await cloud.stands() == AT_THE_END


async def test_blue_green_steady_late_and_back_by_a_rollback_with_scaling_as_it_was(cloud: Cloud, world: Home) -> None:
    made = await cloud.make()
    scaling = cloud.aws.client("application-autoscaling")
    about = {"ServiceNamespace": "ecs", "ResourceId": f"service/{CLUSTER}/{made.service}"}
    before = {"DynamicScalingInSuspended": True}
    await asyncio.to_thread(
        scaling.register_scalable_target, ScalableDimension="ecs:service:DesiredCount", SuspendedState=before, **about
    )
    await group(world, made, originals=Originals(keep_for=0.2))
    cloud.standin.scheduler.settings = Settings(start_after=0.5, grace=60.0)
    id = await deploy(world, made)
    ended = await world.ended(id)
    assert ended.status is D.SUCCEEDED, await world.message(id)
    assert cloud.done() == [one.replace(" 0 suspended", " 1 suspended") for one in SUCCESS]
    suspended = {"suspended": ["DynamicScalingInSuspended"]}
    assert await cloud.stands() == AT_THE_END | suspended
    back = await rollback_deployment(world.coordinator, id, who="tester")
    assert (await world.ended(back.id)).status is D.SUCCEEDED
    assert await cloud.stands() == AT_FIRST | suspended


async def test_a_hook_that_fails_on_the_test_listener_and_no_client_has_seen_it(cloud: Cloud, world: Home) -> None:
    made = await cloud.make(environment=DEFECT)
    await group(world, made)
    async with Asking(cloud.url, 60.0) as asking:
        id = await deploy(world, made)
        ended = await world.ended(id)
    assert ended.status is D.FAILED
    assert "the test listener answers 500: v2" in await world.message(id)
    assert cloud.done() == FAILURE
    assert {one.version for one in asking.found} == {"v1"}
    assert await cloud.stands() == AT_FIRST


async def test_a_crash_loop_ends_it_early_with_the_reasons(cloud: Cloud, world: Home) -> None:
    made = await cloud.make(environment=CRASHES)
    await group(world, made, limits=Limits(steady_within=600))
    id = await deploy(world, made)
    assert (await world.ended(id)).status is D.FAILED
    assert "of its tasks stopped by themselves (the limit is 3)" in await world.message(id)
    assert "Essential container in task exited (app: exit code 1) (×" in await world.message(id)
    assert cloud.done() == [*THERE, *BACK]
    assert await cloud.stands() == AT_FIRST


@pytest.mark.parametrize(
    ("second", "starts", "why"),
    [
        ({}, -1.0, "not provisioned within 1 s: 0 of 1 tasks run, 1 are starting: STABILIZING"),
        ({"environment": SICK}, 0.0, "not provisioned within 1 s: 1 of 1 tasks run, 0 are starting: STABILIZING"),
    ],
    ids=["never-starts", "never-healthy"],
)
async def test_a_task_set_that_is_never_steady(cloud: Cloud, world: Home, second: Any, starts: float, why: str) -> None:
    made = await cloud.make(**second)
    cloud.standin.scheduler.settings = Settings(start_after=starts, grace=60.0)
    await group(world, made, limits=Limits(steady_within=1.0))
    id = await deploy(world, made)
    assert (await world.ended(id)).status is D.FAILED
    assert why in await world.message(id)
    assert cloud.done() == [*THERE, *BACK]
    assert await cloud.stands() == AT_FIRST


async def test_what_clients_see_turns_the_alarm_red_while_the_originals_are_kept(cloud: Cloud, world: Home) -> None:
    made = await cloud.make(environment=DEFECT)
    watched = Alarms(cloudwatch=(made.alarm,), every=1.0)
    await group(world, made, hooks=FunctionHooks(), originals=Originals(keep_for=600), alarms=watched)
    async with Asking(cloud.url, 60.0) as asking:
        id = await deploy(world, made)
        ended = await world.ended(id)
        await asyncio.sleep(0.3)
    assert (ended.status, ended.error_code) == (D.STOPPED, "ALARM_ACTIVE")
    assert cloud.done() == [
        *THERE, "ModifyListener test 100%", "ModifyListener main 100%", "UpdateServicePrimaryTaskSet",
        "ModifyListener main 0%", "UpdateServicePrimaryTaskSet", "ModifyListener test 0%", *BACK,
    ]  # fmt: skip
    assert await cloud.stands() == AT_FIRST
    assert asking.found[-1].version == "v1"
    (alarm,) = (await asyncio.to_thread(cloud.aws.client("cloudwatch").describe_alarms, AlarmNames=[made.alarm]))[
        "MetricAlarms"
    ]
    back = service_stage.moves(cloud.calls(), made)[-1][0]
    assert back.answered - alarm["StateUpdatedTimestamp"].timestamp() < watched.every + 2.0


async def test_a_stop_in_mid_shift_takes_everything_back(cloud: Cloud, world: Home) -> None:
    made = await cloud.make()
    await world.canary(60.0)
    await group(world, made, config="canary")
    id = await deploy(world, made)
    await until(lambda: "ModifyListener main 25%" in cloud.done())
    await stop_deployment(world.coordinator, id, now=False, rollback=None, who="tester")
    assert (await world.ended(id)).status is D.STOPPED
    back = ["ModifyListener main 0%", "ModifyListener test 0%", *BACK]
    assert cloud.done() == [*SUCCESS[:6], "ModifyListener main 25%", *back]
    assert await cloud.stands() == AT_FIRST


@pytest.mark.parametrize(
    "fault",
    [
        Fault("throttle", "ecs:*", first=8, times=4),
        Fault("drop", "ecs:CreateTaskSet", late=True),
        Fault("drop", "elbv2:ModifyListener", late=True, times=2),
        Fault("stale", "ecs:DescribeServices", first=9, times=4),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.operation}",
)
async def test_an_api_that_throttles_and_lies_is_outlasted(cloud: Cloud, world: Home, fault: Fault) -> None:
    """A lie: answers what was true before, has its effect and does not answer."""
    made = await cloud.make()
    await group(world, made)
    cloud.standin.faults.add(fault)
    id = await deploy(world, made)
    assert (await world.ended(id)).status is D.SUCCEEDED, await world.message(id)
    assert await cloud.stands() == AT_THE_END
    assert cloud.done().count("CreateTaskSet 2") <= 2, "asked again, it is the same task set"
    assert [weight for _, weight in await world.weights(id)] == [1.0]
    assert await world.hooks(id) == {"AfterAllowTestTraffic": "Succeeded"}


# The coordinator dies


def _before(changes: list[str]) -> list[Fault]:
    """Dies at each change before it has an effect: the first time it is asked for, and not the second."""
    return [Fault("kill", f"*:{name}", 2 * n - 1) for name, n in _numbered(changes)]


def _after(changes: list[str]) -> list[Fault]:
    return [Fault("kill", f"*:{name}", n, late=True) for name, n in _numbered(changes)]


def _numbered(changes: list[str]) -> list[tuple[str, int]]:
    counts = Counter(change.split()[0] for change in changes)
    return [(name, n) for name, count in counts.items() for n in range(1, count + 1)]


def _reading(first: int) -> list[Fault]:
    """At every ninth read: a step takes half as many, and one that never ends says nothing."""
    return [Fault("kill", "*:Describe*", n) for n in range(first, 80, 9)]


@pytest.mark.parametrize(
    ("faults", "second", "status", "stands"),
    [
        (_before(SUCCESS), {}, D.SUCCEEDED, AT_THE_END),
        (_after(SUCCESS), {}, D.SUCCEEDED, AT_THE_END),
        (_reading(4), {}, D.SUCCEEDED, AT_THE_END),
        (_reading(8), {}, D.SUCCEEDED, AT_THE_END),
        (_before(FAILURE), {"environment": DEFECT}, D.FAILED, AT_FIRST),
        (_after(FAILURE), {"environment": DEFECT}, D.FAILED, AT_FIRST),
    ],
    ids=["before-changes", "after-changes", "reading", "reading-later", "before-going-back", "after-going-back"],
)
async def test_a_coordinator_killed_again_and_again_finishes_what_it_began(
    cloud: Cloud, world: Home, faults: list[Fault], second: Any, status: D, stands: Any
) -> None:
    made = await cloud.make(**second)
    await group(world, made)

    async def killed(asked: Asked) -> None:
        await world.restart()

    cloud.standin.faults.killed = killed
    cloud.standin.faults.add(*faults)
    ended = await world.ended(await _insisted(world, made))
    assert ended.status is status, await world.message(ended.id)
    assert await cloud.stands() == stands
    assert world.restarts == len(faults) or "Describe" in faults[0].operation
    assert world.restarts > 2
    assert len(cloud.standin.scheduler.sets) == 2, "the replacement is made once"


async def _insisted(one: Home, made: Made) -> str:
    """What is cut while it is created is asked for again, as by a person."""
    while True:
        try:
            return await deploy(one, made)
        except ShiftworkError:
            assert one.restarts


def test_the_demonstrations_hold_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        names = ("ecs-canary", "ecs-blue-green")
        argv = [[*command(), "demo", name, "--output", "json"] for name in names]
        started = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in argv]
        told = [(demo.communicate(timeout=180), demo.returncode) for demo in started]
        for (_, complaints), code in told:
            assert code == 0, complaints
        canary, both = (json.loads(out) for (out, _), _ in told)
        assert list(Path(directory).iterdir()) == processes.of(Path(directory)) == []
    assert [one["status"] for one in (*canary["deployments"], *both["deployments"])] == [
        "Succeeded", "Succeeded", "Failed",
    ]  # fmt: skip
    assert canary["leftBehind"] == both["leftBehind"] == []
    assert [step["weight"] for step in canary["trafficWeights"]] == [0.25, 1.0]
    assert [step["weight"] for step in both["trafficWeights"]] == [1.0]
    assert canary["requests"]["failed"] == both["requests"]["failed"] == 0
    assert set(both["requests"]["byVersion"]) == {"v1", "v2"}, "nobody has seen v3"
    assert canary["minimumInService"] == both["minimumInService"] == 2
    assert [call["operation"] for call in canary["awsCalls"] if call["operation"].startswith(("Create", "Delete"))] == [
        "CreateTaskSet", "DeleteTaskSet",
    ]  # fmt: skip
