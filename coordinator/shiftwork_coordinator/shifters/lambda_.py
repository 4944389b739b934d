"""Lambda: the versions behind an alias, by its routing configuration.

While traffic is shifted the alias keeps its version and gives a share to the new one; at the end it points at the new
version and has no further routes. Every write names the RevisionId that was read, so two writers cannot overwrite each
other. Whatever routes an interrupted run has left behind are replaced by the first write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.aws.clients import ATTEMPTS, READ_LIMIT, call
from shiftwork_coordinator.functions import CONFIGURATION, alias_of, require_version
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import Problem, ShiftReading

NO_PROVISIONED = frozenset({"ProvisionedConcurrencyConfigNotFoundException", "404"})
"""The second is what endpoints answer that do not know provisioned concurrency at all."""
AT_ONCE = 8


class LambdaAliases:
    def __init__(self, settings: GroupSettings) -> None:
        self._aws = settings.aws
        self._few = asyncio.Semaphore(AT_ONCE)

    async def check(self, resources: Sequence[FunctionShift], *, gradual: bool = False) -> Sequence[Problem]:
        found = await asyncio.gather(*(self._check(one) for one in resources))
        return [problem for problems in found for problem in problems]

    async def _check(self, one: FunctionShift) -> list[Problem]:
        try:
            async with self._few:
                alias = await alias_of(one.function, one.alias, self._aws)
                await require_version(one.function, one.target, self._aws)
        except InvalidRequest as err:
            return [Problem(err.message, instance=one.name, code=err.code)]
        except ShiftworkError as err:
            return [Problem(f"cannot deploy {one.function}:{one.alias}: {err.message}", instance=one.name)]
        if alias["FunctionVersion"] != one.current:
            text = (
                f"cannot deploy {one.function}: its alias {one.alias} is at version {alias['FunctionVersion']}, not at"
                f" {one.current} as CurrentVersion says; correct the AppSpec"
            )
            return [Problem(text, instance=one.name)]
        if routes := _routes(alias):
            text = f"{one.function}:{one.alias} still gives traffic to {_shown(routes)}: that will be taken back first"
            return [Problem(text, fatal=False, instance=one.name)]
        return []

    async def set_weight(self, resource: FunctionShift, weight: float) -> None:
        alias = await self._alias(resource)
        if alias["FunctionVersion"] not in (resource.current, resource.target):
            raise InvalidRequest(_elsewhere(resource, alias), code=CONFIGURATION)
        version, routes = _wanted(resource, weight)
        if alias["FunctionVersion"] == version and _routes(alias) == routes:
            return
        try:
            await self._update(resource, alias, version, routes)
        except InvalidRequest as err:
            if err.code == "PreconditionFailedException":
                text = f"cannot move {resource.function}:{resource.alias} now: somebody else changed it at this moment"
                raise Unavailable(text) from err
            raise

    async def _update(
        self, resource: FunctionShift, alias: Mapping[str, Any], version: str, routes: dict[str, float]
    ) -> None:
        await self._call(
            "update_alias", FunctionName=resource.function, Name=resource.alias, FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": routes}, RevisionId=alias["RevisionId"], attempts=1,
        )  # fmt: skip

    async def readings(self, resources: Sequence[FunctionShift]) -> Mapping[str, ShiftReading]:
        found = await asyncio.gather(*(self._reading(one) for one in resources))
        return {one.name: reading for one, reading in zip(resources, found, strict=True)}

    async def _reading(self, one: FunctionShift) -> ShiftReading:
        try:
            alias = await self._alias(one)
            why, fatal = await self._not_ready(one)
        except Unavailable as err:
            return ShiftReading(None, ready=False, detail=err.message)
        except ShiftworkError as err:
            return ShiftReading(None, ready=False, fatal=True, detail=err.message)
        if alias["FunctionVersion"] not in (one.current, one.target):
            return ShiftReading(None, ready=False, fatal=True, detail=_elsewhere(one, alias))
        return ShiftReading(_weight(one, alias), ready=not why, fatal=fatal, detail=why)

    async def _not_ready(self, one: FunctionShift) -> tuple[str, bool]:
        """Why the new version cannot take traffic yet, and whether it never will."""
        about = await self._configuration(one)
        state = about.get("State", "Active")
        if state in ("Failed", "Inactive") or about.get("LastUpdateStatus") == "Failed":
            reason = about.get("StateReason") or about.get("LastUpdateStatusReason") or "no reason given"
            return f"version {one.target} of {one.function} is {state}: {reason}", True
        if state != "Active" or about.get("LastUpdateStatus") == "InProgress":
            return f"version {one.target} of {one.function} is {state}", False
        return await self._not_provisioned(one)

    async def _not_provisioned(self, one: FunctionShift) -> tuple[str, bool]:
        try:
            found = await self._call(
                "get_provisioned_concurrency_config", FunctionName=one.function, Qualifier=one.target
            )
        except ShiftworkError as err:
            if err.code in NO_PROVISIONED:
                return "", False
            raise
        status = found.get("Status", "READY")
        if status == "FAILED":
            why = found.get("StatusReason") or "no reason given"
            return f"provisioned concurrency of version {one.target} failed: {why}", True
        return ("" if status == "READY" else f"provisioned concurrency of version {one.target} is {status}"), False

    async def arrange(self, resource: FunctionShift, wanted: Arrangement) -> None:
        raise InvalidRequest(f"cannot arrange {resource.function}: versions stand beside each other by themselves")

    async def _alias(self, one: FunctionShift) -> Any:
        return await self._call("get_alias", FunctionName=one.function, Name=one.alias)

    async def _configuration(self, one: FunctionShift) -> Any:
        return await self._call("get_function_configuration", FunctionName=one.function, Qualifier=one.target)

    async def _call(
        self, operation: str, limit: float = READ_LIMIT, attempts: int = ATTEMPTS, **parameters: Any
    ) -> Any:
        async with self._few:
            return await call("lambda", operation, self._aws, limit, attempts, **parameters)


def _wanted(one: FunctionShift, weight: float) -> tuple[str, dict[str, float]]:
    if weight >= 1.0:
        return one.target, {}
    return one.current, {one.target: weight} if weight > 0 else {}


def _routes(alias: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return found


def _weight(one: FunctionShift, alias: Mapping[str, Any]) -> float | None:
    """None while routes are there that are not of this shift."""
    routes = _routes(alias)
    if alias["FunctionVersion"] == one.target:
        return None if routes else 1.0
    return None if set(routes) - {one.target} else routes.get(one.target, 0.0)


def _elsewhere(one: FunctionShift, alias: Mapping[str, Any]) -> str:
    return (
        f"alias {one.alias} of {one.function} is at version {alias['FunctionVersion']}, neither {one.current} nor"
        f" {one.target}: somebody else has moved it"
    )


def _shown(routes: Mapping[str, float]) -> str:
    return ", ".join(f"version {version} ({weight:.0%})" for version, weight in sorted(routes.items()))
