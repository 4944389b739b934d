"""The AppSpec of the Lambda platform, in YAML or JSON (which is YAML): which alias moves from which version to which.

Source of the rules: CodeDeploy's reference of the AppSpec `resources` and `hooks` sections.
"""

from __future__ import annotations

import re

import msgspec

from shiftwork_contract import yamlmarks
from shiftwork_contract.appspec_resources import check_version, function_hooks, lowered, needed
from shiftwork_contract.errors import AppSpecError
from shiftwork_contract.yamlmarks import Marked

LAMBDA_HOOKS = ("BeforeAllowTraffic", "AfterAllowTraffic")
FUNCTION_TYPE = "AWS::Lambda::Function"
_VERSION = re.compile(r"[1-9][0-9]*")


class FunctionShift(msgspec.Struct, frozen=True, tag="function"):
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
    members = lowered(root)
    check_version(root, members)
    found = tuple(_resource(item) for item in needed(root, members, "resources").items())
    if not found:
        raise members["resources"].fail("`Resources` names no function")
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise members["resources"].fail(f"`Resources` names {twice} twice")
    return LambdaAppSpec(found, function_hooks(members["hooks"], LAMBDA_HOOKS) if "hooks" in members else {})


def _resource(marked: Marked) -> FunctionShift:
    entries = list(marked.mapping().items())
    if len(entries) != 1:
        raise marked.fail(f"`{marked.path}` must have one key, the resource's name, not {len(entries)}")
    name, about = entries[0]
    members = lowered(about)
    if (kind := needed(about, members, "type").text()) != FUNCTION_TYPE:
        raise members["type"].fail(f"`{about.path}.Type` must be {FUNCTION_TYPE}, not {kind!r}")
    inner = needed(about, members, "properties")
    found = lowered(inner)
    text = {key: needed(inner, found, key).text() for key in ("name", "alias", "currentversion", "targetversion")}
    for key in ("currentversion", "targetversion"):
        if not _VERSION.fullmatch(text[key]):
            raise found[key].fail(f"`{found[key].path}` must be the number of a published version, not {text[key]!r}")
    if text["currentversion"] == text["targetversion"]:
        raise inner.fail(f"`{inner.path}` has the same current and target version {text['targetversion']}")
    return FunctionShift(name, text["name"], text["alias"], text["currentversion"], text["targetversion"])
