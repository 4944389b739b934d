"""The AppSpec of the Lambda platform, in YAML or JSON (which is YAML): which alias moves from which version to which.

Source of the rules: CodeDeploy's reference of the AppSpec `resources` and `hooks` sections.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from shiftwork_contract import yamlmarks
from shiftwork_contract.errors import AppSpecError
from shiftwork_contract.revision import Revision
from shiftwork_contract.yamlmarks import Marked

LAMBDA_HOOKS = ("BeforeAllowTraffic", "AfterAllowTraffic")
FUNCTION_TYPE = "AWS::Lambda::Function"
_VERSION = re.compile(r"[1-9][0-9]*")


class FunctionShift(msgspec.Struct, frozen=True):
    """One resource: the traffic of `alias` moves from version `current` to version `target`. `name` is the resource's
    own key, by which a deployment's target is called."""

    name: str
    function: str
    alias: str
    current: str
    target: str


class LambdaAppSpec(msgspec.Struct, frozen=True):
    """`hooks` maps lifecycle events to the function that is invoked at them."""

    resources: tuple[FunctionShift, ...]
    hooks: dict[str, str] = {}


def parse_lambda(text: str | bytes, file: str = "appspec.yml") -> LambdaAppSpec:
    """The AppSpec in `text`. Raises AppSpecError with the place of the first problem."""
    root = yamlmarks.parse(text, file, error=AppSpecError)
    if root is None or root.is_null:
        raise AppSpecError("the AppSpec is empty; it needs `version: 0.0` and `Resources`", file=file)
    members = _lowered(root)
    _check_version(root, members)
    found = tuple(_resource(item) for item in _needed(root, members, "resources").items())
    if not found:
        raise members["resources"].fail("`Resources` names no function")
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise members["resources"].fail(f"`Resources` names {twice} twice")
    return LambdaAppSpec(found, _hooks(members["hooks"]) if "hooks" in members else {})


def written(spec: LambdaAppSpec) -> str:
    """The AppSpec as JSON text that `parse_lambda` reads: equal specs give equal texts."""
    resources = [{one.name: {"Type": FUNCTION_TYPE, "Properties": _properties(one)}} for one in spec.resources]
    hooks = [{event: function} for event, function in sorted(spec.hooks.items())]
    return msgspec.json.encode({"version": 0.0, "Resources": resources, "Hooks": hooks}).decode()


def _properties(one: FunctionShift) -> dict[str, str]:
    return {"Name": one.function, "Alias": one.alias, "CurrentVersion": one.current, "TargetVersion": one.target}


def reversed_spec(resources: Iterable[FunctionShift]) -> LambdaAppSpec:
    """The AppSpec that puts these back; without hooks, which judge new versions."""
    return LambdaAppSpec(
        tuple(msgspec.structs.replace(one, current=one.target, target=one.current) for one in resources)
    )


def revision_of(spec: LambdaAppSpec) -> Revision:
    """The revision that an AppSpec is: its identity is the digest of its text, there is no bundle to fetch."""
    digest = hashlib.sha256(written(spec).encode()).hexdigest()
    return Revision(f"sha256:{digest}", "appspec:", digest_of="archive")


def _lowered(marked: Marked) -> dict[str, Marked]:
    """Members by key in lower case: samples in the wild write both `Resources` and `resources`."""
    return {key.lower(): member for key, member in marked.mapping().items()}


def _check_version(root: Marked, members: dict[str, Marked]) -> None:
    value = _needed(root, members, "version").scalar()
    if isinstance(value, bool) or value not in (0, 0.0, "0.0"):
        raise members["version"].fail(f"`version` must be 0.0, not {members['version'].shown}")


def _needed(marked: Marked, members: dict[str, Marked], key: str) -> Marked:
    if key not in members or members[key].is_null:
        raise marked.fail(f"`{marked.path or 'the AppSpec'}` needs `{key}`")
    return members[key]


def _resource(marked: Marked) -> FunctionShift:
    entries = list(marked.mapping().items())
    if len(entries) != 1:
        raise marked.fail(f"`{marked.path}` must have one key, the resource's name, not {len(entries)}")
    name, about = entries[0]
    members = _lowered(about)
    if (kind := _needed(about, members, "type").text()) != FUNCTION_TYPE:
        raise members["type"].fail(f"`{about.path}.Type` must be {FUNCTION_TYPE}, not {kind!r}")
    inner = _needed(about, members, "properties")
    found = _lowered(inner)
    text = {key: _needed(inner, found, key).text() for key in ("name", "alias", "currentversion", "targetversion")}
    for key in ("currentversion", "targetversion"):
        if not _VERSION.fullmatch(text[key]):
            raise found[key].fail(f"`{found[key].path}` must be the number of a published version, not {text[key]!r}")
    if text["currentversion"] == text["targetversion"]:
        raise inner.fail(f"`{inner.path}` has the same current and target version {text['targetversion']}")
    return FunctionShift(name, text["name"], text["alias"], text["currentversion"], text["targetversion"])


def _hooks(marked: Marked) -> dict[str, str]:
    hooks: dict[str, str] = {}
    for item in marked.items():
        for event, function in item.mapping().items():
            if event not in LAMBDA_HOOKS:
                raise function.fail(f"`{event}` is no hook of a Lambda deployment: {', '.join(LAMBDA_HOOKS)}")
            if event in hooks:
                raise function.fail(f"`{event}` is named twice")
            hooks[event] = function.text()
    return hooks
