"""AppSpec files of the Lambda platform, as they are found in the wild."""

from __future__ import annotations

import pytest

from shiftwork_contract.appspec_lambda import FunctionShift, LambdaAppSpec, parse_lambda
from shiftwork_contract.errors import AppSpecError
from shiftwork_contract.resource import reversed_resource, revision_of

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


def test_json_may_be_indented_with_tabs_and_have_no_hooks() -> None:
    text = JSON.replace("{", "{\n\t").replace("}", "\n\t}")
    assert parse_lambda(text) == parse_lambda(JSON)
    assert parse_lambda(YAML.partition("Hooks:")[0] + "Hooks:\n").hooks == {}


def test_equal_appspecs_are_equal_revisions() -> None:
    assert revision_of(parse_lambda(YAML).resources) == revision_of(parse_lambda(JSON).resources)


def test_reversed_goes_back() -> None:
    back = reversed_resource(SPEC.resources[0], "t")
    assert (back.current, back.target) == ("2", "1")


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("version: 0.0", "version: 1.0", "2:10: `version` must be 0.0"),
        ("AWS::Lambda::Function", "AWS::Lambda::Layer", "must be AWS::Lambda::Function"),
        ('CurrentVersion: "1"', "CurrentVersion: $LATEST", "number of a published version, not '$LATEST'"),
        ('TargetVersion: "2"', 'TargetVersion: "1"', "same current and target version 1"),
        ('        Alias: "live"\n', "", "needs `alias`"),
        ("BeforeAllowTraffic:", "BeforeInstall:", "`BeforeInstall` is no hook here"),
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
    first = YAML.index("  - myLambdaFunction"), YAML.index("Hooks:")
    with pytest.raises(AppSpecError, match="myLambdaFunction twice"):
        parse_lambda(YAML.replace("Hooks:", YAML[first[0] : first[1]] + "Hooks:"))


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(AppSpecError, match="empty"):
        parse_lambda("")
