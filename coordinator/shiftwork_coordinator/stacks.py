"""CloudFormation stacks: what their resources are called."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import Aws

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d|")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")


class Stack(msgspec.Struct, frozen=True, rename="camel"):
    """`resources`: physical ids by logical ones. `id` is an ARN, which says region and account."""

    id: str
    name: str
    resources: dict[str, str]


async def stack(name: str, region: str) -> Stack:
    if not _NAME.fullmatch(name) or not _REGION.fullmatch(region):
        raise InvalidRequest(f"cannot look up the stack {name[:80]!r} in {region[:40]!r}: give its name and a region")
    at = Aws(region=region)
    found = (await call("cloudformation", "describe_stacks", at, StackName=name))["Stacks"][0]
    resources: dict[str, str] = {}
    token: dict[str, Any] = {}
    while True:
        page = await call("cloudformation", "list_stack_resources", at, StackName=name, **token)
        named = [one for one in page["StackResourceSummaries"] if one.get("PhysicalResourceId")]
        resources.update({one["LogicalResourceId"]: one["PhysicalResourceId"] for one in named})
        if not page.get("NextToken"):
            return Stack(found["StackId"], found["StackName"], resources)
        token = {"NextToken": page["NextToken"]}
