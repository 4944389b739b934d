"""The stand-in for AWS by itself: what it adds to moto, what it records, what harm it does."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from shiftwork_coordinator.lab.aws import calls, metrics
from shiftwork_coordinator.lab.aws.faults import Fault
from shiftwork_coordinator.lab.aws.functions import Settings
from shiftwork_coordinator.lab.aws.standin import StandIn, running

ROLE = "arn:aws:iam::123456789012:role/lab-role"
GOOD = (
    "def main(event, context):\n    print('hello')\n    return {'version': context.function_version, 'told': event}\n"
)
BAD = "def main(event, context):\n    raise RuntimeError('no price list')\n"


def packed(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("handler.py", text)
    return out.getvalue()


def client(service: str, name: str = "") -> Any:
    return boto3.client(service, config=Config(user_agent_extra=name, retries={"total_max_attempts": 1}))


@pytest.fixture
async def standin(aws: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandIn]:
    async with running(aws.url, tmp_path, seed=7) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


async def thread(work: Any, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(work, *args, **kwargs)


def _made(second: str) -> Any:
    iam = client("iam")
    iam.create_role(RoleName="lab-role", AssumeRolePolicyDocument="{}")
    found = client("lambda")
    found.create_function(
        FunctionName="orders", Runtime="python3.11", Role=ROLE, Handler="handler.main",
        Code={"ZipFile": packed(GOOD)}, Publish=True,
    )  # fmt: skip
    found.update_function_code(FunctionName="orders", ZipFile=packed(second), Publish=True)
    found.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    return found


async def refused(work: Any, **parameters: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await thread(work, **parameters)
    return str(caught.value.response["Error"]["Code"])


async def test_a_revision_that_is_not_the_latest_is_refused_and_every_write_makes_a_new_one(standin: StandIn) -> None:
    orders = await thread(_made, GOOD)
    first = (await thread(orders.get_alias, FunctionName="orders", Name="live"))["RevisionId"]
    moved = {"FunctionName": "orders", "Name": "live", "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5}}}
    second = await thread(orders.update_alias, RevisionId=first, **moved)
    assert second["RevisionId"] != first
    assert await refused(orders.update_alias, RevisionId=first, **moved) == "PreconditionFailedException"
    assert (await thread(orders.get_alias, FunctionName="orders", Name="live"))["RevisionId"] == second["RevisionId"]


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"2": 1.5}, "InvalidParameterValueException"),
        ({"9": 0.5}, "ResourceNotFoundException"),
        ({"1": 0.5}, "InvalidParameterValueException"),
        ({"$LATEST": 0.5}, "InvalidParameterValueException"),
        ({"2": 0.1, "3": 0.1}, "InvalidParameterValueException"),
    ],
)
async def test_shares_that_aws_would_refuse_are_refused(standin: StandIn, weights: Any, code: str) -> None:
    orders = await thread(_made, GOOD)
    routing = {"AdditionalVersionWeights": weights}
    assert await refused(orders.update_alias, FunctionName="orders", Name="live", RoutingConfig=routing) == code


async def test_an_alias_shares_its_invocations_out_and_the_code_runs(standin: StandIn) -> None:
    orders = await thread(_made, GOOD)
    routing = {"AdditionalVersionWeights": {"2": 0.3}}
    await thread(orders.update_alias, FunctionName="orders", Name="live", RoutingConfig=routing)

    def invoke() -> list[tuple[str, str]]:
        found = []
        for _ in range(100):
            got = orders.invoke(FunctionName="orders:live", Payload=b'{"a": 1}')
            found.append((got["ExecutedVersion"], json.loads(got["Payload"].read())["version"]))
        return found

    answered = await thread(invoke)
    assert all(executed == version for executed, version in answered)
    assert abs(sum(version == "2" for version, _ in answered) - 30) < 4 * (100 * 0.3 * 0.7) ** 0.5


async def test_a_function_that_raises_says_so_and_its_errors_turn_alarms_red(standin: StandIn) -> None:
    orders = await thread(_made, BAD)
    watch = await thread(client, "cloudwatch")
    alarm = {
        "AlarmName": "errors", "Namespace": "AWS/Lambda", "MetricName": "Errors", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 2, "ComparisonOperator": "GreaterThanThreshold",
        "Dimensions": [{"Name": "FunctionName", "Value": "orders"}],
    }  # fmt: skip
    await thread(watch.put_metric_alarm, **alarm)
    await thread(watch.put_composite_alarm, AlarmName="both", AlarmRule='ALARM("errors") AND NOT ALARM(other)')
    for _ in range(3):
        got = await thread(orders.invoke, FunctionName="orders", Qualifier="2")
        assert got["FunctionError"] == "Unhandled"
        assert b"no price list" in await thread(got["Payload"].read)

    def red() -> set[str]:
        rows = watch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"], StateValue="ALARM")
        return {row["AlarmName"] for row in [*rows["MetricAlarms"], *rows["CompositeAlarms"]]}

    async with asyncio.timeout(60):
        while await thread(red) != {"errors", "both"}:
            await asyncio.sleep(0.02)


async def test_metric_data_of_ones_own_turns_alarms_red(standin: StandIn) -> None:
    watch = await thread(client, "cloudwatch")
    alarm = {
        "AlarmName": "queue", "Namespace": "Own", "MetricName": "Depth", "Statistic": "Maximum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 10, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }  # fmt: skip
    await thread(watch.put_metric_alarm, **alarm)
    await thread(watch.put_metric_data, Namespace="Own", MetricData=[{"MetricName": "Depth", "Value": 10}])
    async with asyncio.timeout(60):
        while not (await thread(watch.describe_alarms, StateValue="ALARM"))["MetricAlarms"]:
            await asyncio.sleep(0.02)


async def test_an_invocation_nobody_awaits_runs_and_provisioned_concurrency_takes_its_time(standin: StandIn) -> None:
    orders = await thread(_made, GOOD)
    assert (await thread(orders.invoke, FunctionName="orders", InvocationType="Event"))["StatusCode"] == 202
    async with asyncio.timeout(60):
        while not standin.functions.served:
            await asyncio.sleep(0.01)
    which = {"FunctionName": "orders", "Qualifier": "2"}
    missing = await refused(orders.get_provisioned_concurrency_config, **which)
    assert missing == "ProvisionedConcurrencyConfigNotFoundException"
    standin.functions.settings = Settings(provisioned_after=60)
    await thread(orders.put_provisioned_concurrency_config, ProvisionedConcurrentExecutions=3, **which)
    assert (await thread(orders.get_provisioned_concurrency_config, **which))["Status"] == "IN_PROGRESS"
    standin.functions.settings = Settings(provisioned_after=0)
    assert (await thread(orders.get_provisioned_concurrency_config, **which))["Status"] == "READY"


async def test_calls_are_recorded_in_order_without_code_and_without_the_traffic(standin: StandIn) -> None:
    orders = await thread(_made, GOOD)
    await thread(orders.invoke, FunctionName="orders:live")
    await thread(client("lambda", "shiftwork").get_alias, FunctionName="orders", Name="live")
    told = [c.operation for c in standin.recording.calls(by_shiftwork=False)]
    assert told == ["CreateRole", "CreateFunction", "UpdateFunctionCode", "CreateAlias", "GetAlias"]
    (mine,) = standin.recording.calls(by_shiftwork=True)
    assert (mine.operation, mine.parameters) == ("GetAlias", {"FunctionName": "orders", "Name": "live"})


async def test_faults_strike_the_coordinators_calls_and_nobody_elses(standin: StandIn) -> None:
    orders = await thread(_made, GOOD)
    ours = client("lambda", "shiftwork")
    asked = {"FunctionName": "orders", "Name": "live"}
    standin.faults.add(
        Fault("throttle", "lambda:GetAlias"), Fault("deny", "lambda:GetAlias", first=2), Fault("error", first=3)
    )
    assert [await refused(ours.get_alias, **asked) for _ in range(3)] == [
        "ThrottlingException", "AccessDeniedException", "InternalFailure",
    ]  # fmt: skip
    await thread(orders.get_alias, **asked)
    standin.faults.clear()
    before = await thread(ours.get_alias, **asked)
    moved = asked | {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5}}}
    standin.faults.add(Fault("stale", "lambda:UpdateAlias"), Fault("drop", "lambda:UpdateAlias", first=2, late=True))
    assert (await thread(ours.update_alias, **moved))["RevisionId"] == before["RevisionId"]
    assert "RoutingConfig" not in await thread(orders.get_alias, **asked)
    with pytest.raises(botocore.exceptions.HTTPClientError):
        await thread(ours.update_alias, **moved)
    assert "RoutingConfig" in await thread(orders.get_alias, **asked), "it had its effect, only its answer was lost"


async def test_faults_may_count_calls_that_differ_each_for_itself(standin: StandIn) -> None:
    await thread(_made, GOOD)
    ours = client("lambda", "shiftwork")
    standin.faults.add(Fault("throttle", "lambda:*", each=True))
    asked = {"FunctionName": "orders", "Name": "live"}
    assert await refused(ours.get_alias, **asked) == "ThrottlingException"
    assert await refused(ours.get_function_configuration, FunctionName="orders") == "ThrottlingException"
    await thread(ours.get_alias, **asked)
    await thread(ours.get_function_configuration, FunctionName="orders")


async def test_a_change_may_be_answered_before_it_is_carried_out(standin: StandIn) -> None:
    theirs, ours = client("autoscaling", "somebody"), client("autoscaling", "shiftwork")
    template = {"LaunchTemplateName": "web", "Version": "$Latest"}
    image = {"ImageId": "ami-12c6146b"}
    await thread(client("ec2", "somebody").create_launch_template, LaunchTemplateName="web", LaunchTemplateData=image)
    await thread(
        theirs.create_auto_scaling_group, AutoScalingGroupName="web", MinSize=0, MaxSize=0, LaunchTemplate=template,
        AvailabilityZones=["us-east-1a"],
    )  # fmt: skip
    standin.faults.add(Fault("lag", "autoscaling:SuspendProcesses", seconds=0.2))
    await thread(ours.suspend_processes, AutoScalingGroupName="web", ScalingProcesses=["Launch"])

    async def rests() -> bool:
        return bool((await thread(theirs.describe_auto_scaling_groups))["AutoScalingGroups"][0]["SuspendedProcesses"])

    assert not await rests()
    async with asyncio.timeout(10):
        while not await rests():
            await asyncio.sleep(0.05)


async def test_a_function_that_takes_too_long_or_ends_is_a_failure(standin: StandIn) -> None:
    orders = await thread(_made, "import time\ndef main(event, context):\n    time.sleep(60)\n")
    await thread(orders.update_function_configuration, FunctionName="orders", Timeout=1)
    began = time.monotonic()
    got = await thread(orders.invoke, FunctionName="orders")
    assert b"timed out" in await thread(got["Payload"].read)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ALARM(a)", True),
        ('ALARM("b")', False),
        ('ALARM("b") OR ALARM("a")', True),
        ("NOT ALARM(a) OR (OK(b) AND FALSE)", False),
        ("(ALARM(a) AND OK(b)) OR FALSE", True),
        ("INSUFFICIENT_DATA(nobody)", True),
        ("ALARM(arn:aws:cloudwatch:eu-west-1:1:alarm:a)", True),
    ],
)
def test_rules_of_composite_alarms(rule: str, expected: bool) -> None:
    assert metrics.holds(rule, {"a": "ALARM", "b": "OK"}) is expected


def signed(service: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential=A/20200101/eu/{service}/aws4_request, …", **more}


TWO_TARGETS = b"Action=RegisterTargets&Version=2015-12-01&Targets.member.1.Id=i-1&Targets.member.2.Id=i-2"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.mark.parametrize(
    ("asked", "name", "parameters"),
    [
        (
            ("POST", "/", "", signed("ecs", **{"X-Amz-Target": "AmazonEC2Cont….CreateTaskSet"}), b'{"a": 1}'),
            "ecs:CreateTaskSet",
            {"a": 1},
        ),
        (
            ("POST", "/", "", signed("elasticloadbalancing", **FORM), TWO_TARGETS),
            "elbv2:RegisterTargets",
            {"Targets": [{"Id": "i-1"}, {"Id": "i-2"}]},
        ),
        (
            ("POST", "/", "", signed("elasticloadbalancing", **FORM), b"Action=DescribeX&Version=2012-06-01"),
            "elb:DescribeX",
            {},
        ),
        (
            ("PUT", "/2015-03-31/functions/f%3Alive/aliases/live", "", signed("lambda"), b'{"FunctionVersion": "2"}'),
            "lambda:UpdateAlias",
            {"FunctionName": "f:live", "Name": "live", "FunctionVersion": "2"},
        ),
        (
            ("GET", "/2015-03-31/functions/f/configuration", "Qualifier=2", signed("lambda"), b""),
            "lambda:GetFunctionConfiguration",
            {"FunctionName": "f", "Qualifier": "2"},
        ),
        (("GET", "/bucket/key", "", signed("nonsense"), b""), "nonsense:", {}),
    ],
)  # fmt: skip
def test_what_a_request_asks_for_is_told_in_every_protocol(asked: Any, name: str, parameters: Any) -> None:
    found = calls.parse(*asked)
    assert (found.name, found.parameters) == (name, parameters)
