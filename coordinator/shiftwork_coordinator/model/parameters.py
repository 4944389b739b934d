"""Typed parameters for hooks: declared by a deployment group, given with a deployment, handed to hooks as environment
variables. A value is checked once, when the deployment is created, and never goes through a shell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest

LONGEST = 4096
"""Bytes of one value."""
MOST = 64
"""Parameters of a group."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_OWN = frozenset({"APPLICATION_NAME", "DEPLOYMENT_ID", "DEPLOYMENT_GROUP_NAME", "DEPLOYMENT_GROUP_ID"}) | frozenset(
    {"LIFECYCLE_EVENT", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "IFS", "ENV", "BASH_ENV"}
)
_OWN_PREFIXES = ("SHIFTWORK_", "BUNDLE_", "LD_", "BASH_FUNC_")
"""What hooks are told anyway, and what a shell or the loader obeys."""

Value = str | int | bool


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without `default` every deployment must give a value. `min` and `max` bound an integer; `choices` are all that
    is allowed."""

    type: Literal["string", "integer", "boolean"] = "string"
    default: Value | None = None
    min: int | None = None
    max: int | None = None
    choices: tuple[str | int, ...] = ()
    description: str = ""


def refuse_declared(group: str, declared: Mapping[str, Parameter], environment: Mapping[str, str]) -> None:
    """Raises InvalidRequest for the first parameter of a group that could not be used."""
    if len(declared) > MOST:
        raise InvalidRequest(f"cannot use the parameters of {group}: it has {len(declared)}, the most is {MOST}")
    for name, parameter in declared.items():
        problem = _wrong_name(name, environment) or next(_wrong(parameter), "")
        if problem:
            raise InvalidRequest(f"cannot use the parameter {name[:80]!r} of {group}: {problem}")


def _wrong_name(name: str, environment: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        return "a name is 1 to 64 letters, digits and underscores, and begins with no digit"
    if name in _OWN or name.startswith(_OWN_PREFIXES):
        return "hooks, shells or the loader give this name a meaning; choose another"
    return "the group's `environment` has this name too; keep one of them" if name in environment else ""


def _wrong(parameter: Parameter) -> Iterator[str]:
    kind = parameter.type
    if kind != "integer" and (parameter.min is not None or parameter.max is not None):
        yield f"min and max are for integers, not for a {kind}"
    if parameter.min is not None and parameter.max is not None and parameter.min > parameter.max:
        yield f"min is {parameter.min} and max is {parameter.max}; no value could be both"
    if kind == "boolean" and parameter.choices:
        yield "a boolean needs no choices"
    for choice in parameter.choices:
        if problem := _mismatch(parameter, choice):
            yield f"its choice {choice!r} {problem}"
    if parameter.default is not None and (problem := _mismatch(parameter, parameter.default)):
        yield f"its default {parameter.default!r} {problem}"


def values(group: str, declared: Mapping[str, Parameter], given: Mapping[str, Value]) -> dict[str, str]:
    """Every declared parameter as the text that hooks get. Raises InvalidRequest naming the first that is wrong.

    A given value may be text throughout, as the command line has it.
    """
    unknown = sorted(set(given) - set(declared))
    if unknown:
        known = ", ".join(declared) or "none; `parameters` of the group declares them"
        raise InvalidRequest(f"cannot set the parameter {unknown[0][:80]!r} of {group}: there is none of that name;"
                             f" known: {known}")  # fmt: skip
    return {name: _value(group, name, parameter, given.get(name)) for name, parameter in declared.items()}


def _value(group: str, name: str, parameter: Parameter, given: Value | None) -> str:
    value = parameter.default if given is None else _typed(parameter, given)
    if value is None:
        raise InvalidRequest(
            f"cannot deploy to {group}: the parameter {name} has no default; give it with --parameter {name}=…"
        )
    if problem := _mismatch(parameter, value):
        raise InvalidRequest(f"cannot set the parameter {name} of {group} to {_shown(value)}: it {problem}")
    return _text(value)


def _typed(parameter: Parameter, given: Value) -> Value:
    """`given` in the parameter's type where text can be read as such."""
    if not isinstance(given, str):
        return given
    if parameter.type == "integer" and _INTEGER.fullmatch(given):
        return int(given)
    return given == "true" if parameter.type == "boolean" and given in ("true", "false") else given


def _mismatch(parameter: Parameter, value: Value) -> str:
    """What is wrong with a value, or nothing."""
    if not _is_of(parameter.type, value):
        return f"is not {_WANTED[parameter.type]}"
    if isinstance(value, str) and (len(value.encode()) > LONGEST or "\0" in value):
        return f"is longer than {LONGEST} bytes, or has a NUL in it"
    if isinstance(value, int) and parameter.min is not None and value < parameter.min:
        return f"is below the least, {parameter.min}"
    if isinstance(value, int) and parameter.max is not None and value > parameter.max:
        return f"is above the most, {parameter.max}"
    if parameter.choices and value not in parameter.choices:
        return f"is none of {', '.join(map(str, parameter.choices))}"
    return ""


_WANTED = {"string": "a string (in YAML, quote it)", "integer": "a whole number", "boolean": "true or false"}


def _is_of(kind: str, value: Value) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "boolean" else str)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Value) -> str:
    text = value if isinstance(value, str) else _text(value)
    return repr(text if len(text) <= 80 else text[:80] + "…")
