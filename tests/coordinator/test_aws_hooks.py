"""The rules of Auto Scaling's lifecycle hooks, on a clock that the test moves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.lab.aws.fleets.hooks import ABANDON, CONTINUE, LAUNCHING, TERMINATING, Hooks, Wait

I = "i-0123456789abcdef0"  # noqa: E741


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.hooks = Hooks(lambda: self.now)

    def at(self, now: float) -> None:
        self.now = now
        self.hooks.expire()


@pytest.fixture
def time() -> Time:
    return Time()


def put(hooks: Hooks, name: str = "deploy", transition: str = LAUNCHING, **more: Any) -> None:
    hooks.put({**of(name), "LifecycleTransition": transition, **more})


def of(name: str = "deploy", **more: Any) -> dict[str, Any]:
    return {"AutoScalingGroupName": "web", "LifecycleHookName": name, **more}


def done(result: str = CONTINUE, name: str = "deploy") -> dict[str, Any]:
    return of(name, InstanceId=I, LifecycleActionResult=result)


def stands(wait: Wait) -> str:
    return f"{'over' if wait.over else 'waits'}{', abandoned' if wait.abandoned else ''}"


def refused(text: str) -> Any:
    return pytest.raises(InvalidRequest, match=re.escape(text))


def test_an_instance_goes_on_when_every_hook_of_its_transition_is_completed(time: Time) -> None:
    put(time.hooks)
    put(time.hooks, "warm")
    put(time.hooks, "leave", TERMINATING)
    wait = time.hooks.begin(I, "web", LAUNCHING)
    assert time.hooks.begin("i-other", "admin", LAUNCHING).over, "of another group"
    with refused(f"No active Lifecycle Action found with instance ID {I}"):
        time.hooks.complete(done(name="leave"))
    time.hooks.complete(done(name="warm"))
    assert stands(wait) == "waits"
    time.hooks.complete(done())
    assert stands(wait) == "over"
    for call in (time.hooks.complete, time.hooks.heartbeat):
        with refused(f"No active Lifecycle Action found with instance ID {I}") as told:
            call(done())
        assert told.value.code == "ValidationError"


def test_abandon_stops_what_else_is_waited_for(time: Time) -> None:
    put(time.hooks)
    put(time.hooks, "warm")
    wait = time.hooks.begin(I, "web", LAUNCHING)
    time.hooks.complete(done(ABANDON))
    assert stands(wait) == "over, abandoned"
    with refused("No active Lifecycle Action"):
        time.hooks.complete(done(name="warm"))


@pytest.mark.parametrize(
    ("result", "then"), [(CONTINUE, "over"), (ABANDON, "over, abandoned"), (None, "over, abandoned")]
)
def test_the_default_result_comes_when_no_heartbeat_does(time: Time, result: str | None, then: str) -> None:
    put(time.hooks, HeartbeatTimeout="30", **({"DefaultResult": result} if result else {}))
    wait = time.hooks.begin(I, "web", LAUNCHING)
    for now in range(20, 3000, 20):
        time.at(now)
        time.hooks.heartbeat(done())
    assert stands(wait) == "waits"
    time.at(2999)
    time.hooks.heartbeat(done())
    assert stands(wait) == "waits"
    time.at(3000)
    assert stands(wait) == then, "no heartbeat helps beyond a hundred timeouts"
    wait = time.hooks.begin(I, "web", LAUNCHING)
    time.at(3029.9)
    assert stands(wait) == "waits"
    time.now = 3030
    with refused("No active Lifecycle Action"):
        time.hooks.complete(done())
    assert stands(wait) == then


@pytest.mark.parametrize(("transition", "then"), [(LAUNCHING, "over, abandoned"), (TERMINATING, "over")])
def test_what_waits_for_a_hook_that_is_deleted_is_completed(time: Time, transition: str, then: str) -> None:
    put(time.hooks, transition=transition, DefaultResult=CONTINUE if transition == LAUNCHING else ABANDON)
    put(time.hooks, "other", transition)
    wait = time.hooks.begin(I, "web", transition)
    time.hooks.delete(of())
    assert stands(wait) == ("waits" if transition == TERMINATING else then)
    time.hooks.delete(of("other"))
    assert stands(wait) == then
    with refused("No Lifecycle Hook found"):
        time.hooks.delete(of())
    assert time.hooks.of("web") == []


def test_a_hook_that_is_changed_keeps_what_is_not_said_and_binds_who_comes_later(time: Time) -> None:
    put(time.hooks, HeartbeatTimeout=60, NotificationMetadata="ours")
    before = time.hooks.begin(I, "web", LAUNCHING)
    time.hooks.put(of(HeartbeatTimeout=7200))
    [row] = time.hooks.of("web")
    assert (row["GlobalTimeout"], row["NotificationMetadata"], row["DefaultResult"]) == (172800, "ours", ABANDON)
    after = time.hooks.begin("i-2", "web", LAUNCHING)
    time.at(60)
    assert (stands(before), stands(after)) == ("over, abandoned", "waits")
    time.hooks.forget("web")
    assert (stands(after), time.hooks.of("web")) == ("over", [])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"LifecycleTransition": ""}, "Lifecycle transition must be one of"),
        ({"HeartbeatTimeout": 29}, "between 30 and 7200 seconds: 29"),
        ({"HeartbeatTimeout": 7201}, "between 30 and 7200 seconds: 7201"),
        ({"DefaultResult": "RETRY"}, "DefaultResult"),
        ({"NotificationTargetARN": "arn:aws:sqs:us-east-1:1:hooks"}, "RoleARN"),
    ],
)
def test_a_wrong_hook_is_refused_and_changes_nothing(time: Time, given: dict[str, Any], why: str) -> None:
    put(time.hooks)
    before = list(time.hooks.of("web"))
    with refused(why):
        put(time.hooks, **given)
    assert time.hooks.of("web") == before


def test_an_action_is_found_by_its_token_too_and_takes_no_other_result(time: Time) -> None:
    put(time.hooks)
    wait = time.hooks.begin(I, "web", LAUNCHING)
    [action] = wait.actions
    with refused("No active Lifecycle Action found with token x"):
        time.hooks.complete(of(LifecycleActionToken="x", LifecycleActionResult=CONTINUE))
    with refused("InstanceId or LifecycleActionToken"):
        time.hooks.heartbeat(of())
    with refused("must be one of CONTINUE, ABANDON: YES"):
        time.hooks.complete(done("YES"))
    time.hooks.complete(of(LifecycleActionToken=action.token, LifecycleActionResult=CONTINUE))
    assert stands(wait) == "over"
