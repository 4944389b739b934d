"""`shiftwork sam` from the template to the aliases: the real command, the real API, AWS as moto's server has it."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import boto3
import pytest

from shiftwork_coordinator import stacks
from shiftwork_coordinator.cli import main
from shiftwork_coordinator.cli.sam_template import zipped

NAMES = ("bills", "mails", "orders")
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.11, Handler: app.main, AutoPublishAlias: live}}
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: orders
      CodeUri: orders/
      DeploymentPreference: {Type: AllAtOnce, Alarms: [!Ref Errors]}
  Bills:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: bills, CodeUri: s3://b/k, DeploymentPreference: {Type: AllAtOnce}}
  Mails:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: mails, CodeUri: s3://b/k, DeploymentPreference: {Type: !Ref Pace}}
  Errors: {Type: AWS::CloudWatch::Alarm}
Parameters: {Pace: {Type: String, Default: AllAtOnce}}
"""
STACK = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
ALARM = "shop-Errors-1A2B3C"


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Sam = Callable[..., Awaitable[Ran]]


def code(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", text)
    return out.getvalue()


@pytest.fixture
def functions(aws: Any, tmp_path: Path) -> Any:
    """Three functions at version 1 with a newer one published of two, and code for the third beside the template."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client = boto3.client("lambda")
    for name in NAMES:
        client.create_function(
            FunctionName=name, Runtime="python3.11", Role=role, Handler="app.main", Code={"ZipFile": code("1")}
        )
        client.publish_version(FunctionName=name)
        client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for name in ("bills", "mails"):
        client.update_function_code(FunctionName=name, ZipFile=code("2"), Publish=True)
    boto3.client("cloudformation").create_stack(StackName="shop", TemplateBody=STACK)
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName=ALARM, ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, MetricName="e", Namespace="n",
        Period=60, Statistic="Sum", Threshold=1.0,
    )  # fmt: skip
    (tmp_path / "shop" / "orders").mkdir(parents=True)
    (tmp_path / "shop" / "orders" / "app.py").write_text("2")
    (tmp_path / "shop" / "template.yaml").write_text(TEMPLATE)
    return client


@pytest.fixture
async def sam(site: Any, functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sam:
    real = stacks.call

    async def with_an_alarm(service: str, operation: str, *args: Any, **parameters: Any) -> Any:
        """moto makes no alarms from templates."""
        answer = await real(service, operation, *args, **parameters)
        if operation == "list_stack_resources":
            answer["StackResourceSummaries"].append({"LogicalResourceId": "Errors", "PhysicalResourceId": ALARM})
        return answer

    monkeypatch.setattr(stacks, "call", with_an_alarm)
    ca = tmp_path / "cli-ca.pem"
    ca.write_text(site.services.authority.pem)
    monkeypatch.setenv("SHIFTWORK_URL", site.url)
    monkeypatch.setenv("SHIFTWORK_CA", str(ca))

    def run(args: tuple[str, ...]) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(args)
        return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    async def sam(verb: str, *args: str, role: str = "admin") -> Ran:
        monkeypatch.setenv("SHIFTWORK_TOKEN", await site.operator(role))
        template = str(tmp_path / "shop" / "template.yaml")
        return await asyncio.to_thread(run, ("sam", verb, template, "--stack-name", "shop", *args))

    return sam


def versions(client: Any) -> dict[str, str]:
    return {name: client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] for name in NAMES}


async def test_a_plan_touches_nothing(site: Any, sam: Sam, functions: Any) -> None:
    ran = await sam("plan")
    assert ran.code == 0, ran.out + ran.err
    assert "group shop/OrdersDeploymentGroup created" in ran.out
    assert "Orders: orders:live from version 1 to a new one from" in ran.out
    assert "Bills: bills:live from version 1 to 2, CodeDeployDefault.LambdaAllAtOnce" in ran.out
    assert "No problems found." in ran.out
    assert await site.home.store.groups() == []
    assert len(functions.list_versions_by_function(FunctionName="orders")["Versions"]) == 2
    told = json.loads((await sam("plan", "--output", "json")).out)
    assert [one["group"] for one in told["functions"]] == [f"{n}DeploymentGroup" for n in ("Orders", "Bills", "Mails")]


async def test_all_functions_move_together_and_a_second_time_there_is_nothing_to_do(
    site: Any, sam: Sam, functions: Any
) -> None:
    ran = await sam("deploy")
    assert ran.code == 0, ran.out + ran.err
    assert versions(functions) == dict.fromkeys(NAMES, "2")
    rows = await site.home.store.deployments()
    assert {len(row.together) for row in rows} == {2}
    group = await site.home.store.group("shop", "OrdersDeploymentGroup")
    assert group.settings.alarms.cloudwatch == (ALARM,), "its name is the stack's"
    assert group.settings.hooks.answer == "call"
    again = await sam("deploy", "--no-publish", role="deployer")
    assert (again.code, "Nothing to deploy" in again.out) == (0, True), again.out + again.err
    assert len(await site.home.store.deployments()) == 3


async def test_one_that_is_stopped_on_an_alarm_takes_the_others_back(site: Any, sam: Sam, functions: Any) -> None:
    assert (await sam("deploy")).code == 0
    for name in NAMES:
        functions.update_function_code(FunctionName=name, ZipFile=code("3"), Publish=True)
    boto3.client("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="it burns")
    ran = await sam("deploy", "--no-publish", "--output", "json")
    assert ran.code == 1, ran.out + ran.err
    told = json.loads(ran.out[ran.out.index("{\n") :])  # the coordinator's log comes before it, in this one process
    ended = {one["deploymentGroupName"]: one for one in told["deployments"]}
    assert {one["status"] for one in ended.values()} == {"Stopped"}
    assert ended["OrdersDeploymentGroup"]["errorInformation"]["code"] == "ALARM_ACTIVE"
    assert {ended[f"{n}DeploymentGroup"]["errorInformation"]["code"] for n in ("Bills", "Mails")} == {"TOGETHER"}
    assert {one["status"] for one in told["rollbacks"]} <= {"Succeeded"}
    assert versions(functions) == dict.fromkeys(NAMES, "2")


async def test_a_plan_shows_what_the_template_says_where_a_name_is_missing(
    site: Any, sam: Sam, functions: Any, tmp_path: Path
) -> None:
    template = tmp_path / "shop" / "template.yaml"
    template.write_text(TEMPLATE.replace("FunctionName: orders", "Timeout: 9").replace("!Ref Errors", "slow"))
    ran = await sam("plan")
    assert ran.code == 2
    assert "Orders: ?:live, CodeDeployDefault.LambdaAllAtOnce, alarms slow" in ran.out
    assert "Bills: bills:live, CodeDeployDefault.LambdaAllAtOnce" in ran.out
    assert "CloudFormation names Orders: look it up with --stack-name or give it the property FunctionName" in ran.out
    told = json.loads((await sam("plan", "--output", "json")).out)
    assert [(one["logical"], one["alias"], len(one["untold"])) for one in told["functions"]] == [
        ("Orders", "live", 1),
        ("Bills", "live", 0),
        ("Mails", "live", 0),
    ]


async def test_what_is_wrong_is_told_before_anything_is_made(site: Any, sam: Sam, functions: Any) -> None:
    functions.delete_alias(FunctionName="mails", Name="live")
    ran = await sam("deploy", "--parameter-overrides", "Pace=Nobodys")
    assert ran.code == 2
    assert "problem: MailsDeploymentGroup: " in ran.out or "Nobodys" in ran.err
    assert await site.home.store.groups() == []
    assert len(functions.list_versions_by_function(FunctionName="orders")["Versions"]) == 2
    ran = await sam("deploy", role="deployer")
    assert (ran.code, "takes the role admin" in ran.err) == (3, True), ran.out + ran.err


async def test_stacks(site: Any, functions: Any) -> None:
    status, answer = await site.json("GET", "/v1/stacks/shop", role="deployer")
    assert (status, set(answer), answer["name"]) == (200, {"id", "name", "resources"}, "shop")
    assert answer["resources"]["Topic"].startswith("arn:aws:sns:")
    status, answer = await site.json("GET", "/v1/stacks/nope", role="deployer")
    assert (status, "nope" in answer["error"]["message"]) == (400, True)
    status, answer = await site.json("GET", "/v1/stacks/shop?region=x;y", role="deployer")
    assert status == 400


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / "lib" / "x.py").write_text("1")
        (tmp_path / name / "run").write_text("#!")
        (tmp_path / name / "run").chmod(0o755)
    assert zipped(tmp_path / "a") == zipped(tmp_path / "b")
    with zipfile.ZipFile(io.BytesIO(zipped(tmp_path / "a"))) as archive:
        assert archive.namelist() == ["lib/x.py", "run"]
        assert archive.getinfo("run").external_attr >> 16 == 0o755
