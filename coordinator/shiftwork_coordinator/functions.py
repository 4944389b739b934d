"""Deployments of functions: which alias moves from which version to which."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_lambda import FunctionShift, LambdaAppSpec, parse_lambda
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws.clients import call
from shiftwork_coordinator.model.settings import GroupSettings

MOST_CODE = 50 << 20
"""Bytes of a zip that Lambda takes directly."""
UPLOAD_LIMIT = 60.0


class FunctionWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The short form instead of an AppSpec: move `alias` of function `name` to `version`, from where it is now."""

    name: str
    alias: str
    version: str


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
    if alias["FunctionVersion"] == short.version:
        raise InvalidRequest(
            f"cannot deploy {short.name}: its alias {short.alias} is at version {short.version} already",
            code="INVALID_LAMBDA_CONFIGURATION",
        )
    return FunctionShift(short.name, short.name, short.alias, alias["FunctionVersion"], short.version)


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
