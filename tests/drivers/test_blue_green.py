"""The driver for blue/green over Auto Scaling groups: whole deployments of both kinds and their calls, a crash after
each of them, the way back from everywhere, and what AWS does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.drivers.scaling_account import CPU, HOOK, OTHERS, TARGETS, WEB, Account, furnished, group, with_moto

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator import shifters
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import AutoScaling, GroupSettings, Instances, Originals
from shiftwork_coordinator.model.settings import BlueGreen as Wanted
from shiftwork_coordinator.ports import ShiftReading
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.blue_green import BlueGreen

A = Arrangement
REAL = asking.of
COPY = ScalingGroup("autoscaling:web", "web", "d-1", "web-d-1", True)
SWAP = ScalingGroup("autoscaling:web", "web", "d-1", "web-b")
FIVE = ["AZRebalance", "AlarmNotification", "HealthCheck", "ReplaceUnhealthy", "ScheduledActions"]
ALL = sorted([*FIVE, "AddToLoadBalancer"])
HELD = ["create_or_update_tags", "suspend_processes"]
LET_GO = ["resume_processes", "delete_tags"]
COPIED = [
    "create_auto_scaling_group", "suspend_processes", "put_scaling_policy", "put_scheduled_update_group_action",
    "put_lifecycle_hook", "put_notification_configuration", "enable_metrics_collection", *HELD,
    "update_auto_scaling_group",
]  # fmt: skip
TAKEN_OVER = [
    "resume_processes", "attach_load_balancer_target_groups", "attach_load_balancers", "put_scaling_policy",
    "put_warm_pool", "update_auto_scaling_group", *LET_GO, *HELD,
]  # fmt: skip
ENDED = ["update_auto_scaling_group", "delete_auto_scaling_group", "delete_tags"]
CALLS = {
    "copy": [*COPIED, *TAKEN_OVER, *ENDED],
    "swap": [
        "create_or_update_tags", *HELD, *HELD, "update_auto_scaling_group",
        "resume_processes", *LET_GO, *HELD,
        "set_instance_protection", "update_auto_scaling_group", *LET_GO, "delete_tags",
    ],
}  # fmt: skip
KINDS = {"copy": COPY, "swap": SWAP}
BEFORE = {
    "sizes": [2, 6, 3], "instances": 3, "rests": [], "attached": [TARGETS, "classic"], "notes": [], "protected": True,
}  # fmt: skip
STANDBY = BEFORE | {"sizes": [0, 4, 0], "instances": 0}
EMPTIED = BEFORE | {"sizes": [0, 6, 0], "instances": 0}
AFTER = {"copy": {"web-d-1": BEFORE}, "swap": {"web": EMPTIED, "web-b": BEFORE}}
AT_FIRST = {"copy": {"web": BEFORE}, "swap": {"web": BEFORE, "web-b": STANDBY}}


def standby(**fields: Any) -> dict[str, Any]:
    return group("web-b", MinSize=0, MaxSize=4, DesiredCapacity=0, **fields)


@pytest.fixture(params=("copy", "swap"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account in which `web` serves, and stands alone or beside its standby."""

    def made(kind: str = "copy", *groups: dict[str, Any], healthy: int = 3) -> Account:
        own = groups or ((group("web"),) if kind == "copy" else (group("web"), standby()))
        account = furnished(Account(*own, healthy=healthy))
        account.describe_auto_scaling_groups(["web"])
        account.leaks.clear()
        monkeypatch.setattr(asking, "of", lambda at: account.ask)
        return account

    return made


def driver(keep: bool = False, **settings: Any) -> BlueGreen:
    given = {"load_balancers": ({"elbv2": {"target_group": "web"}},), "blue_green": Wanted(), **settings}
    originals = Originals(then="keep" if keep else "terminate")
    return BlueGreen(GroupSettings(Instances(autoscaling=("web",)), originals=originals, **given))


async def reading(one: ScalingGroup, made: BlueGreen | None = None) -> ShiftReading:
    return (await (made or driver()).readings([one]))[one.name]


async def asserted(made: BlueGreen, one: ScalingGroup, wanted: Arrangement) -> ShiftReading:
    """As the engine does it: asked for until a reading shows it, whatever gets lost."""
    for _ in range(12):
        try:
            await made.arrange(one, wanted)
        except Unavailable:
            continue
        if wanted in (found := await reading(one, made)).holds:
            return found
    raise AssertionError(f"never {wanted}: {found.detail}")


async def so_far(account: Account, made: BlueGreen, one: ScalingGroup, stages: int = 9) -> None:
    """The first stages of a deployment; the load balancers' drivers move the traffic between the first two."""
    for wanted in (A.PROVISIONED, A.PROMOTED, A.RETIRED)[:stages]:
        found = await asserted(made, one, wanted)
        if wanted is A.PROVISIONED:
            assert account.leaks == [], "no request before the engine says so"
            assert sorted(found.members) == sorted(account.ids(one.replacement))
            account.move(there=list(found.members), gone=account.ids(one.group))


async def given_back(account: Account, made: BlueGreen, one: ScalingGroup) -> None:
    green = account.ids(one.replacement) if one.replacement in account.groups else []
    account.move(there=account.ids(one.group), gone=green)
    await asserted(made, one, A.ABANDONED)


def unharmed(account: Account) -> bool:
    return (account.leaks, account.cut) == ([], [])


async def test_a_whole_deployment_and_its_calls(make: Any, kind: str) -> None:
    account = make(kind)
    await so_far(account, driver(), KINDS[kind])
    assert account.changes == CALLS[kind]
    assert account.stands() == AFTER[kind]
    assert account.serving() == {TARGETS: [KINDS[kind].replacement], "classic": [KINDS[kind].replacement]}
    assert unharmed(account)


async def test_the_copy_has_what_the_original_had(make: Any) -> None:
    account = make()
    was, tables = account.groups["web"], account.tables["web"]
    await so_far(account, driver(), COPY)
    now = account.groups["web-d-1"]
    same = set(WEB) - {"AutoScalingGroupName", "LaunchTemplate", "VPCZoneIdentifier", "EnabledMetrics"}
    assert {key: now[key] for key in same - {"WarmPoolConfiguration"}} == {
        key: (was | {"DeletionProtection": "prevent-all-deletion"})[key] for key in same - {"WarmPoolConfiguration"}
    }
    assert now["LaunchTemplate"] == {"LaunchTemplateId": "lt-1", "Version": "$Latest"}
    assert now["WarmPoolConfiguration"] == WEB["WarmPoolConfiguration"] | {"Status": None}
    assert {(t["Key"], t["Value"], t["PropagateAtLaunch"]) for t in now["Tags"]} == {
        ("Role", "web", True),
        ("Owner", "ops", False),
    }
    copied = account.tables["web-d-1"]
    assert [p["PolicyName"] for p in copied["policies"]] == ["cpu", "requests"]
    assert copied["policies"][1] == tables["policies"][1]
    assert [h["LifecycleHookName"] for h in copied["hooks"]] == [HOOK["LifecycleHookName"]]
    assert [row["NotificationType"] for row in copied["notifications"]] == [
        "autoscaling:EC2_INSTANCE_LAUNCH",
        "autoscaling:EC2_INSTANCE_TERMINATE",
    ]
    assert copied["scheduled"][0]["Recurrence"] == "0 22 * * *"


@pytest.mark.parametrize(("which", "call"), [(kind, n + 1) for kind, calls in CALLS.items() for n in range(len(calls))])
async def test_cut_off_after_any_call_it_ends_as_it_should(make: Any, which: str, call: int) -> None:
    account = make(which)
    account.lost_at = call
    await so_far(account, driver(), KINDS[which])
    assert account.stands() == AFTER[which]
    assert account.tables.keys() == {"web", KINDS[which].replacement}
    assert unharmed(account)


@pytest.mark.parametrize(("which", "call"), [(kind, n + 1) for kind, calls in CALLS.items() for n in range(len(calls))])
async def test_from_any_call_there_is_a_way_back(make: Any, which: str, call: int) -> None:
    """Until the original is let go, which is not taken back."""
    account, one = make(which), KINDS[which]
    account.lost_at = call
    try:
        for wanted in (A.PROVISIONED, A.PROMOTED):
            await driver().arrange(one, wanted)
            if wanted is A.PROVISIONED:
                account.look(one.replacement)
                account.move(there=account.ids(one.replacement), gone=account.ids(one.group))
    except Unavailable:
        pass
    await given_back(account, driver(), one)
    assert account.stands() == AT_FIRST[which]
    assert account.serving() == {TARGETS: ["web"], "classic": ["web"]}
    assert unharmed(account)


@pytest.mark.parametrize("stages", [0, 1, 2])
async def test_cut_off_on_the_way_back_it_ends_as_it_was(make: Any, kind: str, stages: int) -> None:
    one, lost = KINDS[kind], 0
    while True:
        account = make(kind)
        await so_far(account, driver(), one, stages)
        done = len(account.changes)
        lost += 1
        account.lost_at = done + lost
        await given_back(account, driver(), one)
        assert account.stands() == AT_FIRST[kind], account.changes[done:]
        assert unharmed(account)
        if len(account.changes) < done + lost:
            break
    assert lost - 1 == {"copy": [0, 3, 4], "swap": [0, 7, 5]}[kind][stages]


async def test_what_is_as_wanted_is_not_written_again(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    for stages, wanted in enumerate((A.PROVISIONED, A.PROMOTED, A.RETIRED), 1):
        account = make(kind)
        await so_far(account, made := driver(), KINDS[kind], stages)
        before = list(account.changes)
        await made.arrange(KINDS[kind], wanted)
        assert account.changes == before, wanted


async def test_while_instances_start_nothing_but_the_groups_is_asked_for(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    account.launch_after = 99
    await made.arrange(KINDS[kind], A.PROVISIONED)
    account.reads.clear()
    changed = len(account.changes)
    await made.arrange(KINDS[kind], A.PROVISIONED)
    assert (account.reads, len(account.changes)) == (["describe_auto_scaling_groups"], changed)
    found = await reading(KINDS[kind])
    assert account.reads[1:] == ["describe_auto_scaling_groups", "describe_scaling_activities"]
    assert A.PROVISIONED not in found.holds
    assert (found.ready, found.fatal, found.members) == (False, False, ())
    assert found.detail == (
        f"0 of 3 instances of the Auto Scaling group {KINDS[kind].replacement} are in service and healthy"
    )


async def test_calls_do_not_grow_with_the_instances(make: Any, kind: str) -> None:
    """But for what AWS takes 50 of at a time."""
    many = {"MaxSize": 400, "DesiredCapacity": 200}
    account = make(kind, *([group("web", **many)] + ([standby()] if kind == "swap" else [])), healthy=200)
    await so_far(account, driver(), KINDS[kind])
    assert len(account.changes) == len(CALLS[kind]) + (3 if kind == "swap" else 0)
    assert account.stands()[KINDS[kind].replacement]["instances"] == 200


async def test_replaced_is_what_is_in_service_and_healthy(make: Any, kind: str) -> None:
    account = make(kind, healthy=1)
    await so_far(account, made := driver(), KINDS[kind], 1)
    assert account.stands()[KINDS[kind].replacement]["sizes"] == [1, 6, 1]
    await asserted(made, KINDS[kind], A.PROMOTED)
    assert account.stands()[KINDS[kind].replacement]["sizes"] == [2, 6, 2], (
        "the original's minimum, once it has traffic"
    )


async def test_launches_that_fail_are_shown_and_end_it(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    account.fails = "You've reached your instance limit"
    await made.arrange(KINDS[kind], A.PROVISIONED)
    account.activities[KINDS[kind].replacement][2:] = []
    found = await reading(KINDS[kind])
    assert (found.fatal, A.PROVISIONED in found.holds) == (True, False)
    assert "0 of 3 instances" in found.detail
    assert "launches failed: You've reached your instance limit (×3)" in found.detail
    await asserted(made, KINDS[kind], A.ABANDONED)
    assert account.stands() == AT_FIRST[kind]


async def test_failures_before_a_launch_that_succeeds_do_not_count(make: Any) -> None:
    account, made = make(), driver()
    account.fails = "no capacity"
    await made.arrange(COPY, A.PROVISIONED)
    account.fails, account.launch_after = "", 3
    account.groups["web-d-1"]["DesiredCapacity"] = 4
    account._scale("web-d-1")
    account._activity("web-d-1", "Successful", "")
    found = await reading(COPY)
    assert (found.fatal, "launches failed" in found.detail) == (False, False)


async def test_what_a_standby_failed_at_long_ago_does_not_count(make: Any) -> None:
    account = make("swap")
    for _ in range(5):
        account._activity("web-b", "Failed", "no capacity, last week")
    account.launch_after = 5
    await driver().arrange(SWAP, A.PROVISIONED)
    found = await reading(SWAP)
    assert (found.fatal, "last week" in found.detail) == (False, False)


async def test_the_originals_may_be_kept(make: Any, kind: str) -> None:
    account, made = make(kind), driver(keep=True)
    await so_far(account, made, KINDS[kind])
    assert account.stands()["web"] == BEFORE | {"attached": []}
    assert account.stands()[KINDS[kind].replacement] == BEFORE
    assert account.serving() == {TARGETS: [KINDS[kind].replacement], "classic": [KINDS[kind].replacement]}
    assert unharmed(account)


async def test_what_was_attached_as_a_traffic_source_is_detached_as_one(make: Any) -> None:
    sources = [{"Identifier": TARGETS, "Type": "elbv2"}]
    account = make("copy", group("web", TargetGroupARNs=[], TrafficSources=sources))
    account.move(there=account.ids("web"), gone=[])
    await so_far(account, driver(keep=True), COPY)
    assert account.groups["web"]["TrafficSources"] == []
    assert account.stands()["web-d-1"]["attached"] == [TARGETS, "classic"]


async def test_a_target_group_that_nobody_steers_is_taken_along(make: Any) -> None:
    account = make("copy", group("web", TargetGroupARNs=[TARGETS, OTHERS]))
    await so_far(account, driver(), COPY, 2)
    assert account.serving()[OTHERS] == ["web", "web-d-1"]


async def test_what_others_had_suspended_stays_so_and_is_copied(make: Any, kind: str) -> None:
    account = make(kind)
    account.groups["web"]["SuspendedProcesses"] = [{"ProcessName": "AZRebalance"}, {"ProcessName": "HealthCheck"}]
    await so_far(account, driver(), KINDS[kind])
    both = ["AZRebalance", "HealthCheck"]
    assert {name: one["rests"] for name, one in account.stands().items()} == (
        {"web-d-1": both} if kind == "copy" else {"web": both, "web-b": []}
    )


async def test_a_process_that_others_had_suspended_promotes_nobody(make: Any) -> None:
    account = make("swap")
    account.groups["web"]["SuspendedProcesses"] = [{"ProcessName": "AddToLoadBalancer"}]
    await so_far(account, driver(), SWAP, 1)
    assert A.PROMOTED not in (await reading(SWAP)).holds
    await so_far(account, driver(), SWAP)
    assert account.stands()["web"]["rests"] == ["AddToLoadBalancer"]


async def test_what_rests_meanwhile(make: Any, kind: str) -> None:
    account = make(kind)
    await so_far(account, driver(), KINDS[kind], 1)
    rests = {name: one["rests"] for name, one in account.stands().items()}
    assert rests == {"web": FIVE, KINDS[kind].replacement: ALL}
    await asserted(driver(), KINDS[kind], A.PROMOTED)
    rests = {name: one["rests"] for name, one in account.stands().items()}
    assert rests == {"web": ALL, KINDS[kind].replacement: []}


@pytest.mark.parametrize("back", [False, True])
async def test_nobody_is_replaced_for_having_been_out_of_traffic(make: Any, kind: str, back: bool) -> None:
    account, one = make(kind), KINDS[kind]
    account.move(there=account.ids("web"), gone=[])
    account.judges = True
    await so_far(account, driver(), one, 2 if back else 1)
    blue, green = account.ids("web"), account.ids(one.replacement)
    if back:
        await given_back(account, driver(), one)
    else:
        for wanted in (A.PROMOTED, A.RETIRED):
            await asserted(driver(), one, wanted)
    names = ["web", one.replacement]
    for _ in range(2):
        account.describe_auto_scaling_groups(names)
    left = {name: account.ids(name) for name in account.stands()}
    assert {name: ids for name, ids in left.items() if ids} == ({"web": blue} if back else {one.replacement: green})


async def test_a_replacement_launches_whatever_is_to_rest(make: Any, kind: str) -> None:
    account, made = make(kind), driver(autoscaling=AutoScaling(suspend=("Launch", "Terminate")))
    await so_far(account, made, KINDS[kind])
    assert account.stands() == AFTER[kind]


async def test_what_a_person_resumes_is_suspended_again(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    await so_far(account, made, KINDS[kind], 1)
    account.groups[KINDS[kind].replacement]["SuspendedProcesses"] = []
    assert A.PROVISIONED not in (await reading(KINDS[kind])).holds
    await asserted(made, KINDS[kind], A.PROVISIONED)
    assert account.stands()[KINDS[kind].replacement]["rests"] == ALL


async def test_what_the_copy_lacks_keeps_the_original(make: Any) -> None:
    account, made = make(), driver()
    await so_far(account, made, COPY, 2)
    account.tables["web"]["policies"].append(CPU | {"PolicyName": "new"})
    account.groups["web"]["LaunchTemplate"] = {"LaunchTemplateId": "lt-2", "Version": "1"}
    account.put_lifecycle_hook("web", **{k: v for k, v in HOOK.items() if k != "GlobalTimeout"}, HeartbeatTimeout=60)
    before = list(account.changes)
    with pytest.raises(
        InvalidRequest, match=r"cannot delete the Auto Scaling group web: .*: LaunchTemplate, scaling"
    ) as e:
        await made.arrange(COPY, A.RETIRED)
    assert "scaling policy new, lifecycle hook warm-caches" in e.value.message
    assert account.changes == before
    assert A.RETIRED not in (await reading(COPY)).holds


async def test_what_was_added_before_traffic_moved_is_copied_too(make: Any) -> None:
    account, made = make(), driver()
    await so_far(account, made, COPY, 1)
    account.tables["web"]["policies"].append(CPU | {"PolicyName": "new"})
    account.groups["web"]["MaxSize"] = 9
    for wanted in (A.PROMOTED, A.RETIRED):
        await asserted(made, COPY, wanted)
    assert [p["PolicyName"] for p in account.tables["web-d-1"]["policies"]] == ["cpu", "requests", "new"]
    assert account.stands()["web-d-1"]["sizes"] == [2, 9, 3]


async def test_an_original_is_not_let_go_while_nothing_has_taken_over(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    with pytest.raises(InvalidRequest, match="not as this deployment left it"):
        await made.arrange(KINDS[kind], A.RETIRED)
    await so_far(account, made, KINDS[kind], 1)
    with pytest.raises(Unavailable, match="has not taken over"):
        await made.arrange(KINDS[kind], A.RETIRED)
    await asserted(made, KINDS[kind], A.PROMOTED)
    for one in account.groups[KINDS[kind].replacement]["Instances"]:
        one["HealthStatus"] = "Unhealthy"
    with pytest.raises(Unavailable, match="has no healthy instance"):
        await made.arrange(KINDS[kind], A.RETIRED)
    assert account.stands()["web"]["instances"] == 3


async def test_a_replacement_that_is_all_that_is_left_is_not_abandoned(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    await so_far(account, made, KINDS[kind], 2)
    del account.groups["web"]
    await made.arrange(KINDS[kind], A.ABANDONED)
    assert account.stands() == {KINDS[kind].replacement: BEFORE}
    assert A.ABANDONED in (await reading(KINDS[kind])).holds


async def test_a_copy_that_somebody_deleted_is_not_made_again(make: Any) -> None:
    account, made = make(), driver()
    await so_far(account, made, COPY, 1)
    account.delete_auto_scaling_group("web-d-1", ForceDelete=True)
    account.describe_auto_scaling_groups(["web-d-1"])
    account.describe_auto_scaling_groups(["web-d-1"])
    with pytest.raises(InvalidRequest, match="web-d-1: it is not as this deployment left it"):
        await made.arrange(COPY, A.PROVISIONED)
    await asserted(made, COPY, A.ABANDONED)
    assert account.stands() == AT_FIRST["copy"]


async def test_a_group_of_somebody_else_is_neither_taken_nor_deleted(make: Any) -> None:
    account, made = make("copy", group("web"), group("web-d-1", MinSize=0, DesiredCapacity=0)), driver()
    with pytest.raises(InvalidRequest, match="which this deployment did not make"):
        await made.arrange(COPY, A.PROVISIONED)
    await asserted(made, COPY, A.ABANDONED)
    assert account.changes == []


async def test_a_standby_with_instances_does_not_take_over(make: Any) -> None:
    account = make("swap", group("web"), group("web-b"))
    with pytest.raises(InvalidRequest, match=r"not at size 0 \(minimum 2, desired 3, 3 instances\)"):
        await driver().arrange(SWAP, A.PROVISIONED)
    assert account.changes == []


async def test_what_a_swap_left_behind_is_taken_over(make: Any) -> None:
    account = make("swap")
    await driver().arrange(replace(SWAP, token="d-0"), A.PROVISIONED)
    account.update_auto_scaling_group("web-b", MinSize=0, DesiredCapacity=0)
    for one in account.groups["web-b"]["Instances"]:
        one["ProtectedFromScaleIn"] = False
    account._scale("web-b")
    await so_far(account, driver(), SWAP, 1)
    await given_back(account, driver(), SWAP)
    assert account.stands() == AT_FIRST["swap"]


async def test_swaps_go_to_and_fro(make: Any) -> None:
    account = make("swap")
    await so_far(account, driver(), SWAP)
    account.update_auto_scaling_group("web-b", DesiredCapacity=4)
    account.describe_auto_scaling_groups(["web-b"])
    assert len(account.serving()[TARGETS]) == 1
    assert len(account.traffic[TARGETS]) == 4, "it scales by itself again, and what it launches gets traffic"
    account.leaks.clear()
    await so_far(account, driver(), ScalingGroup("autoscaling:web-b", "web-b", "d-2", "web"))
    assert account.stands() == {
        "web": BEFORE | {"sizes": [2, 6, 4], "instances": 4},
        "web-b": BEFORE | {"sizes": [0, 6, 0], "instances": 0},
    }
    assert account.serving() == {TARGETS: ["web"], "classic": ["web"]}
    assert unharmed(account)


async def test_copies_follow_one_another(make: Any) -> None:
    account = make()
    await so_far(account, driver(), COPY)
    await so_far(account, driver(), ScalingGroup("autoscaling:web-d-1", "web-d-1", "d-2", "web-d-2", True))
    assert account.stands() == {"web-d-2": BEFORE}
    assert account.tables["web-d-2"]["policies"] == account.tables["web-d-1"]["policies"]


async def test_weighed_instance_types_count_by_weight(make: Any) -> None:
    account = make("copy", group("web", MaxSize=12, DesiredCapacity=6), healthy=6)
    account.groups["web"]["Instances"][3:] = []
    for one in account.groups["web"]["Instances"]:
        one["WeightedCapacity"] = "2"
    await driver().arrange(COPY, A.PROVISIONED)
    assert account.groups["web-d-1"]["DesiredCapacity"] == 6
    account.groups["web-d-1"]["Instances"][3:] = []
    for one in account.groups["web-d-1"]["Instances"]:
        one["WeightedCapacity"] = "2"
    await reading(COPY)
    assert len((found := await reading(COPY)).members) == 3
    assert A.PROVISIONED in found.holds


@pytest.mark.parametrize("operation", sorted({*COPIED} - {"create_auto_scaling_group", "suspend_processes"}))
async def test_who_may_not_copy_leaves_nothing_behind(make: Any, operation: str) -> None:
    account, made = make(), driver()
    account.denied = {operation}
    with pytest.raises(InvalidRequest, match=operation):
        await made.arrange(COPY, A.PROVISIONED)
    assert account.serving() == {TARGETS: ["web"], "classic": ["web"]}
    await asserted(made, COPY, A.ABANDONED)
    assert account.stands() == AT_FIRST["copy"]


async def test_a_group_that_is_not_there(make: Any, kind: str) -> None:
    account, made = make(kind), driver()
    account.groups.clear()
    with pytest.raises(InvalidRequest, match="no Auto Scaling group 'web'"):
        await made.arrange(KINDS[kind], A.PROVISIONED)
    await made.arrange(KINDS[kind], A.ABANDONED)
    assert (await reading(KINDS[kind])).holds == {A.ABANDONED}, "nothing is left to put back"


async def test_readings_tell_what_cannot_be_told(make: Any) -> None:
    account = make()
    account.denied = {"describe_auto_scaling_groups"}
    found = await reading(COPY)
    assert (found.fatal, found.holds, found.ready) == (True, frozenset(), False)
    assert "not allowed" in found.detail


async def test_neither_weights_nor_tests(make: Any) -> None:
    make()
    with pytest.raises(InvalidRequest, match="cannot shift"):
        await driver().set_weight(COPY, 0.5)
    with pytest.raises(InvalidRequest, match="cannot test"):
        await driver().arrange(COPY, A.TESTED)


async def test_groups_with_blue_green_get_this_driver(make: Any) -> None:
    make()
    settings = GroupSettings(Instances(autoscaling=("web",)), blue_green=Wanted())
    assert isinstance(shifters.connect(settings), BlueGreen)


async def test_the_same_with_moto(aws: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """There and back, and then there."""
    monkeypatch.setattr(asking, "of", lambda at: with_moto(REAL(at)))
    client, one, made = in_moto(kind), KINDS[kind], driver()
    before = stands(client)
    assert [p.message for p in await made.check([one]) if p.fatal] == []
    assert len((await asserted(made, one, A.PROVISIONED)).members) == 2
    for wanted in (A.PROMOTED, A.ABANDONED):
        await asserted(made, one, wanted)
    assert stands(client) == before
    for wanted in (A.PROVISIONED, A.PROMOTED, A.RETIRED):
        await asserted(made, one, wanted)
    emptied = before["web"] | {"MinSize": 0, "DesiredCapacity": 0}
    served = before["web"] | {"Tags": [tag | {"ResourceId": one.replacement} for tag in before["web"]["Tags"]]}
    swapped = {"web": emptied, "web-b": served | {"EnabledMetrics": []}}
    assert stands(client) == ({"web-d-1": served} if kind == "copy" else swapped)
    if kind == "copy":
        policies = client.describe_policies(AutoScalingGroupName="web-d-1")["ScalingPolicies"]
        hooks = client.describe_lifecycle_hooks(AutoScalingGroupName="web-d-1")["LifecycleHooks"]
        assert [len(policies), len(hooks)] == [1, 1]
        assert client.describe_warm_pool(AutoScalingGroupName="web-d-1")["WarmPoolConfiguration"]


def stands(client: Any) -> dict[str, Any]:
    keys = ("MinSize", "MaxSize", "DesiredCapacity", "SuspendedProcesses", "TargetGroupARNs", "EnabledMetrics", "Tags")
    told = client.describe_auto_scaling_groups()["AutoScalingGroups"]
    return {group["AutoScalingGroupName"]: {key: group.get(key, []) for key in keys} for group in told}


def in_moto(kind: str) -> Any:
    """The group `web` with two instances, and its standby."""
    import boto3

    client, ec2 = boto3.client("autoscaling"), boto3.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    made = boto3.client("elbv2").create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=subnet["VpcId"])
    target_group = made["TargetGroups"][0]["TargetGroupArn"]
    data = {"ImageId": "ami-12345678", "InstanceType": "t2.micro"}
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)["LaunchTemplate"]
    for name, size in (("web", 1), ("web-b", 0)) if kind == "swap" else (("web", 1),):
        client.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=size, MaxSize=4, DesiredCapacity=2 * size,
            LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
            VPCZoneIdentifier=subnet["SubnetId"], TargetGroupARNs=[target_group], HealthCheckType="ELB",
            Tags=[{"Key": "Role", "Value": "web", "PropagateAtLaunch": True}],
        )  # fmt: skip
    client.put_scaling_policy(
        AutoScalingGroupName="web", PolicyName="cpu", PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={
            "TargetValue": 50.0, "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}
        },
    )  # fmt: skip
    client.put_scheduled_update_group_action(
        AutoScalingGroupName="web", ScheduledActionName="night", Recurrence="0 22 * * *", MinSize=1, MaxSize=2,
        DesiredCapacity=1,
    )  # fmt: skip
    client.put_lifecycle_hook(
        AutoScalingGroupName="web", LifecycleHookName="caches", HeartbeatTimeout=60, DefaultResult="CONTINUE",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
    )  # fmt: skip
    client.enable_metrics_collection(AutoScalingGroupName="web", Granularity="1Minute", Metrics=["GroupMinSize"])
    client.put_warm_pool(AutoScalingGroupName="web", MinSize=0, PoolState="Stopped")
    return client
