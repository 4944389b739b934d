"""What the samples behind a load balancer share: where it is, its target groups, and how it is reached."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal

from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import Lab

THRESHOLD = 3
"""Answers 5xx within a minute, beyond which the alarm is red."""


def network(lab: Lab) -> Mapping[str, Any]:
    ec2 = client(lab, "ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    return {"vpc": vpc, "subnets": [subnet["SubnetId"] for subnet in subnets[:2]]}


def target_group(api: Any, name: str, vpc: str, kind: Literal["ip", "instance"], port: int) -> str:
    """Its ARN. Its targets drain for a second."""
    made = api.create_target_group(
        Name=name, Protocol="HTTP", Port=port, VpcId=vpc, TargetType=kind, HealthCheckPath="/healthz"
    )
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "1"}
    api.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
    return str(arn)


def urls(lab: Lab) -> dict[str, str]:
    """Of every listener, by its ARN."""
    with urllib.request.urlopen(f"{lab.aws_url}/_lab/listeners", timeout=10) as answer:
        found: dict[str, str] = json.load(answer)
        return found


def alarm(lab: Lab, name: str, balancer: str) -> None:
    """Red when clients of the load balancer see too many errors."""
    dimension = {"Name": "LoadBalancer", "Value": balancer.partition(":loadbalancer/")[2]}
    client(lab, "cloudwatch").put_metric_alarm(
        AlarmName=name, Namespace="AWS/ApplicationELB", MetricName="HTTPCode_Target_5XX_Count", Statistic="Sum",
        Period=60, EvaluationPeriods=1, Threshold=THRESHOLD, ComparisonOperator="GreaterThanThreshold",
        Dimensions=[dimension],
    )  # fmt: skip
