"""Functions deployed in AWS's stand-in: what is called in which order, how traffic was split, and that nothing stays
behind, whatever fails and whenever the coordinator dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.system import aws_world
from tests.system.aws_world import HOOKED, READS, WATCHED, Aws, Home, home, until

from shiftwork_coordinator.demo import invocations
from shiftwork_coordinator.demo.function_stage import NAME
from shiftwork_coordinator.demo.split import Step, steps
from shiftwork_coordinator.demo.stage import Stage, command
from shiftwork_coordinator.lab import lifecycle, operator, process, processes
from shiftwork_coordinator.lab.aws import sample
from shiftwork_coordinator.lab.aws.exchange import Asked
from shiftwork_coordinator.lab.aws.faults import Fault
from shiftwork_coordinator.model.settings import FunctionHooks, Limits
from shiftwork_coordinator.model.status import DeploymentStatus as D
from shiftwork_coordinator.operations import stop_deployment

CANARY = [f"Invoke {sample.HOOK}", "UpdateAlias 1 2:25%", "UpdateAlias 2", f"Invoke {sample.HOOK}"]


@pytest.fixture
async def cloud(moto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Aws]:
    moto.reset()
    async with aws_world.aws(moto.url, tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
async def world(cloud: Aws, tmp_path: Path) -> AsyncIterator[Home]:
    async with home(tmp_path / "home") as found:
        await found.group(config="canary", hooks=HOOKED, alarms=WATCHED, rollback=("failure", "alarm"))
        yield found


def shifting(cloud: Aws) -> bool:
    return "UpdateAlias 1 2:25%" in cloud.done()


async def test_a_canary_calls_what_it_must_and_the_measured_split_is_the_alias(cloud: Aws, world: Home) -> None:
    await cloud.make()
    await world.canary(1.5)
    stopping = asyncio.Event()
    url = f"{cloud.standin.url}/2015-03-31/functions/{NAME}/invocations"
    traffic = asyncio.ensure_future(invocations.run(url, 80.0, stopping))
    await asyncio.sleep(0.3)
    id = await world.deploy()
    ended = await world.ended(id)
    stopping.set()
    found = steps(await traffic, cloud.calls(), sample.FUNCTION, "2")
    assert ended.status is D.SUCCEEDED
    assert cloud.done() == CANARY
    assert {call.operation for call in cloud.calls()} == READS | {"UpdateAlias", "Invoke"}
    assert [step.weight for step in found] == [0.0, 0.25, 1.0]
    assert all(step.within for step in found), found
    assert found[1].invocations > 40
    (seen, quarter), (_, whole) = await world.weights(id)
    assert (quarter, whole) == (0.25, 1.0)
    last = [call for call in cloud.calls() if call.operation == "UpdateAlias"][-1]
    assert last.at >= seen + 1.5, "a step is never early"
    assert await cloud.alias() == ("2", {})


async def test_nothing_is_called_while_nothing_is_deployed(cloud: Aws, world: Home) -> None:
    await world.groups(1000)
    await world.restart()
    await asyncio.sleep(0.5)
    assert cloud.calls() == []


async def test_every_write_names_the_revision_that_was_read_just_before(cloud: Aws, world: Home) -> None:
    await cloud.make()
    await world.canary(0.2)
    await world.ended(await world.deploy())
    about = [call for call in cloud.calls() if "alias" in call.operation.lower()]
    writes = [n for n, call in enumerate(about) if call.operation == "UpdateAlias"]
    assert len(writes) == 2
    assert all(about[n].parameters["RevisionId"] and about[n - 1].operation == "GetAlias" for n in writes)


async def test_a_hook_that_fails_moves_nothing(cloud: Aws, world: Home) -> None:
    await cloud.make(check='def main(event, context):\n    return {"status": "Failed", "message": "bad schema"}\n')
    await world.canary(0.2)
    id = await world.deploy()
    assert (await world.ended(id)).status is D.FAILED
    assert "bad schema" in await world.message(id)
    assert cloud.done() == [f"Invoke {sample.HOOK}"]
    assert await cloud.alias() == ("1", {})


async def test_a_hook_that_fails_afterwards_takes_the_traffic_back(cloud: Aws, world: Home) -> None:
    text = (
        'def main(event, context):\n    if event["LifecycleEvent"].startswith("After"):\n        raise OSError("no")\n'
    )
    await cloud.make(check=text + '    return {"status": "Succeeded"}\n')
    await world.canary(0.2)
    id = await world.deploy()
    assert (await world.ended(id)).status is D.FAILED
    assert cloud.done() == [*CANARY, "UpdateAlias 1"]
    assert [weight for _, weight in await world.weights(id)] == [0.25, 1.0, 0.0]
    assert await cloud.alias() == ("1", {})


async def test_errors_of_the_new_version_turn_the_alarm_red_and_the_traffic_back(cloud: Aws, world: Home) -> None:
    await cloud.make(failing=1.0)
    await world.canary(60.0)
    id = await world.deploy()
    await until(lambda: shifting(cloud))
    stopping = asyncio.Event()
    url = f"{cloud.standin.url}/2015-03-31/functions/{NAME}/invocations"
    traffic = asyncio.ensure_future(invocations.run(url, 50.0, stopping))
    ended = await world.ended(id)
    stopping.set()
    await traffic
    assert (ended.status, ended.error_code) == (D.STOPPED, "ALARM_ACTIVE")
    assert cloud.done() == [*CANARY[:2], "UpdateAlias 1"]
    assert await cloud.alias() == ("1", {})


async def test_a_stop_in_mid_shift_restores_the_alias(cloud: Aws, world: Home) -> None:
    await cloud.make()
    await world.canary(60.0)
    id = await world.deploy()
    await until(lambda: shifting(cloud))
    await stop_deployment(world.coordinator, id, now=False, rollback=None, who="tester")
    assert (await world.ended(id)).status is D.STOPPED
    assert cloud.done() == [*CANARY[:2], "UpdateAlias 1"]
    assert await cloud.alias() == ("1", {})


@pytest.mark.parametrize(
    "fault",
    [
        Fault("throttle", "lambda:*", first=4, times=5),
        Fault("error", "lambda:UpdateAlias", times=2, status=503),
        Fault("stale", "lambda:UpdateAlias", times=2),
        Fault("stale", "lambda:GetAlias", first=8, times=3),
        Fault("drop", "lambda:UpdateAlias", late=True, times=2),
        Fault("delay", "lambda:GetAlias", seconds=1.0, first=4, times=2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.operation}",
)
async def test_an_api_that_throttles_and_lies_is_outlasted(cloud: Aws, world: Home, fault: Fault) -> None:
    """A lie: answers OK and does nothing, answers what was true before, has its effect and does not answer."""
    await cloud.make()
    await world.canary(0.2)
    cloud.standin.faults.add(fault)
    id = await world.deploy()
    assert (await world.ended(id)).status is D.SUCCEEDED, await world.message(id)
    assert await cloud.alias() == ("2", {})
    assert await world.hooks(id) == {"BeforeAllowTraffic": "Succeeded", "AfterAllowTraffic": "Succeeded"}
    assert [weight for _, weight in await world.weights(id)] == [0.25, 1.0]


async def test_what_is_denied_ends_the_deployment_with_the_missing_right(cloud: Aws, world: Home) -> None:
    await cloud.make()
    await world.canary(0.2)
    await world.group(config="canary", hooks=HOOKED, limits=Limits(allow_within=1.0))
    cloud.standin.faults.add(Fault("deny", "lambda:UpdateAlias", times=0))
    id = await world.deploy()
    assert (await world.ended(id)).status is D.FAILED
    assert "lambda:UpdateAlias" in await world.message(id)
    assert await cloud.alias() == ("1", {})


# The coordinator dies


AT_ONCE = 6


async def test_a_coordinator_killed_at_any_call_finishes_what_it_began(cloud: Aws, tmp_path: Path) -> None:
    """Killed before the call had an effect, at every call; and after it, at every call that changes something."""
    await cloud.make()
    homes: dict[str, Home] = {}

    async def killed(asked: Asked) -> None:
        await homes[asked.call.parameters["FunctionName"].removeprefix("check-")].restart()

    cloud.standin.faults.killed = killed
    few = asyncio.Semaphore(AT_ONCE)
    whole = await _killed_at(cloud, homes, tmp_path, few, None)
    early = [(n, False) for n in range(1, len(whole) + 1)]
    late = [(n, True) for n, name in enumerate(whole, 1) if name not in READS]
    assert len(late) == 4, whole
    async with asyncio.TaskGroup() as tasks:
        for moment in early + late:
            tasks.create_task(_killed_at(cloud, homes, tmp_path, few, moment))


async def _killed_at(
    cloud: Aws, homes: dict[str, Home], directory: Path, few: asyncio.Semaphore, moment: tuple[int, bool] | None
) -> list[str]:
    async with few, home(directory / f"{moment}") as one:
        function = await cloud.another()
        hooks = FunctionHooks(before_allow_traffic=f"check-{function}", after_allow_traffic=f"check-{function}")
        await one.group(config="canary", hooks=hooks)
        await one.canary(0.1)
        homes[function] = one
        if moment is not None:
            number, late = moment
            cloud.standin.faults.add(Fault("kill", "lambda:*", number, late=late, where=function))
        try:
            id = await one.deploy(function)
        except Exception:
            assert await cloud.alias(function) == ("1", {}), "it was killed before there was a deployment"
            return []
        ended = await one.ended(id)
        assert ended.status is D.SUCCEEDED, (moment, await one.message(id))
        assert await cloud.alias(function) == ("2", {}), moment
        assert await one.hooks(id) == {"BeforeAllowTraffic": "Succeeded", "AfterAllowTraffic": "Succeeded"}, moment
        calls = [c.operation for c in cloud.calls() if str(c.parameters.get("FunctionName")).endswith(function)]
        assert one.restarts == (moment is not None and moment[0] <= len(calls)), moment
        assert calls.count("Invoke") <= 2 + one.restarts, "only what was cut is asked again"
        return calls


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with tempfile.TemporaryDirectory(prefix="sw-") as name:
        found = lifecycle.aws_up(Path(name) / "lab", print)
        try:
            yield found
        finally:
            lifecycle.down(found)
            assert processes.of(Path(name)) == []


def test_a_coordinators_process_killed_again_and_again_finishes_what_it_began(lab: Any) -> None:
    stage = Stage(lab, print, None)
    stage.checked("apply", "-f", str(sample.make(lab, interval=2.0)))
    pid_file = str(process.pid_file(lab, "coordinator"))
    for operation, late in (("lambda:UpdateAlias", True), ("lambda:Invoke", False), ("lambda:UpdateAlias", False)):
        first = 2 if operation == "lambda:UpdateAlias" and not late else 1
        _fault(lab, {"kind": "kill", "operation": operation, "late": late, "first": first, "pid_file": pid_file})
    told = stage.checked("deploy", sample.GROUP_NAME, *f"--function {NAME.partition(':')[0]} --alias live".split(),
                         "--version", "2", "--no-wait")  # fmt: skip
    view = stage.ended(json.loads(told)["deploymentId"])
    assert view["status"] == "Succeeded", view
    assert [step["weight"] for step in view["trafficWeights"]] == [0.25, 1.0]
    alias = sample.client(lab, "lambda").get_alias(FunctionName=sample.FUNCTION, Name=sample.ALIAS)
    assert (alias["FunctionVersion"], alias.get("RoutingConfig")) == ("2", None)
    assert lifecycle.runtime_of(lab).statuses(lab) == dict.fromkeys(("coordinator", "aws", "moto"), "running")
    assert operator.ask(lab, "GET", "/v1/deployments?limit=9")["deployments"][0]["status"] == "Succeeded"


def _fault(lab: Any, fault: dict[str, Any]) -> None:
    import urllib.request

    asked = urllib.request.Request(f"{lab.aws_url}/_lab/faults", json.dumps(fault).encode(), method="POST")
    urllib.request.urlopen(asked, timeout=60).close()


SEQUENCES = {
    "orders": ["Update", "2:50%", "to 2", "Update", "3:50%", "to 2"],
    "bills": ["Update", "to 2", "Update", "to 3", "to 2"],
    "mails": ["Update", "2:25%", "to 2", "Update", "3:25%", "to 3", "to 2"],
    "CodeDeployHook_check-mails": ["Asked", "Asked"],
}
"""What a template's three functions are told: version 2 reaches all, of version 3 one is refused by its hook."""


def _told(call: dict[str, Any]) -> str:
    given = call["parameters"]
    routes = (given.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    share = "".join(f"{version}:{weight:.0%}" for version, weight in routes.items())
    return (
        {"UpdateFunctionCode": "Update", "Invoke": "Asked"}.get(call["operation"])
        or share
        or (f"to {given['FunctionVersion']}")
    )


def _three_of_which_one_fails(shown: dict[str, Any]) -> None:
    changes = [call for call in shown["awsCalls"] if call["operation"] not in READS]
    for name, sequence in SEQUENCES.items():
        assert [_told(call) for call in changes if call["parameters"]["FunctionName"] == name] == sequence, name
    refused = next(n for n, call in reversed(list(enumerate(changes))) if call["operation"] == "Invoke")
    after = [(call["parameters"]["FunctionName"], _told(call)) for call in changes[refused + 1 :]]
    assert sorted(after) == [("bills", "to 2"), ("mails", "to 2"), ("orders", "to 2")], "all go back, and only back"
    ends = [one["status"] for one in shown["deployments"]]
    assert ends == [*["Succeeded"] * 3, "Stopped", "Stopped", "Failed", "Succeeded"]
    assert shown["deployments"][-1]["rollbackOf"] == shown["deployments"][4]["deploymentId"], "what had arrived"
    assert {step["name"] for step in shown["split"] if step["weight"] not in (0, 1)} == {"orders", "mails"}
    assert all(step.within for step in msgspec.convert(shown["split"], list[Step]))
    assert (shown["serving"], shown["requests"]["failed"], shown["leftBehind"]) == ("v2", 0, [])
    assert 0 < shown["secondsToTrafficBack"] < 3


def test_the_demonstrations_hold_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        names = ("lambda-canary", "lambda-alarm-rollback", "lambda-sam")
        argv = [[*command(), "demo", name, "--output", "json"] for name in names]
        started = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in argv]
        told = [(demo.communicate(timeout=180), demo.returncode) for demo in started]
        for (_, complaints), code in told:
            assert code == 0, complaints
        canary, alarm, sam = (json.loads(out) for (out, _), _ in told)
        assert list(Path(directory).iterdir()) == processes.of(Path(directory)) == []
    assert [one["deployments"][0]["status"] for one in (canary, alarm)] == ["Succeeded", "Stopped"]
    assert [one["serving"] for one in (canary, alarm)] == ["v2", "v1"]
    assert canary["leftBehind"] == alarm["leftBehind"] == []
    assert [step["weight"] for step in canary["trafficWeights"]] == [0.25, 1.0]
    assert [step["weight"] for step in alarm["trafficWeights"]] == [0.25, 0.0]
    assert 0 < alarm["secondsToTrafficBack"] < 60
    assert canary["awsCalls"][-1]["operation"] == "Invoke"
    _three_of_which_one_fails(sam)
