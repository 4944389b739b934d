"""The function that a lab with AWS comes with: two versions, an alias, a hook, an alarm, and the group for it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shiftwork_coordinator.lab.plan import Lab, credentials

APPLICATION, GROUP = "fn", "live"
GROUP_NAME = f"{APPLICATION}/{GROUP}"
FUNCTION, ALIAS, HOOK, ALARM = "orders", "live", "check-orders", "orders-errors"
ROLE = "shiftwork-lab"
CONFIG = "LabCanary25Percent"
THRESHOLD = 3
"""Errors of the alias within a minute, beyond which the alarm is red."""
HANDLER = """
import random

def main(event, context):
    if random.random() < {failing}:
        raise RuntimeError("cannot read the price list: unknown column 'prise'")
    return {{"version": context.function_version}}
"""
CHECK = """
def main(event, context):
    print("asked about", event["LifecycleEvent"], "of", event["FunctionName"])
    return {"status": "Succeeded"}
"""


def client(lab: Lab, service: str) -> Any:
    """boto3's, for the lab's stand-in; made once."""
    return _client(lab.aws_url, service)


@cache
def _client(aws_url: str, service: str) -> Any:
    import boto3

    at = credentials(aws_url)
    return boto3.client(
        service, endpoint_url=aws_url, region_name=at["AWS_REGION"],
        aws_access_key_id=at["AWS_ACCESS_KEY_ID"], aws_secret_access_key=at["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def make(lab: Lab, *, failing: float = 0.0, interval: float = 10.0, check: str = CHECK) -> Path:
    """Everything in the stand-in, and the `shiftwork.yml` for it. Version 2 fails the share `failing` of its requests;
    the config waits `interval` seconds after the canary; `check` is the hook's code."""
    functions, owner = client(lab, "lambda"), role(lab)
    function(functions, owner, FUNCTION, failing)
    hook(functions, owner, HOOK, check)
    client(lab, "cloudwatch").put_metric_alarm(
        AlarmName=ALARM, Namespace="AWS/Lambda", MetricName="Errors", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=THRESHOLD, ComparisonOperator="GreaterThanThreshold",
        Dimensions=[
            {"Name": "FunctionName", "Value": FUNCTION},
            {"Name": "Resource", "Value": f"{FUNCTION}:{ALIAS}"},
        ],
    )  # fmt: skip
    return write(lab, interval)


def role(lab: Lab) -> str:
    """The role of every function of the lab."""
    api = client(lab, "iam")
    with suppress(api.exceptions.EntityAlreadyExistsException):
        api.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}")
    return str(api.get_role(RoleName=ROLE)["Role"]["Arn"])


def function(functions: Any, role: str, name: str, failing: float = 0.0) -> None:
    """One with versions 1 and 2, and the alias at 1."""
    create(functions, name, role, HANDLER.format(failing=0.0))
    functions.update_function_code(FunctionName=name, ZipFile=packed(HANDLER.format(failing=failing)), Publish=True)
    functions.create_alias(FunctionName=name, Name=ALIAS, FunctionVersion="1")


def hook(functions: Any, role: str, name: str, text: str = CHECK, **environment: str) -> None:
    create(functions, name, role, text, environment)


def create(functions: Any, name: str, role: str, text: str, environment: Mapping[str, str] | None = None) -> None:
    functions.create_function(
        FunctionName=name, Runtime="python3.12", Role=role, Handler="handler.main", Publish=True,
        Code={"ZipFile": packed(text)}, Environment={"Variables": dict(environment or {})},
    )  # fmt: skip


def packed(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("handler.py", text)
    return out.getvalue()


def write(lab: Lab, interval: float) -> Path:
    group = {
        "platform": "Lambda",
        "config": CONFIG,
        "hooks": {"before_allow_traffic": HOOK, "after_allow_traffic": HOOK},
        "alarms": {"cloudwatch": [ALARM], "every": "1s"},
        "rollback": ["failure", "alarm"],
    }
    canary = {"platform": "Lambda", "canary": {"percentage": 25, "interval": interval}}
    whole = {"application": APPLICATION, "groups": {GROUP: group}, "configs": {CONFIG: canary}}
    path = lab.directory / "shiftwork.yml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path
