"""CloudFormation's intrinsic functions, as far as a template and a stack's own facts tell. Pure.

What cannot be known is an `Unknown` that says why; whatever is made of one is one, too, so that it matters only where
it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

NAMED = {
    "AWS::Serverless::Function": "FunctionName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::CompositeAlarm": "AlarmName",
    "AWS::CodeDeploy::Application": "ApplicationName",
    "AWS::CodeDeploy::DeploymentConfig": "DeploymentConfigName",
}
"""Resources whose Ref is their name, and the property that sets it."""
_PLACE = re.compile(r"\$\{(!?)([^}]*)\}")
NO_VALUE = "AWS::NoValue"


class Unknown(msgspec.Struct, frozen=True):
    """What cannot be told here, and what would. `function`: it is the ARN of the function of this name."""

    why: str
    function: str = ""


class Scope(msgspec.Struct, frozen=True):
    """A template with what was given for it. `pseudo` are AWS::Region and the like, `stack` the physical ids of a
    stack's resources by their logical ones."""

    template: Mapping[str, Any]
    parameters: Mapping[str, str] = {}
    pseudo: Mapping[str, str] = {}
    stack: Mapping[str, str] = {}

    def section(self, name: str) -> Mapping[str, Any]:
        found = self.template.get(name)
        return found if isinstance(found, Mapping) else {}


class _Absent:
    """AWS::NoValue: as if it were not written."""


ABSENT = _Absent()


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every intrinsic replaced; what is AWS::NoValue is left out."""
    if isinstance(value, list):
        return [found for item in value if (found := resolve(item, scope)) is not ABSENT]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, argument),) = value.items()
        if name in FUNCTIONS:
            return FUNCTIONS[name](argument, scope)
        if isinstance(name, str) and name.startswith("Fn::"):
            return Unknown(f"{name} cannot be resolved from here")
    found = {key: resolve(item, scope) for key, item in value.items()}
    return {key: item for key, item in found.items() if item is not ABSENT}


def condition(name: Any, scope: Scope) -> bool | Unknown:
    """Whether the condition of this name holds."""
    conditions = scope.section("Conditions")
    if not isinstance(name, str) or name not in conditions:
        return Unknown(f"there is no condition {name!r}")
    found = resolve(conditions[name], scope)
    return found if isinstance(found, bool | Unknown) else Unknown(f"the condition {name} is neither true nor false")


def name_of(logical: str, scope: Scope) -> Any:
    """A resource's physical name: the stack's, else the one that the template gives it."""
    if logical in scope.stack:
        return scope.stack[logical]
    resource = scope.section("Resources")[logical]
    prop = NAMED.get(resource.get("Type", "")) if isinstance(resource, dict) else None
    given = (resource.get("Properties") or {}).get(prop) if prop else None
    if given is not None:
        return resolve(given, scope)
    hint = f" or give it the property {prop}" if prop else ""
    return Unknown(f"CloudFormation names {logical}: look it up with --stack-name{hint}")


def text(value: Any) -> Any:
    """As CloudFormation writes it into a string."""
    return str(value).lower() if isinstance(value, bool) else value if isinstance(value, Unknown) else str(value)


def _ref(name: Any, scope: Scope) -> Any:
    if name == NO_VALUE:
        return ABSENT
    if not isinstance(name, str):
        return Unknown(f"Ref takes a name, not {name!r}")
    if name in scope.section("Parameters"):
        return _parameter(name, scope)
    if name.startswith("AWS::"):
        return scope.pseudo.get(name) or Unknown(f"{name} is not known here; give --region or --stack-name")
    if name in scope.section("Resources"):
        return name_of(name, scope)
    return Unknown(f"there is no parameter or resource {name}")


def _parameter(name: str, scope: Scope) -> Any:
    declared = scope.section("Parameters")[name]
    declared = declared if isinstance(declared, Mapping) else {}
    kind = str(declared.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter::Value"):
        return Unknown(f"the value of parameter {name} lies in SSM")
    found = scope.parameters.get(name, declared.get("Default"))
    if found is None:
        return Unknown(f"parameter {name} has no default: give --parameter-overrides {name}=…")
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [part.strip() for part in str(found).split(",")]
    return found


def _sub(argument: Any, scope: Scope) -> Any:
    pattern, own = argument if isinstance(argument, list) and len(argument) == 2 else (argument, {})
    if not isinstance(pattern, str) or not isinstance(own, dict):
        return Unknown("Fn::Sub takes a string, or a string and a map")
    unknown: list[Unknown] = []

    def place(match: re.Match[str]) -> str:
        if match[1]:
            return "${" + match[2] + "}"
        name = match[2].strip()
        found = text(resolve(own[name], scope) if name in own else _named(name, scope))
        if isinstance(found, Unknown):
            unknown.append(found)
            return ""
        return str(found)

    made = _PLACE.sub(place, pattern)
    return Unknown(unknown[0].why) if unknown else made


def _named(name: str, scope: Scope) -> Any:
    logical, dot, attribute = name.partition(".")
    return _attribute([logical, attribute], scope) if dot else _ref(name, scope)


def _attribute(argument: Any, scope: Scope) -> Any:
    logical, attribute = argument if isinstance(argument, list) and len(argument) == 2 else ("", "")
    resource = scope.section("Resources").get(logical)
    kind = resource.get("Type", "") if isinstance(resource, dict) else ""
    if attribute != "Arn" or NAMED.get(kind) != "FunctionName":
        return Unknown(f"the attribute {attribute} of {logical} is not known here")
    name = name_of(logical, scope)
    return name if isinstance(name, Unknown) else _arn(str(name), scope)


def _arn(function: str, scope: Scope) -> Any:
    region, account = scope.pseudo.get("AWS::Region"), scope.pseudo.get("AWS::AccountId")
    if not region or not account:
        return Unknown(f"the account of {function} is not known here; give --stack-name", function)
    return f"arn:{scope.pseudo.get('AWS::Partition', 'aws')}:lambda:{region}:{account}:function:{function}"


def _join(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
        return found if isinstance(found, Unknown) else Unknown("Fn::Join takes a delimiter and a list")
    parts = [text(part) for part in found[1]]
    return _unknown(*parts) or str(found[0]).join(parts)


def _split(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    if not isinstance(found, list) or len(found) != 2:
        return Unknown("Fn::Split takes a delimiter and a string")
    return _unknown(found[1]) or str(found[1]).split(str(found[0]))


def _select(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    if not isinstance(found, list) or len(found) != 2:
        return Unknown("Fn::Select takes an index and a list")
    if (unknown := _unknown(*found)) is not None:
        return unknown
    index, items = str(found[0]), found[1]
    known = isinstance(items, list) and index.isdigit() and int(index) < len(items)
    return items[int(index)] if known else Unknown(f"Fn::Select finds nothing at {index}")


def _map(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    if not isinstance(found, list) or len(found) not in (3, 4):
        return Unknown("Fn::FindInMap takes a map and two keys")
    keys = [text(key) for key in found[:3]]
    if (unknown := _unknown(*keys)) is not None:
        return unknown
    inner: Any = scope.section("Mappings")
    for key in keys:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    if inner is None and len(found) == 4 and isinstance(found[3], dict):
        inner = found[3].get("DefaultValue")
    return Unknown(f"there is nothing at {'/'.join(keys)} in Mappings") if inner is None else inner


def _if(argument: Any, scope: Scope) -> Any:
    if not isinstance(argument, list) or len(argument) != 3:
        return Unknown("Fn::If takes a condition and two values")
    found = condition(argument[0], scope)
    return found if isinstance(found, Unknown) else resolve(argument[1 if found else 2], scope)


def _equals(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    if not isinstance(found, list) or len(found) != 2:
        return Unknown("Fn::Equals takes two values")
    return _unknown(*found) or text(found[0]) == text(found[1])


def _all(argument: Any, scope: Scope) -> Any:
    return _logical(argument, scope, decisive=False)


def _any(argument: Any, scope: Scope) -> Any:
    return _logical(argument, scope, decisive=True)


def _logical(argument: Any, scope: Scope, *, decisive: bool) -> Any:
    """One decisive value settles it, whatever the others are."""
    found = resolve(argument, scope)
    if not isinstance(found, list):
        return Unknown("Fn::And and Fn::Or take a list")
    return decisive if decisive in found else _unknown(*found) or not decisive


def _not(argument: Any, scope: Scope) -> Any:
    found = resolve(argument, scope)
    value = found[0] if isinstance(found, list) and len(found) == 1 else Unknown("Fn::Not takes a list of one")
    return value if isinstance(value, Unknown) else not value


def _unknown(*values: Any) -> Unknown | None:
    return next((value for value in values if isinstance(value, Unknown)), None)


FUNCTIONS: Mapping[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Condition": condition,
    "Fn::Sub": _sub,
    "Fn::GetAtt": _attribute,
    "Fn::Join": _join,
    "Fn::Split": _split,
    "Fn::Select": _select,
    "Fn::FindInMap": _map,
    "Fn::If": _if,
    "Fn::Equals": _equals,
    "Fn::And": _all,
    "Fn::Or": _any,
    "Fn::Not": _not,
}
