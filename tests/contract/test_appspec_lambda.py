"""AppSpec files of the Lambda platform, as they are found in the wild."""

from __future__ import annotations

import pytest

from shiftwork_contract.appspec_lambda import (
    FunctionShift,
    LambdaAppSpec,
    parse_lambda,
    reversed_spec,
    revision_of,
    written,
)
from shiftwork_contract.errors import AppSpecError

YAML = """
version: 0.0
Resources:
  - myLambdaFunction:
      Type: AWS::Lambda::Function
      Properties:
        Name: "orders"
        Alias: "live"
        CurrentVersion: "1"
        TargetVersion: "2"
Hooks:
  - BeforeAllowTraffic: "check-before"
  - AfterAllowTraffic: "check-after"
"""
JSON = """{"version": 0.0, "Resources": [{"myLambdaFunction": {"Type": "AWS::Lambda::Function", "Properties":
 {"Name": "orders", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}}}],
 "Hooks": [{"BeforeAllowTraffic": "check-before"}, {"AfterAllowTraffic": "check-after"}]}"""
SPEC = LambdaAppSpec(
    (FunctionShift("myLambdaFunction", "orders", "live", "1", "2"),),
    {"BeforeAllowTraffic": "check-before", "AfterAllowTraffic": "check-after"},
)


@pytest.mark.parametrize("text", [YAML, JSON, YAML.replace("Resources", "resources").replace("Hooks", "hooks")])
def test_yaml_and_json_say_the_same(text: str) -> None:
    assert parse_lambda(text) == SPEC


def test_what_is_written_is_read_back() -> None:
    assert parse_lambda(written(SPEC)) == SPEC
    assert revision_of(parse_lambda(YAML)) == revision_of(parse_lambda(JSON))


def test_reversed_goes_back_without_hooks() -> None:
    back = reversed_spec(SPEC.resources)
    assert (back.resources[0].current, back.resources[0].target, back.hooks) == ("2", "1", {})


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("version: 0.0", "version: 1.0", "2:10: `version` must be 0.0"),
        ("AWS::Lambda::Function", "AWS::Lambda::Layer", "must be AWS::Lambda::Function"),
        ('CurrentVersion: "1"', "CurrentVersion: $LATEST", "number of a published version, not '$LATEST'"),
        ('TargetVersion: "2"', 'TargetVersion: "1"', "same current and target version 1"),
        ('        Alias: "live"\n', "", "needs `alias`"),
        ("BeforeAllowTraffic:", "BeforeInstall:", "`BeforeInstall` is no hook of a Lambda deployment"),
        ("  - AfterAllowTraffic:", "  - BeforeAllowTraffic:", "`BeforeAllowTraffic` is named twice"),
        ("Resources:", "Resource:", "needs `resources`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(wrong: str, right: str, expected: str) -> None:
    assert wrong in YAML
    with pytest.raises(AppSpecError, match=r"appspec\.yml:\d+:\d+:") as found:
        parse_lambda(YAML.replace(wrong, right))
    assert expected in str(found.value)


def test_two_resources_of_one_name_are_refused() -> None:
    twice = written(LambdaAppSpec(SPEC.resources * 2))
    with pytest.raises(AppSpecError, match="myLambdaFunction twice"):
        parse_lambda(twice)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(AppSpecError, match="empty"):
        parse_lambda("")
