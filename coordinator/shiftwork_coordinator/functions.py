"""Deployments of functions: which alias moves from which version to which."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_lambda import FunctionShift, LambdaAppSpec, parse_lambda
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import GroupSettings

MOST_CODE = 50 << 20
"""Bytes of a zip that Lambda takes directly."""
UPLOAD_LIMIT = 60.0
UP_TO_DATE = "UP_TO_DATE"
"""Code of the refusal to move an alias to where it is."""


class FunctionWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The short form instead of an AppSpec: move `alias` of function `name` to `version`, from where it is now. An
    empty version is the newest that is published."""

    name: str
    alias: str
    version: str = ""


async def wanted(content: str, short: FunctionWanted | None, settings: GroupSettings) -> LambdaAppSpec:
    """The AppSpec of a deployment, with the group's hooks where it names none."""
    if bool(content) == (short is not None):
        raise InvalidRequest(
            "cannot deploy a function: give an AppSpec (--revision appspec.yml), or --function, --alias and --version",
            code="RevisionRequiredException",
        )
    spec = parse_lambda(content) if short is None else LambdaAppSpec((await _shift(short, settings),))
    return replace(spec, hooks=settings.hooks.named() | spec.hooks)


async def _shift(short: FunctionWanted, settings: GroupSettings) -> FunctionShift:
    alias = await call("lambda", "get_alias", settings.aws, FunctionName=short.name, Name=short.alias)
    version = short.version or await newest(short.name, settings)
    if alias["FunctionVersion"] == version:
        raise InvalidRequest(
            f"cannot deploy {short.name}: its alias {short.alias} is at version {version} already", code=UP_TO_DATE
        )
    return FunctionShift(short.name, short.name, short.alias, alias["FunctionVersion"], version)


async def newest(name: str, settings: GroupSettings) -> str:
    """The number of the version that was published last."""
    versions: list[str] = []
    marker: dict[str, Any] = {}
    while True:
        page = await call("lambda", "list_versions_by_function", settings.aws, FunctionName=name, **marker)
        versions += [one["Version"] for one in page["Versions"] if one["Version"].isdigit()]
        if not page.get("NextMarker"):
            break
        marker = {"Marker": page["NextMarker"]}
    if not versions:
        raise InvalidRequest(f"cannot deploy {name}: it has no published version", code="INVALID_LAMBDA_CONFIGURATION")
    return max(versions, key=int)


async def publish(name: str, code: bytes, settings: GroupSettings) -> str:
    """Uploads a zip as the function's code and publishes it: the new version's number."""
    if len(code) > MOST_CODE:
        raise InvalidRequest(
            f"cannot publish {name}: the zip has {len(code)} bytes, Lambda takes {MOST_CODE} directly; upload it to S3"
        )
    found = await call(
        "lambda", "update_function_code", settings.aws, UPLOAD_LIMIT, 1, FunctionName=name, ZipFile=code, Publish=True
    )
    return str(found["Version"])
