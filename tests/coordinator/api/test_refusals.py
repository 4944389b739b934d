"""What cannot be deployed to Lambda is refused when it is asked for, with CodeDeploy's code and a remedy."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import boto3
import pytest

from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import Aws, GroupSettings
from shiftwork_coordinator.store import Put

CONFIGURATION = "INVALID_LAMBDA_CONFIGURATION"


@pytest.fixture
async def orders(site: Any, aws: Any) -> Any:
    """Versions 1 and 2, the alias `live` at 1, and a group for it."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    out, client = io.BytesIO(), boto3.client("lambda")
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", "1")
    given = {"Runtime": "python3.12", "Role": role, "Handler": "app.main", "Code": {"ZipFile": out.getvalue()}}
    client.create_function(FunctionName="orders", Publish=True, **given)
    client.update_function_code(FunctionName="orders", ZipFile=out.getvalue(), Publish=True)
    client.create_function(FunctionName="unpublished", **given)
    client.create_alias(FunctionName="unpublished", Name="live", FunctionVersion="$LATEST")
    client.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    settings = GroupSettings(platform="Lambda", aws=Aws(region="us-east-1"))
    await site.home.store.write(Put(Group("g", "fn", "live", settings)))
    return client


def appspec(**changes: str) -> dict[str, Any]:
    about = {"Name": "orders", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"} | changes
    resource = {"orders": {"Type": "AWS::Lambda::Function", "Properties": about}}
    return {"appspecContent": json.dumps({"version": 0.0, "Resources": [resource]})}


def short(**changes: str) -> dict[str, Any]:
    return {"function": {"name": "orders", "alias": "live"} | changes}


REFUSED = [
    (appspec(Name="nope"), "INVALID_LAMBDA_FUNCTION", "no function of this name in us-east-1; correct"),
    (appspec(Alias="nope"), CONFIGURATION, "no alias nope; correct the name, or make it: aws lambda"),
    (appspec(CurrentVersion="2", TargetVersion="1"), CONFIGURATION, "at version 1, not at 2 as CurrentVersion says"),
    (appspec(TargetVersion="9"), CONFIGURATION, "9 of orders: there is none; correct the number, or publish"),
    (appspec(TargetVersion="$LATEST"), "InvalidRevisionException", "must be the number of a published version"),
    ({"appspecContent": "{"}, "InvalidRevisionException", "appspec.yml:2:1: this is not valid YAML"),
    ({"appspecContent": "version: 0.0"}, "InvalidRevisionException", "needs `resources`; correct it there"),
    ({}, "RevisionRequiredException", "give an AppSpec (--revision appspec.yml), or --function"),
    (short(name="nope"), "INVALID_LAMBDA_FUNCTION", "no function of this name"),
    (short(alias="nope"), CONFIGURATION, "it has no alias nope; correct the name, or make it"),
    (short(version="9"), CONFIGURATION, "version 9 of orders: there is none"),
    (short(version="$LATEST"), CONFIGURATION, "published versions only; give the number of one, or --zip"),
    (short(version="two"), CONFIGURATION, "'two' of orders: traffic moves between published versions only"),
    (short(name="unpublished", version="1"), CONFIGURATION, "its alias live points at $LATEST, whose traffic"),
    (short(name="unpublished"), CONFIGURATION, "it has no published version; publish one: aws lambda publish-version"),
]  # fmt: skip


async def test_each_is_refused_alone_and_together_and_nothing_is_made(site: Any, orders: Any) -> None:
    for body, code, told in REFUSED:
        wanted = {"application": "fn", "group": "live"} | body
        for path, asked in (("/v1/deployments", wanted), ("/v1/together", {"deployments": [wanted]})):
            status, answer = await site.json("POST", path, role="deployer", json=asked)
            assert (status, answer["error"]["code"]) == (400, code), (body, answer)
            assert told in answer["error"]["message"], answer
    assert await site.home.store.deployments() == []
    assert orders.get_alias(FunctionName="orders", Name="live")["FunctionVersion"] == "1"
