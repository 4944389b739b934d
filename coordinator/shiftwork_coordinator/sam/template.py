"""A template's text as plain values: YAML with CloudFormation's short tags, or JSON."""

from __future__ import annotations

import re
from typing import Any

import yaml

from shiftwork_contract.errors import InvalidRequest

PLAIN = frozenset({"Ref", "Condition"})
"""Intrinsics whose long form has no Fn:: before it."""
Template = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Tags become the long form: !Sub x is {"Fn::Sub": x}. Dates stay text, as AWSTemplateFormatVersion is one, and so
    do yes, no, on and off, which name conditions and parameters as well."""


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = list(value.partition(".")[::2])
    return {suffix if suffix in PLAIN else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)
_TEXT = frozenset({"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"})
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in _TEXT]
    for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_WORDS = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _WORDS, list("tTfF"))


def load(text: str, file: str) -> Template:
    """Raises InvalidRequest, with the place, for what is no template."""
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise InvalidRequest(f"{place}: cannot read the template: {err.problem}") from err
    except yaml.YAMLError as err:
        raise InvalidRequest(f"{file}: cannot read the template: {err}") from err
    if not isinstance(found, dict) or not isinstance(found.get("Resources"), dict):
        raise InvalidRequest(f"{file}: cannot use it as a template: it has no Resources")
    return found
