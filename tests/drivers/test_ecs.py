"""The ECS driver: the same assertions for moto over HTTP and a stricter twin; what moto lacks, on the twin alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.drivers.ecs_account import BLUE, DEFINITION, GREEN, MAIN, RULE, TEST, Account, Site, in_moto, twin

from shiftwork_contract.appspec_ecs import Capacity, Network, Pair
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import Aws, Ecs, GroupSettings, Originals
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.ecs import EcsTaskSets
from shiftwork_coordinator.shifters.task_sets import NOTE, new_task_set, standing, unsteady

A = Arrangement
REAL = asking.of
AT_FIRST = {"primary": ["1"], "others": [], "green": [0, 0], "suspended": 0, "noted": False}
AT_THE_END = {"primary": ["2"], "others": [], "green": [100, 100], "suspended": 0, "noted": False}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    found = twin(Account())
    monkeypatch.setattr(asking, "of", lambda at: found.ask)
    return found


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """The twin alone; `account.site` is how it is asked."""
    found = Account()
    found.site = twin(found)  # type: ignore[attr-defined]
    monkeypatch.setattr(asking, "of", lambda at: found.site.ask)  # type: ignore[attr-defined]
    return found


def driver(**settings: Any) -> EcsTaskSets:
    return EcsTaskSets(GroupSettings(platform="ECS", ecs=Ecs("c", "s"), **settings))


async def reading(made: EcsTaskSets, one: Any) -> Any:
    return (await made.readings([one]))[one.name]


async def whole(made: EcsTaskSets, one: Any) -> None:
    """All that the engine asks for, each seen to be in force."""
    for wanted in (A.PROVISIONED, A.TESTED, 0.1, 1.0, A.PROMOTED, A.RETIRED):
        if isinstance(wanted, float):
            await made.set_weight(one, wanted)
            assert (await reading(made, one)).weight == wanted
        else:
            await made.arrange(one, wanted)
            assert wanted in (await reading(made, one)).holds, wanted


async def test_a_whole_deployment_and_its_calls(site: Site) -> None:
    await whole(driver(), site.shift())
    assert await site.stands() == AT_THE_END
    assert site.changes == [
        "modify_listener",  # the idle target group comes behind the listener, with weight 0
        "create_task_set",
        "tag_resource",
        "register_scalable_target",
        "modify_listener",  # test
        "modify_listener",  # 10 %
        "modify_listener",  # 100 %
        "update_service_primary_task_set",
        "register_scalable_target",
        "untag_resource",
        "delete_task_set",
    ]


async def test_what_is_as_wanted_is_not_written_again(site: Site) -> None:
    made, one = driver(), site.shift()
    await made.arrange(one, A.PROVISIONED)
    await made.arrange(one, A.TESTED)
    await made.set_weight(one, 0.1)
    before = list(site.changes)
    await made.arrange(one, A.PROVISIONED)
    await made.arrange(one, A.TESTED)
    await made.set_weight(one, 0.1)
    assert site.changes == before


@pytest.mark.parametrize("far", range(6))
async def test_it_can_be_abandoned_from_anywhere(site: Site, far: int) -> None:
    made, one = driver(), site.shift()
    for wanted in (A.PROVISIONED, A.TESTED, 0.1, 1.0, A.PROMOTED)[:far]:
        await (made.set_weight(one, wanted) if isinstance(wanted, float) else made.arrange(one, wanted))
    if far > 2:
        await made.set_weight(one, 0.0)
    await made.arrange(one, A.ABANDONED)
    found = await reading(made, one)
    assert A.ABANDONED in found.holds
    assert (found.weight, found.fatal) == (0.0, False)
    assert await site.stands() == AT_FIRST


async def test_the_next_one_takes_the_other_target_group_and_a_rollback_goes_back(site: Site) -> None:
    await whole(driver(), site.shift())
    await and_back(site)


async def and_back(site: Site) -> None:
    back = replace(site.shift(token="d-2.c:s"), current=site.definitions[1], target=site.definitions[0])
    assert (await reading(driver(), back)).weight == 0.0
    await whole(driver(), back)
    assert await site.stands() == AT_FIRST


async def test_nothing_is_wrong_at_first(site: Site) -> None:
    (original,) = [s["taskSetArn"] for s in await task_sets(site)]
    assert list(await driver().check([site.shift(original)], gradual=True)) == []


async def task_sets(site: Site) -> Any:
    told = await site.real("ecs", "describe_services", cluster="c", services=["s"], include=["TAGS"])
    return told["services"][0]["taskSets"]


WRONG = [
    ({"cluster": "typo"}, "INVALID_ECS_SERVICE", "there is no cluster typo"),
    ({"service": "typo"}, "INVALID_ECS_SERVICE", "it is not there"),
    ({"target": "web:9"}, "INVALID_REVISION", "cannot deploy task definition web:9: there is none"),
    ({"container": "typo"}, "INVALID_REVISION", "has no container 'typo', it has app"),
    ({"port": 81}, "INVALID_REVISION", "has no port 81, it has 80"),
]


@pytest.mark.parametrize(("change", "code", "expected"), WRONG)
async def test_what_cannot_be_deployed_is_named_before_anything_is_touched(
    site: Site, change: Any, code: str, expected: str
) -> None:
    (problem,) = await driver().check([replace(site.shift(), **change)])
    assert (problem.fatal, problem.code) == (True, code)
    assert expected in problem.message
    assert site.changes == []


async def test_a_listener_elsewhere_is_refused(site: Site) -> None:
    blue, green = site.pair.target_groups
    for listener in (site.pair.listener, site.pair.test_listener):
        groups = [{"TargetGroupArn": blue, "Weight": 9}, {"TargetGroupArn": green, "Weight": 1}]
        actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]
        await site.real("elbv2", "modify_listener", ListenerArn=listener, DefaultActions=actions)
    problems = await driver().check([site.shift()])
    assert [p.code for p in problems] == ["ELASTIC_LOAD_BALANCING_INVALID"] * 2
    assert "must send everything to blue, where the primary task set is" in problems[0].message
    assert "Set it back" in problems[0].message


async def test_moto_over_http_says_the_same(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site = in_moto(REAL(Aws()))
    monkeypatch.setattr(asking, "of", lambda at: site.ask)
    await test_nothing_is_wrong_at_first(site)
    for wrong in WRONG:
        await test_what_cannot_be_deployed_is_named_before_anything_is_touched(site, *wrong)
    await test_a_whole_deployment_and_its_calls(site)
    await and_back(site)
    await test_it_can_be_abandoned_from_anywhere(site, 5)
    await test_a_listener_elsewhere_is_refused(site)


# What moto does not do


@pytest.mark.parametrize("controller", ["CODE_DEPLOY", "ECS"])
async def test_other_controllers_are_refused_with_the_reason(account: Any, controller: str) -> None:
    account.controller = controller
    (problem,) = await driver().check([account.site.shift()])
    assert problem.code == "INVALID_ECS_SERVICE"
    assert f"its deployment controller is {controller}, and AWS offers" in problem.message
    assert "shiftwork ecs init c/s" in problem.message


async def test_a_task_set_without_a_primary_two_primaries_and_no_tasks(account: Any) -> None:
    account.desired = 0
    (problem,) = await driver().check([account.site.shift()])
    assert (problem.fatal, "desired count is 0" in problem.message) == (False, True)
    account.sets.append({**account.sets[0], "taskSetArn": "arn:other", "externalId": "other"})
    assert "it has 2 primary task sets" in (await driver().check([account.site.shift()]))[0].message
    account.sets = []
    assert "it has no primary task set" in (await driver().check([account.site.shift()]))[0].message


async def test_a_task_set_that_is_still_in_the_idle_group_is_named_with_how_to_delete_it(account: Any) -> None:
    account.sets.append(account._set("d-0.c:s", DEFINITION.format(1), [account._entry(GREEN)]))
    (problem,) = await driver().check([account.site.shift()])
    assert "still in the target group green" in problem.message
    assert "aws ecs delete-task-set --force --cluster c --service s" in problem.message
    found = await reading(driver(), account.site.shift())
    assert (found.fatal, "still in the target group" in found.detail) == (True, True)
    with pytest.raises(InvalidRequest, match="still in the target group green"):
        await driver().arrange(account.site.shift(), A.PROVISIONED)


async def test_a_pair_that_the_primary_is_not_in_is_refused(account: Any) -> None:
    wrong = replace(account.site.shift(), pairs=(Pair(("arn:x:targetgroup/a/1", "arn:x:targetgroup/b/2"), MAIN),))
    (problem,) = await driver().check([wrong])
    assert "must be in exactly one of a and b" in problem.message
    assert (await reading(driver(), wrong)).fatal


async def test_steadiness_takes_its_time_and_health_comes_last(account: Any) -> None:
    account.steady_after, one, made = 2, account.site.shift(), driver()
    account.unhealthy = {GREEN}
    await made.arrange(one, A.PROVISIONED)
    details = [(await reading(made, one)).detail for _ in range(3)]
    assert details == ["0 of 2 tasks run, 0 are starting: STABILIZING"] * 2 + [
        "0 of 2 targets in green are healthy (Target.FailedHealthChecks)"
    ]
    account.unhealthy = set()
    assert A.PROVISIONED in (await reading(made, one)).holds


async def test_tasks_that_stop_again_and_again_end_it_early_with_their_reasons(account: Any) -> None:
    one, made = account.site.shift(), driver()
    account.crashes = 2
    await made.arrange(one, A.PROVISIONED)
    found = await reading(made, one)
    assert not found.fatal
    assert "stopped so far: Essential container exited (app: exit code 1) (×2)" in found.detail
    account.crashes = 3
    found = await reading(made, one)
    assert found.fatal
    assert found.detail == (
        "3 of its tasks stopped by themselves (the limit is 3): Essential container exited (app: exit code 1) (×3)"
    )


async def test_how_many_may_stop_is_a_setting(account: Any) -> None:
    account.crashes, made = 3, EcsTaskSets(GroupSettings(platform="ECS", ecs=Ecs("c", "s", most_failed_tasks=4)))
    await made.arrange(account.site.shift(), A.PROVISIONED)
    assert not (await reading(made, account.site.shift())).fatal


@pytest.mark.parametrize("before", [("DynamicScalingInSuspended",), ()])
async def test_scaling_is_restored_as_it_was_also_by_the_next_deployment(
    monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...]
) -> None:
    account = Account(scaling=before)
    site = twin(account)
    monkeypatch.setattr(asking, "of", lambda at: site.ask)
    await driver().arrange(site.shift(), A.PROVISIONED)
    assert sum(account.scaling.values()) == 3
    account.sets.pop()  # the deployment is gone without a word, and so is its task set
    account.scaling = account.scaling | {"DynamicScalingOutSuspended": False}  # somebody helps a little
    (warning,) = await driver().check([site.shift(token="d-2.c:s")])
    assert (warning.fatal, "left its scaling suspended" in warning.message) == (False, True)
    await driver().arrange(site.shift(token="d-2.c:s"), A.PROVISIONED)
    await driver().arrange(site.shift(token="d-2.c:s"), A.ABANDONED)
    assert [key for key, value in account.scaling.items() if value] == list(before)
    assert NOTE not in account.tags


async def test_a_service_that_does_not_scale_or_is_suspended_already_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
    for scaling in (None, every):
        site = twin(Account(scaling=scaling))
        monkeypatch.setattr(asking, "of", lambda at, site=site: site.ask)
        await whole(driver(), site.shift())
        assert {"tag_resource", "register_scalable_target", "untag_resource"}.isdisjoint(site.changes)


async def test_it_is_not_over_while_scaling_is_suspended(account: Any) -> None:
    await whole(driver(), account.site.shift())
    account.tags[NOTE] = "none"
    assert A.RETIRED not in (await reading(driver(), account.site.shift())).holds
    account.tags.clear()
    assert A.RETIRED in (await reading(driver(), account.site.shift())).holds


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"runningCount": 1}, "1 of 2 tasks run, 0 are starting: STEADY_STATE"),
        ({"pendingCount": 1}, "2 of 2 tasks run, 1 are starting: STEADY_STATE"),
        ({"stabilityStatus": "STABILIZING"}, "2 of 2 tasks run, 0 are starting: STABILIZING"),
        ({"runningCount": None, "stabilityStatus": "STABILIZING"}, "STABILIZING"),
        ({}, ""),
    ],
)
def test_steady_is_what_runs_what_starts_and_what_ecs_says(change: Any, why: str) -> None:
    account = Account()
    account.sets.append(account._set("d-1.c:s", DEFINITION.format(2), [account._entry(GREEN)]))
    told = account.describe_services("c", ["s"], [])
    told["services"][0]["taskSets"][1] |= change
    assert unsteady(standing(twin(account).shift(), told)) == why


async def test_originals_may_be_kept(account: Any) -> None:
    one, made = account.site.shift(), driver(originals=Originals(then="keep"))
    await whole(made, one)
    assert (await account.site.stands())["others"] == ["1"]
    assert NOTE not in account.tags


async def test_nothing_is_deleted_while_a_listener_sends_to_it(account: Any) -> None:
    one, made = account.site.shift(), driver()
    for wanted in (A.PROVISIONED, A.TESTED, A.PROMOTED):
        await made.arrange(one, wanted)
    with pytest.raises(Unavailable, match="sends to them"):
        await made.arrange(one, A.RETIRED)
    assert "delete_task_set" not in account.site.changes


async def test_a_network_load_balancer_moves_all_at_once_by_its_test_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(network=True)
    site = twin(account)
    monkeypatch.setattr(asking, "of", lambda at: site.ask)
    (problem,) = await driver().check([site.shift()], gradual=True)
    assert "moves all at once" in problem.message
    assert list(await driver().check([site.shift()])) == []
    one, made = site.shift(), driver()
    for wanted in (A.PROVISIONED, A.TESTED):
        await made.arrange(one, wanted)
    with pytest.raises(InvalidRequest, match="move all at once"):
        await made.set_weight(one, 0.1)
    await made.set_weight(one, 1.0)
    for wanted in (A.PROMOTED, A.RETIRED):
        await made.arrange(one, wanted)
    assert await site.stands() == AT_THE_END
    site = twin(Account(network=True, with_test=False))
    assert "needs a test listener" in (await driver().check([site.shift()]))[0].message


async def test_a_rule_keeps_its_stickiness_and_what_stands_before_the_forward(account: Any) -> None:
    sticky = {"Enabled": True, "DurationSeconds": 60}
    oidc = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {"ClientId": "x"}}
    forward = {"Type": "forward", "Order": 2, "ForwardConfig": {
        "TargetGroups": [{"TargetGroupArn": BLUE}], "TargetGroupStickinessConfig": sticky}}  # fmt: skip
    account.rules[RULE] = [oidc, forward]
    one = replace(account.site.shift(), pairs=(replace(account.pair, rule=RULE),))
    for wanted in (A.PROVISIONED, A.TESTED):
        await driver().arrange(one, wanted)
    await driver().set_weight(one, 0.25)
    first, second = account.rules[RULE]
    assert first["AuthenticateOidcConfig"] == {"ClientId": "x", "UseExistingClientSecret": True}
    assert second["ForwardConfig"]["TargetGroupStickinessConfig"] == sticky
    weights = [(g["TargetGroupArn"], g["Weight"]) for g in second["ForwardConfig"]["TargetGroups"]]
    assert weights == [(BLUE, 75), (GREEN, 25)]
    assert account.listeners[MAIN][1] == [{"Type": "forward", "TargetGroupArn": BLUE}], (
        "the listener itself is not ours"
    )


async def test_load_balancers_that_disagree_have_no_weight(account: Any) -> None:
    third, fourth, other = "arn:x:targetgroup/c/3", "arn:x:targetgroup/d/4", "arn:x:listener/b"
    account.listeners[other] = ("HTTP", [{"Type": "forward", "TargetGroupArn": third}])
    account.sets[0]["loadBalancers"].append({"targetGroupArn": third, "containerName": "side", "containerPort": 9090})
    one = replace(account.site.shift(), pairs=(account.pair, Pair((third, fourth), other)))
    made = driver()
    for wanted in (A.PROVISIONED, A.TESTED):
        await made.arrange(one, wanted)
    assert account.sets[1]["loadBalancers"] == [
        {"targetGroupArn": GREEN, "containerName": "app", "containerPort": 80},
        {"targetGroupArn": fourth, "containerName": "side", "containerPort": 9090},
    ]
    await made.set_weight(one, 0.5)
    assert (await reading(made, one)).weight == 0.5
    account.modify_listener(other, [{"Type": "forward", "TargetGroupArn": third}])
    found = await reading(made, one)
    assert found.weight is None
    assert "load balancers disagree" in found.detail
    await made.set_weight(one, 0.5)
    assert (await reading(made, one)).weight == 0.5


async def test_somebody_else_s_changes_are_fatal_and_are_not_overwritten(account: Any) -> None:
    one = account.site.shift(account.sets[0]["taskSetArn"])
    account.sets.append(account._set("theirs", DEFINITION.format(2), [account._entry(GREEN)]))
    account.update_service_primary_task_set("c", "s", account.sets[1]["taskSetArn"])
    found = await reading(driver(), one)
    assert found.fatal
    assert "somebody else has made" in found.detail
    with pytest.raises(InvalidRequest, match="somebody else has changed its task sets"):
        await driver().arrange(one, A.PROVISIONED)


async def test_a_right_that_is_missing_is_told(account: Any) -> None:
    account.denied = {"describe_services"}
    found = await reading(driver(), account.site.shift())
    assert (found.fatal, found.weight) == (True, None)
    assert "not allowed" in found.detail


async def test_one_look_costs_few_calls(account: Any) -> None:
    await driver().arrange(account.site.shift(), A.PROVISIONED)
    account.site.reads = 0
    await reading(driver(), account.site.shift())
    assert account.site.reads == 3, "service, listeners, target health"


def test_the_task_set_is_as_the_appspec_says_else_as_the_original() -> None:
    account = Account()
    one = twin(account).shift()
    now = standing(one, account.describe_services("c", ["s"], []))
    plain = new_task_set(now, now.original)
    assert (plain["launchType"], plain["platformVersion"]) == ("FARGATE", "1.4.0")
    assert plain["networkConfiguration"] == {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    assert (plain["externalId"], len(plain["clientToken"])) == ("d-1.c:s", 32)
    told = replace(
        one, platform_version="1.5.0", network=Network(("subnet-9",)), capacity=(Capacity("FARGATE_SPOT", 1, 2),)
    )
    own = new_task_set(replace(now, one=told), now.original)
    assert "launchType" not in own
    assert own["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 2}]
    assert own["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["subnet-9"]
    assert TEST not in str(own)
