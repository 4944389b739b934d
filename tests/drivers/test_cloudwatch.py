"""The CloudWatch driver against a real API over HTTP, and how its errors read."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.alarms.cloudwatch import CloudWatch
from shiftwork_coordinator.aws import clients
from shiftwork_coordinator.aws.errors import action, translated
from shiftwork_coordinator.model.settings import Alarms


@pytest.fixture
def cloudwatch(aws: Any) -> Any:
    client = boto3.client("cloudwatch")
    for name in ("errors", "latency"):
        client.put_metric_alarm(
            AlarmName=name, MetricName="m", Namespace="n", Period=60, EvaluationPeriods=1, Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold", Statistic="Sum",
        )  # fmt: skip
    return client


async def test_states_and_reasons_are_read_and_a_missing_alarm_is_named(cloudwatch: Any) -> None:
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="5 errors")
    cloudwatch.set_alarm_state(AlarmName="latency", StateValue="INSUFFICIENT_DATA", StateReason="none")
    found = await CloudWatch(Alarms()).states(["errors", "latency", "typo"])
    assert (found["errors"].state, found["errors"].reason) == ("ALARM", "5 errors")
    assert found["errors"].changed_at is not None
    assert found["latency"].state == "INSUFFICIENT_DATA"
    assert found["typo"].state == "UNREADABLE"
    assert "no alarm of that name" in found["typo"].reason


async def test_with_a_role_the_role_is_assumed(cloudwatch: Any) -> None:
    found = await CloudWatch(Alarms(role_arn="arn:aws:iam::123456789012:role/watcher")).states(["errors"])
    assert found["errors"].state in ("OK", "INSUFFICIENT_DATA")


async def test_an_endpoint_that_is_away_is_no_exception(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(clients, "ATTEMPTS", 1)
    clients.forget()
    found = await CloudWatch(Alarms()).states(["errors"])
    assert found["errors"].state == "UNREADABLE"
    assert "cloudwatch:DescribeAlarms" in found["errors"].reason


@pytest.mark.parametrize(
    ("code", "status", "kind", "ours"),
    [
        ("AccessDenied", 403, InvalidRequest, "IAM_ROLE_PERMISSIONS"),
        ("UnauthorizedOperation", 403, InvalidRequest, "IAM_ROLE_PERMISSIONS"),
        ("ThrottlingException", 400, Unavailable, "THROTTLED"),
        ("ExpiredToken", 400, Unavailable, "CREDENTIALS_EXPIRED"),
        ("InternalFailure", 500, Unavailable, "Unavailable"),
        ("500", 500, Unavailable, "Unavailable"),
        ("ValidationError", 400, InvalidRequest, "ValidationError"),
    ],
)
def test_errors_say_who_can_act(code: str, status: int, kind: type, ours: str) -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": code, "Message": "text"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with (
        pytest.raises(kind, match="elasticloadbalancing:DescribeTargetHealth") as found,
        translated("elbv2", "describe_target_health"),
    ):
        raise ClientError(answer, "DescribeTargetHealth")  # type: ignore[arg-type]
    assert found.value.code == ours


def test_actions_are_named_as_iam_does() -> None:
    assert action("elbv2", "describe_target_health") == "elasticloadbalancing:DescribeTargetHealth"
    assert action("autoscaling", "describe_auto_scaling_groups") == "autoscaling:DescribeAutoScalingGroups"
