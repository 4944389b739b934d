"""The Lambda driver against a real API over HTTP. moto checks no RevisionId and runs no code: those are stubbed."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import boto3
import pytest

from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator import functions
from shiftwork_coordinator.model.settings import FunctionHooks, GroupSettings
from shiftwork_coordinator.ports import HookAnswer
from shiftwork_coordinator.shifters import lambda_
from shiftwork_coordinator.shifters.hook_functions import _answer
from shiftwork_coordinator.shifters.lambda_ import LambdaAliases

ONE = FunctionShift("orders", "orders", "live", "1", "2")
SETTINGS = GroupSettings(platform="Lambda")


def code(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("handler.py", text)
    return out.getvalue()


@pytest.fixture
def orders(aws: Any) -> Any:
    """A function with versions 1 and 2, and the alias live at 1."""
    trust = "{}"
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    client = boto3.client("lambda")
    client.create_function(
        FunctionName="orders", Runtime="python3.11", Role=role, Handler="handler.main", Code={"ZipFile": code("1")}
    )
    client.publish_version(FunctionName="orders")
    client.update_function_code(FunctionName="orders", ZipFile=code("2"), Publish=True)
    client.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    return client


def alias(client: Any) -> tuple[str, dict[str, float]]:
    found = client.get_alias(FunctionName="orders", Name="live")
    return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}


async def test_weights_are_set_and_read_back(orders: Any) -> None:
    driver = LambdaAliases(SETTINGS)
    for weight, expected in ((0.1, ("1", {"2": 0.1})), (0.5, ("1", {"2": 0.5})), (1.0, ("2", {})), (0.0, ("1", {}))):
        await driver.set_weight(ONE, weight)
        assert alias(orders) == expected
        assert (await driver.readings([ONE]))["orders"].weight == weight


async def test_what_is_as_wanted_is_not_written_again(orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = LambdaAliases(SETTINGS)
    await driver.set_weight(ONE, 0.5)
    calls = watched(monkeypatch)
    await driver.set_weight(ONE, 0.5)
    assert calls == ["get_alias"]


async def test_routes_left_by_an_interrupted_run_are_named_and_replaced(orders: Any) -> None:
    left = {"AdditionalVersionWeights": {"7": 0.3}}
    orders.update_alias(FunctionName="orders", Name="live", RoutingConfig=left)
    driver = LambdaAliases(SETTINGS)
    (problem,) = await driver.check([ONE])
    assert not problem.fatal
    assert "version 7 (30%)" in problem.message
    assert (await driver.readings([ONE]))["orders"].weight is None
    await driver.set_weight(ONE, 0.1)
    assert alias(orders) == ("1", {"2": 0.1})


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (FunctionShift("x", "missing", "live", "1", "2"), "missing"),
        (FunctionShift("x", "orders", "typo", "1", "2"), "typo"),
        (FunctionShift("x", "orders", "live", "2", "1"), "at version 1, not at 2"),
        (FunctionShift("x", "orders", "live", "1", "9"), "9"),
    ],
)
async def test_what_cannot_be_deployed_is_named_before_anything_is_touched(
    orders: Any, one: FunctionShift, expected: str
) -> None:
    problems = await LambdaAliases(SETTINGS).check([one])
    assert [p.fatal for p in problems] == [True]
    assert expected in problems[0].message
    assert alias(orders) == ("1", {})


async def test_an_alias_that_somebody_moved_is_fatal_and_left_alone(orders: Any) -> None:
    orders.update_function_code(FunctionName="orders", ZipFile=code("3"), Publish=True)
    orders.update_alias(FunctionName="orders", Name="live", FunctionVersion="3")
    driver = LambdaAliases(SETTINGS)
    reading = (await driver.readings([ONE]))["orders"]
    assert reading.fatal
    assert "somebody else has moved it" in reading.detail
    with pytest.raises(InvalidRequest, match="somebody else has moved it"):
        await driver.set_weight(ONE, 0.1)
    assert alias(orders) == ("3", {})


async def test_two_writers_cannot_overwrite_each_other(orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refusing(service: str, operation: str, *args: Any, **parameters: Any) -> Any:
        if operation == "get_alias":
            return {"FunctionVersion": "1", "RevisionId": "seen"}
        assert parameters["RevisionId"] == "seen"
        raise InvalidRequest("it changed", code="PreconditionFailedException")

    monkeypatch.setattr(lambda_, "call", refusing)
    with pytest.raises(Unavailable, match="at this moment"):
        await LambdaAliases(SETTINGS).set_weight(ONE, 0.1)


@pytest.mark.parametrize(
    ("configuration", "provisioned", "ready", "fatal"),
    [
        ({"State": "Active"}, {"Status": "READY"}, True, False),
        ({"State": "Pending"}, {}, False, False),
        ({"State": "Failed", "StateReason": "no image"}, {}, False, True),
        ({"State": "Active", "LastUpdateStatus": "InProgress"}, {}, False, False),
        ({"State": "Active"}, {"Status": "IN_PROGRESS"}, False, False),
        ({"State": "Active"}, {"Status": "FAILED", "StatusReason": "no capacity"}, False, True),
    ],
)
async def test_a_version_takes_traffic_when_it_is_active_and_provisioned(
    monkeypatch: pytest.MonkeyPatch, configuration: Any, provisioned: Any, ready: bool, fatal: bool
) -> None:
    answers = {
        "get_alias": {"FunctionVersion": "1"},
        "get_function_configuration": configuration,
        "get_provisioned_concurrency_config": provisioned,
    }

    async def answering(service: str, operation: str, *args: Any, **parameters: Any) -> Any:
        return answers[operation]

    monkeypatch.setattr(lambda_, "call", answering)
    reading = (await LambdaAliases(SETTINGS).readings([ONE]))["orders"]
    assert (reading.ready, reading.fatal) == (ready, fatal)


@pytest.mark.parametrize(
    ("text", "error", "expected"),
    [
        (b'{"status": "Succeeded"}', "", HookAnswer("Succeeded")),
        (b'"Succeeded"', "", HookAnswer("Succeeded")),
        (b'{"status": "Failed", "message": "bad"}', "", HookAnswer("Failed", "bad")),
        (
            b'{"errorMessage": "boom"}',
            "Unhandled",
            HookAnswer("Failed", "the function raised boom"),
        ),
        (
            b'{"errorType": "KeyError", "errorMessage": "no x", "stackTrace": ["line 7"]}',
            "Unhandled",
            HookAnswer("Failed", "the function raised KeyError: no x"),
        ),
        (b"[1", "Unhandled", HookAnswer("Failed", "the function raised [1")),
    ],
)
def test_answers(text: bytes, error: str, expected: HookAnswer) -> None:
    assert _answer(text, error) == expected


@pytest.mark.parametrize("text", [b"null", b"", b'{"status": "ok"}', b"\xff"])
def test_an_answer_that_says_nothing_is_a_failure_that_says_what_to_return(text: bytes) -> None:
    answer = _answer(text, "")
    assert answer.status == "Failed"
    assert "it must return" in answer.message


async def test_the_short_form_finds_where_the_alias_is(orders: Any) -> None:
    short = functions.FunctionWanted("orders", "live", "2")
    settings = GroupSettings(platform="Lambda", hooks=FunctionHooks(before_allow_traffic="check"))
    spec = await functions.wanted("", short, settings)
    assert (spec.resources[0].current, spec.resources[0].target) == ("1", "2")
    assert spec.hooks == {"BeforeAllowTraffic": "check"}
    with pytest.raises(InvalidRequest, match="at version 1 already"):
        await functions.wanted("", functions.FunctionWanted("orders", "live", "1"), settings)


async def test_code_becomes_a_new_version(orders: Any) -> None:
    assert await functions.publish("orders", code("3"), SETTINGS) == "3"


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = lambda_.call

    async def noting(service: str, operation: str, *args: Any, **parameters: Any) -> Any:
        calls.append(operation)
        return await real(service, operation, *args, **parameters)

    monkeypatch.setattr(lambda_, "call", noting)
    return calls
