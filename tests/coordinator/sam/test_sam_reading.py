"""What templates say: SAM's own form and what CloudFormation makes of it say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.sam.intrinsics import Scope
from shiftwork_coordinator.sam.reading import read
from shiftwork_coordinator.sam.template import load
from shiftwork_coordinator.sam.wanted import Reading, Wanted, settings

SHOP = (Path(__file__).parent / "templates" / "shop.yaml").read_text()
TRANSLATED = (Path(__file__).parent / "templates" / "shop-translated.json").read_text()
PRESET = "CodeDeployDefault.Lambda"
CANARY = "CodeDeployDefault.LambdaCanary10Percent5Minutes"
LINEAR = "CodeDeployDefault.LambdaLinear10PercentEvery1Minute"
CHECK = "CodeDeployHook_prod-check"

ORDERS = Wanted(
    "Orders", "OrdersDeploymentGroup", "prod-orders", "prod", CANARY, CHECK, CHECK,
    ("all-errors", "prod-order-errors", "slow-orders"), code="orders/",
)  # fmt: skip
BILLS = Wanted("Bills", "BillsDeploymentGroup", "prod-bills", "live", LINEAR, alarms=("all-errors",))
MAILS = Wanted("Mails", "MailsDeploymentGroup", "prod-mails", "prod", "OurOwnPace", alarms=("all-errors",))


def reading(text: str, parameters: dict[str, str] | None = None, **more: Any) -> Reading:
    return read(Scope(load(text, "t.yaml"), parameters or {}, **more))


def test_a_whole_template() -> None:
    found = reading(SHOP)
    assert found.wanted == (ORDERS, BILLS, MAILS)
    assert found.problems == ()
    assert found.notes == (
        "Orders.DeploymentPreference.TriggerConfigurations: TriggerTargetArn cannot be told: CloudFormation names Ops:"
        " look it up with --stack-name; nobody is notified by it",
        "Bills: Role is CodeDeploy's and not used: the coordinator acts as itself, or as --role-arn",
        "CheckOrders: its DeploymentPreference is not enabled, so it is left alone",
        "Reports: it is left out, as its condition Reporting is false",
    )


def test_what_cloudformation_makes_of_it_says_the_same() -> None:
    found = reading(TRANSLATED)
    assert found.wanted == (replace(ORDERS, code=""), BILLS, MAILS)
    assert found.problems == ()
    assert any("nobody is notified" in note for note in found.notes)


def test_parameters_choose() -> None:
    found = reading(SHOP, {"Stage": "test", "Hurry": "yes"})
    one = {wanted.logical: wanted for wanted in found.wanted}
    assert one["Orders"].config == "CodeDeployDefault.LambdaAllAtOnce"
    assert one["Orders"].alarms == ("all-errors", "test-order-errors"), "AWS::NoValue leaves the third out"
    assert (one["Reports"].function, one["Reports"].alias) == ("reports", "test")


def test_a_stacks_names_are_the_true_ones() -> None:
    stack = {"Orders": "shop-Orders-1X", "AllErrors": "shop-AllErrors-2Y", "CheckOrders": "shop-Check-3Z"}
    stack |= {"Ops": "arn:aws:sns:eu-west-1:111222333444:ops"}
    orders = reading(SHOP, stack=stack).wanted[0]
    assert orders.triggers == ({"name": "failures", "sns": stack["Ops"], "events": ["DeploymentFailure"]},)
    assert (orders.function, orders.before, orders.alarms[0]) == (
        "shop-Orders-1X",
        "shop-Check-3Z",
        "shop-AllErrors-2Y",
    )


UNTOLD = "Conditions: {C: !Equals [!Ref X, 1]}"
INTRINSICS = """
Parameters: {P: {Type: String, Default: p}, L: {Type: CommaDelimitedList, Default: 'x, y'}}
Mappings: {M: {p: {k: v}}}
Conditions:
  Yes: !Equals [true, 'true']
  No: !Not [!Condition Yes]
  Both: !And [!Condition Yes, !Condition No]
  Either: !Or [!Condition Yes, !Condition No]
"""
GLOBALS = """
Globals:
  Function:
    DeploymentPreference: {Type: AllAtOnce, Alarms: [a], Hooks: {PreTraffic: g, PostTraffic: p}}
"""


def function(preference: str, more: str = "", head: str = "") -> str:
    return (
        f"{head}\nResources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      FunctionName: f\n"
        f"      AutoPublishAlias: live\n      {more}\n      DeploymentPreference: {preference}\n"
    )


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("AllAtOnce", "CodeDeployDefault.LambdaAllAtOnce"),
        *((f"Canary10Percent{m}Minutes", f"{PRESET}Canary10Percent{m}Minutes") for m in (5, 10, 15, 30)),
        ("Linear10PercentEvery1Minute", LINEAR),
        *((f"Linear10PercentEvery{m}Minutes", f"{PRESET}Linear10PercentEvery{m}Minutes") for m in (2, 3, 10)),
        ("Mine", "Mine"),
        ("CodeDeployDefault.LambdaAllAtOnce", "CodeDeployDefault.LambdaAllAtOnce"),
    ],
)  # fmt: skip
def test_every_type_has_its_config(kind: str, config: str) -> None:
    assert reading(function(f"{{Type: {kind}}}")).wanted[0].config == config


@pytest.mark.parametrize(
    ("word", "deployed"),
    [
        ("true", True),
        ("'True'", True),
        ("false", False),
        ("yes", True),
        ("no", False),
        ("'false'", False),
        ("!Ref On", True),
    ],
)
def test_enabled_may_be_written_in_many_ways(word: str, deployed: bool) -> None:
    head = "Parameters: {On: {Type: String, Default: 'True'}}"
    assert bool(reading(function(f"{{Type: AllAtOnce, Enabled: {word}}}", head=head)).wanted) is deployed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (function("{Alarms: [a]}"), "a Type in it"),
        (function("{Type: AllAtOnce}", "AutoPublishAlias: ''"), "needs AutoPublishAlias"),
        (function("{Type: !Ref Missing}"), "there is no parameter or resource Missing"),
        (function("{Type: !Ref P}", head="Parameters: {P: {Type: String}}"), "--parameter-overrides P=…"),
        (function("{Type: AllAtOnce}", "FunctionName: !ImportValue x"), "Fn::ImportValue cannot be resolved"),
        (function("{Type: AllAtOnce, Alarms: a}"), "Alarms must be a list"),
        (function("{Type: AllAtOnce, Alarms: [{a: b}]}"), "Alarms must be a string"),
        (function("{Type: AllAtOnce, Hooks: {PreTraffic: !Ref H}}"), "no parameter or resource H"),
        (function("{Type: !FindInMap [M, a, b]}"), "nothing at M/a/b"),
        (function("{Type: !Ref AWS::Region}"), "give --region or --stack-name"),
        (function("{Type: AllAtOnce}", head=UNTOLD) + "    Condition: C\n", "whether it is there cannot be told"),
        (SHOP.replace('FunctionName: !Sub "${Stage}-orders"', "Timeout: 3"), "or give it the property FunctionName"),
        ("Resources: {Fn::ForEach::X: [a, [b], {}]}", "is not expanded here"),
        ("Resources: {T: {Type: AWS::SNS::Topic}}", "no function in it has a DeploymentPreference"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_named_with_its_place(text: str, problem: str) -> None:
    found = reading(text)
    assert len(found.problems) == 1, found.problems
    assert problem in found.problems[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Resources: [a", "t.yaml:"),
        ("a: b", "has no Resources"),
        ("- a", "has no Resources"),
        ("Resources: &a {x: *b}", "t.yaml:1:"),
        ("Resources: !!python/object:os.system {}", "cannot read the template"),
    ],
)
def test_what_is_no_template(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        load(text, "t.yaml")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("!Sub 'a-${P}-${!Q}'", "a-p-${Q}"),
        ("!Sub ['${X}${P}', {X: !Ref P}]", "pp"),
        ("!Join ['/', [a, !Ref P, 3]]", "a/p/3"),
        ("!Select [1, !Split [',', 'a,b']]", "b"),
        ("!Select ['0', !Ref L]", "x"),
        ("!If [Yes, a, b]", "a"),
        ("!If [Both, a, b]", "b"),
        ("!If [Either, a, b]", "a"),
        ("!FindInMap [M, !Ref P, k]", "v"),
        ("!FindInMap [M, none, k, {DefaultValue: d}]", "d"),
        ("{Fn::Sub: '${AWS::StackName}'}", "shop"),
        ("!Sub '${AWS::AccountId}-true'", "123-true"),
        ("!Select [5, !Split [':', !GetAtt F.Arn]]", "function"),
    ],
)
def test_intrinsics(expression: str, value: str) -> None:
    pseudo = {"AWS::StackName": "shop", "AWS::Region": "eu-west-1", "AWS::AccountId": "123"}
    found = reading(function(f"{{Type: {expression}}}", head=INTRINSICS), pseudo=pseudo)
    assert found.problems == ()
    assert found.wanted[0].config == value


UNNAMED = """
Parameters: {Careful: {Type: String, Default: True}, Off: {Type: String, Default: False}}
Conditions: {WithCare: !Equals [!Ref Careful, true]}
Resources:
  TrueOrders:
    Type: AWS::Serverless::Function
    Condition: WithCare
    Properties:
      CodeUri: s3://bucket/orders.zip
      AutoPublishAlias: live
      DeploymentPreference:
        Type: !If [WithCare, Canary10Percent5Minutes, AllAtOnce]
        PassthroughCondition: True
        Hooks: {PreTraffic: !Ref falseFriends, PostTraffic: {"Fn::GetAtt": [NotFalse, Arn]}}
        Alarms: {"Fn::If": [WithCare, [!Ref Errors, slow], [slow]]}
  falseFriends:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: CodeDeployHook_friends, DeploymentPreference: {Enabled: !Ref Off}}
  NotFalse: {Type: AWS::Serverless::Function, Properties: {DeploymentPreference: {Enabled: False}}}
  Errors: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: !ImportValue ErrorsName}}
"""
"""In the manner of public samples: no function has a name, words begin like booleans, conditions choose values."""


def test_what_can_be_told_without_a_stack_is_told_and_all_that_cannot_is_named() -> None:
    found = reading(UNNAMED)
    (one,) = found.wanted
    assert (one.logical, one.function, one.alias, one.config) == ("TrueOrders", "", "live", CANARY)
    assert (one.before, one.after, one.alarms) == ("CodeDeployHook_friends", "", ())
    assert found.problems == one.untold
    for problem, named in zip(found.problems, ("FunctionName", "PostTraffic", "Alarms"), strict=True):
        assert named in problem
    assert "CloudFormation names TrueOrders: look it up with --stack-name" in found.problems[0]


def test_a_stack_tells_the_rest() -> None:
    stack = {name: f"shop-{name}-1A" for name in ("TrueOrders", "falseFriends", "NotFalse", "Errors")}
    pseudo = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123"}
    found = reading(UNNAMED, stack=stack, pseudo=pseudo)
    (one,) = found.wanted
    assert found.problems == ()
    assert (one.function, one.before) == ("shop-TrueOrders-1A", "shop-falseFriends-1A")
    assert one.after == "arn:aws:lambda:eu-west-1:123:function:shop-NotFalse-1A"
    assert one.alarms == ("shop-Errors-1A", "slow")


@pytest.mark.parametrize("word", ["true", "TRUE", "False"])
def test_only_the_whole_word_is_a_boolean(word: str) -> None:
    found = load(f"Resources: {{A: {word}, B: {word}Thing, C: '{word}', D: !Ref {word}Thing}}", "t.yaml")["Resources"]
    assert found == {"A": word != "False", "B": f"{word}Thing", "C": word, "D": {"Ref": f"{word}Thing"}}


def test_globals_join_maps_and_lists() -> None:
    found = reading(function("{Alarms: [b, a], Hooks: {PreTraffic: own}}", head=GLOBALS)).wanted[0]
    assert (found.alarms, found.before, found.after) == (("a", "b"), "own", "p")


CFN = """
Resources:
  F: {Type: AWS::Lambda::Function, Properties: {FunctionName: f, Code: build/f.zip}}
  G:
    Type: AWS::CodeDeploy::DeploymentGroup
    Properties:
      AutoRollbackConfiguration: {Enabled: true, Events: [DEPLOYMENT_FAILURE]}
      AlarmConfiguration: {Enabled: false, Alarms: [{Name: a}], IgnorePollAlarmFailure: true}
  A:
    Type: AWS::Lambda::Alias
    UpdatePolicy: {CodeDeployLambdaAliasUpdate: {ApplicationName: x, DeploymentGroupName: !Ref G}}
    Properties: {FunctionName: !Ref F, Name: live}
  Other: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref F, Name: plain}}
"""


def test_a_group_of_ones_own_says_what_it_rolls_back() -> None:
    (found,) = reading(CFN).wanted
    assert found == Wanted(
        "F", "G", "f", "live", "CodeDeployDefault.LambdaAllAtOnce", ignore_unreadable=True, rollback=("failure",),
        code="build/f.zip",
    )  # fmt: skip
    (problem,) = reading(CFN.replace("!Ref G", "elsewhere")).problems
    assert "its deployment group elsewhere is not in the template" in problem


def test_the_settings_that_say_it() -> None:
    found = settings([ORDERS, replace(BILLS, alarms=())], "shop", region="eu-west-1", role="arn", answer="call")
    at = {"region": "eu-west-1", "role_arn": "arn"}
    assert found["groups"]["OrdersDeploymentGroup"] == {
        "platform": "Lambda",
        "config": CANARY,
        "aws": at,
        "hooks": {"before_allow_traffic": CHECK, "after_allow_traffic": CHECK, "answer": "call"},
        "alarms": {"cloudwatch": list(ORDERS.alarms), "ignore_unreadable": False, **at},
        "rollback": ["failure", "alarm", "stop"],
    }
    assert found["groups"]["BillsDeploymentGroup"]["rollback"] == ["failure", "stop"], "no alarms, none to roll back on"
