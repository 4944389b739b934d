"""The functions of a template that have deployments of their own: as SAM writes them, or as CloudFormation does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.sam.intrinsics import Scope, Unknown, condition, resolve
from shiftwork_coordinator.sam.values import Told, Values
from shiftwork_coordinator.sam.wanted import Reading, Wanted, config_of

Resource = Mapping[str, Any]
SERVERLESS, ALIAS, GROUP = "AWS::Serverless::Function", "AWS::Lambda::Alias", "AWS::CodeDeploy::DeploymentGroup"
EVENTS = {
    "DEPLOYMENT_FAILURE": "failure",
    "DEPLOYMENT_STOP_ON_ALARM": "alarm",
    "DEPLOYMENT_STOP_ON_REQUEST": "stop",
}


class LeftOut(msgspec.Struct, frozen=True):
    why: str


def read(scope: Scope) -> Reading:
    """Everything that is wrong is told at once."""
    found: list[Wanted] = []
    notes: list[str] = []
    problems: list[str] = []
    for logical, resource in scope.section("Resources").items():
        try:
            made = _read(str(logical), resource, scope)
        except InvalidRequest as err:
            problems.append(err.message)
            continue
        if isinstance(made, LeftOut):
            notes.append(f"{logical}: {made.why}")
        elif made is not None:
            found.append(made)
            problems += made.untold
            notes += _unused(str(logical), resource, scope)
    if not found and not problems:
        problems.append("no function in it has a DeploymentPreference that is enabled")
    return Reading(tuple(found), tuple(notes), tuple(problems))


def _read(logical: str, resource: Any, scope: Scope) -> Wanted | LeftOut | None:
    if logical.startswith("Fn::"):
        raise InvalidRequest(f"{logical} is not expanded here: give the template that CloudFormation made of it")
    make = READERS.get(str(resource.get("Type", ""))) if isinstance(resource, Mapping) else None
    return make(logical, resource, scope) if make else None


# As SAM writes it


def _serverless(logical: str, resource: Resource, scope: Scope) -> Wanted | LeftOut:
    if (absent := _absent(logical, resource, scope)) is not None:
        return absent
    values = Values(logical, _merged(_globals(scope), _properties(resource)), scope)
    preference = _preference(logical, resource, scope)
    if preference is None:
        return LeftOut("it has no DeploymentPreference and is left alone")
    if not preference.flag("Enabled", True):
        return LeftOut("its DeploymentPreference is not enabled, so it is left alone")
    told, hooks = Told(), preference.within("Hooks")
    alias, kind = told(values.text, "AutoPublishAlias", ""), told(preference.text, "Type", "")
    if not told.untold and (not alias or not kind):
        raise InvalidRequest(f"{logical}: DeploymentPreference needs AutoPublishAlias beside it, and a Type in it")
    return Wanted(
        logical=logical,
        group=f"{logical}DeploymentGroup",
        function=told(Values(logical, {"FunctionName": {"Ref": logical}}, scope).text, "FunctionName", ""),
        alias=alias,
        config=config_of(kind),
        before=told(hooks.function, "PreTraffic", ""),
        after=told(hooks.function, "PostTraffic", ""),
        alarms=told(preference.names, "Alarms", ()),
        triggers=_triggers(preference),
        code=_path(values.get("CodeUri")),
        untold=told.untold,
    )


def _preference(logical: str, resource: Resource, scope: Scope) -> Values | None:
    """The function's own over that of Globals."""
    both = [resolve(each.get("DeploymentPreference"), scope) for each in (_globals(scope), _properties(resource))]
    if unknown := next((value for value in both if isinstance(value, Unknown)), None):
        raise InvalidRequest(f"{logical}: DeploymentPreference cannot be told: {unknown.why}")
    found = _merged(*(value if isinstance(value, Mapping) else None for value in both))
    return Values(f"{logical}.DeploymentPreference", found, scope) if found else None


def _globals(scope: Scope) -> Mapping[str, Any]:
    found = scope.section("Globals").get("Function")
    return found if isinstance(found, Mapping) else {}


def _merged(under: Any, over: Any) -> Any:
    """As SAM does with Globals: maps join, lists follow each other, all else is replaced."""
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        return {key: _merged(under.get(key), over.get(key)) for key in {**under, **over}}
    if isinstance(under, list) and isinstance(over, list):
        return [*under, *over]
    return under if over is None else over


# As CloudFormation writes it


def _alias(logical: str, resource: Resource, scope: Scope) -> Wanted | LeftOut | None:
    policy = Values(logical, resource.get("UpdatePolicy"), scope)
    if not policy.get("CodeDeployLambdaAliasUpdate"):
        return None
    if (absent := _absent(logical, resource, scope)) is not None:
        return absent
    update, values = policy.within("CodeDeployLambdaAliasUpdate"), Values(logical, _properties(resource), scope)
    name, group = _group_of(logical, resource, scope)
    alarms, back = group.within("AlarmConfiguration"), group.within("AutoRollbackConfiguration")
    named = _properties(resource).get("FunctionName")
    told = Told()
    owner = str(named["Ref"]) if isinstance(named, Mapping) and set(named) == {"Ref"} else ""
    return Wanted(
        logical=owner or logical,
        group=name,
        function=told(values.function, "FunctionName", ""),
        alias=told(values.text, "Name", ""),
        config=told(lambda key: group.text(key) or config_of("AllAtOnce"), "DeploymentConfigName", ""),
        before=told(update.function, "BeforeAllowTrafficHook", ""),
        after=told(update.function, "AfterAllowTrafficHook", ""),
        alarms=told(partial(alarms.names, inner="Name"), "Alarms", ()) if alarms.flag("Enabled", True) else (),
        ignore_unreadable=alarms.flag("IgnorePollAlarmFailure", False),
        rollback=_events(back.names("Events")) if back.flag("Enabled", False) else (),
        triggers=_triggers(group),
        code=_path(resolve(_properties(scope.section("Resources").get(owner)).get("Code"), scope)),
        untold=told.untold,
    )


def _group_of(logical: str, resource: Resource, scope: Scope) -> tuple[str, Values]:
    """The deployment group's name here, which is its logical one, and its properties."""
    update = resource["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    named = update.get("DeploymentGroupName") if isinstance(update, Mapping) else None
    name = str(named.get("Ref") if isinstance(named, Mapping) else named)
    group = scope.section("Resources").get(name)
    if not isinstance(group, Mapping) or group.get("Type") != GROUP:
        raise InvalidRequest(f"{logical}: its deployment group {name} is not in the template")
    return name, Values(name, _properties(group), scope)


def _events(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(EVENTS[name] for name in names if name in EVENTS)


# Both


def _properties(resource: Any) -> Mapping[str, Any]:
    found = resource.get("Properties") if isinstance(resource, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _triggers(of: Values) -> tuple[dict[str, Any], ...]:
    try:
        return of.triggers("TriggerConfigurations")
    except InvalidRequest:
        return ()


def _untold_triggers(of: Values) -> list[str]:
    """Why nobody is notified: nothing else depends on that."""
    try:
        of.triggers("TriggerConfigurations")
    except InvalidRequest as err:
        return [f"{err.message}; nobody is notified by it"]
    return []


def _absent(logical: str, resource: Resource, scope: Scope) -> LeftOut | None:
    """Where the resource's condition leaves it out. A group without its function would stand for nothing, so it goes
    with it, whatever PassthroughCondition says."""
    if "Condition" not in resource:
        return None
    found = condition(resource["Condition"], scope)
    if isinstance(found, Unknown):
        raise InvalidRequest(f"{logical}: whether it is there cannot be told: {found.why}")
    return None if found else LeftOut(f"it is left out, as its condition {resource['Condition']} is false")


def _unused(logical: str, resource: Resource, scope: Scope) -> list[str]:
    """What is written there and does nothing here."""
    serverless = resource["Type"] == SERVERLESS
    of = _preference(logical, resource, scope) if serverless else _group_of(logical, resource, scope)[1]
    role, told = "Role" if serverless else "ServiceRoleArn", _untold_triggers(of) if of else []
    if of and of.get(role):
        told.append(f"{logical}: {role} is CodeDeploy's and not used: the coordinator acts as itself, or as --role-arn")
    return told


def _path(code: Any) -> str:
    return code if isinstance(code, str) and "://" not in code else ""


READERS = {SERVERLESS: _serverless, ALIAS: _alias}
