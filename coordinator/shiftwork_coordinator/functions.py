"""Deployments of functions: which alias moves from which version to which."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_lambda import FunctionShift, LambdaAppSpec, parse_lambda
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.appspecs import parsed
from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import Aws, GroupSettings

MOST_CODE = 50 << 20
"""Bytes of a zip that Lambda takes directly."""
UPLOAD_LIMIT = 60.0
UP_TO_DATE = "UP_TO_DATE"
"""Code of the refusal to move an alias to where it is."""
UNPUBLISHED = "$LATEST"
"""What stands in a plan for a version that its deployment publishes."""
FUNCTION, CONFIGURATION = "INVALID_LAMBDA_FUNCTION", "INVALID_LAMBDA_CONFIGURATION"
ABSENT = "ResourceNotFoundException"


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
    spec = parsed(parse_lambda, content) if short is None else LambdaAppSpec((await _shift(short, settings),))
    return replace(spec, hooks=settings.hooks.named() | spec.hooks)


async def _shift(short: FunctionWanted, settings: GroupSettings) -> FunctionShift:
    if short.version and short.version != UNPUBLISHED and not short.version.isdecimal():
        raise _no_number(short)
    alias = await alias_of(short.name, short.alias, settings.aws)
    version = short.version or await newest(short.name, settings)
    if alias["FunctionVersion"] == UNPUBLISHED:
        raise InvalidRequest(
            f"cannot deploy {short.name}: its alias {short.alias} points at {UNPUBLISHED}, whose traffic AWS does not"
            " share; point it at a published version first: aws lambda update-alias",
            code=CONFIGURATION,
        )
    if alias["FunctionVersion"] == version:
        raise InvalidRequest(
            f"cannot deploy {short.name}: its alias {short.alias} is at version {version} already", code=UP_TO_DATE
        )
    return FunctionShift(short.name, short.name, short.alias, alias["FunctionVersion"], version)


def refuse_unpublished(short: FunctionWanted | None) -> None:
    """What is planned may be published by the deployment; what is deployed must be."""
    if short is not None and short.version == UNPUBLISHED:
        raise _no_number(short)


def _no_number(short: FunctionWanted) -> InvalidRequest:
    return InvalidRequest(
        f"cannot deploy version {short.version[:80]!r} of {short.name}: traffic moves between published versions only;"
        " give the number of one, or --zip to publish code",
        code=CONFIGURATION,
    )


async def alias_of(function: str, alias: str, at: Aws) -> Any:
    """The alias as it is. Raises InvalidRequest with what is not there, and how it comes to be."""
    try:
        return await call("lambda", "get_alias", at, FunctionName=function, Name=alias)
    except InvalidRequest as err:
        if err.code != ABSENT:
            raise
        await _require(function, at)
        raise InvalidRequest(
            f"cannot deploy {function}: it has no alias {alias}; correct the name, or make it: aws lambda create-alias"
            f" --function-name {function} --name {alias} --function-version N",
            code=CONFIGURATION,
        ) from err


async def require_version(function: str, version: str, at: Aws) -> None:
    """Raises InvalidRequest for a version that is not there."""
    try:
        await call("lambda", "get_function_configuration", at, FunctionName=function, Qualifier=version)
    except InvalidRequest as err:
        if err.code != ABSENT:
            raise
        raise InvalidRequest(
            f"cannot deploy version {version} of {function}: there is none; correct the number, or publish one: aws"
            f" lambda publish-version --function-name {function}",
            code=CONFIGURATION,
        ) from err


async def _require(function: str, at: Aws) -> None:
    try:
        await call("lambda", "get_function_configuration", at, FunctionName=function)
    except InvalidRequest as err:
        if err.code != ABSENT:
            raise
        where = f"in {at.region}" if at.region else "in the coordinator's region"
        raise InvalidRequest(
            f"cannot deploy {function}: there is no function of this name {where}; correct the name, or `aws` in the"
            " group's settings",
            code=FUNCTION,
        ) from err


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
        raise InvalidRequest(
            f"cannot deploy {name}: it has no published version; publish one: aws lambda publish-version"
            f" --function-name {name}",
            code=CONFIGURATION,
        )
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
