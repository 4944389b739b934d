"""The driver that holds Auto Scaling groups: the same assertions for a twin and for moto over HTTP, and a crash after
each of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import AutoScaling, GroupSettings, Instances
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.autoscaling import ScalingGroups
from shiftwork_coordinator.shifters.resting import NOTE, note_of, suspended

A = Arrangement
WEB = ScalingGroup("autoscaling:web", "web", "d-1")
REST = {"AZRebalance", "AlarmNotification", "ScheduledActions", "ReplaceUnhealthy", "HealthCheck"}


class Account:
    """One group. `changes` are the calls that changed something; the answer of the `lost_at`th of them gets lost."""

    def __init__(self, *processes: str) -> None:
        self.suspended = set(processes)
        self.tags: dict[str, str] = {}
        self.changes: list[str] = []
        self.lost_at = 0
        self.denied = ""
        self.there = True

    async def ask(self, service: str, operation: str, /, **given: Any) -> Any:
        assert service == "autoscaling"
        if operation == self.denied:
            raise InvalidRequest(f"not allowed: autoscaling:{operation}", code="AccessDenied")
        if operation == "describe_auto_scaling_groups":
            return {"AutoScalingGroups": [self._group()] if self.there else []}
        assert self.there
        getattr(self, f"_{operation}")(**given)
        self.changes.append(operation)
        if len(self.changes) == self.lost_at:
            raise Unavailable("the connection was cut")
        return {}

    def _group(self) -> dict[str, Any]:
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        rest = [{"ProcessName": name} for name in sorted(self.suspended)]
        return {"AutoScalingGroupName": "web", "Tags": tags, "SuspendedProcesses": rest}

    def _suspend_processes(self, *, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        noted = set(self.tags.get(NOTE, "").split()[1:])
        assert noted >= set(ScalingProcesses), "noted before it is done"
        self.suspended |= set(ScalingProcesses)

    def _resume_processes(self, *, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        assert ScalingProcesses, "an empty list would mean all of them"
        self.suspended -= set(ScalingProcesses)

    def _create_or_update_tags(self, *, Tags: list[dict[str, Any]]) -> None:
        assert not Tags[0]["PropagateAtLaunch"]
        self.tags[Tags[0]["Key"]] = Tags[0]["Value"]

    def _delete_tags(self, *, Tags: list[dict[str, Any]]) -> None:
        self.tags.pop(Tags[0]["Key"], None)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    found = Account()
    monkeypatch.setattr(asking, "of", lambda at: found.ask)
    return found


def driver(**settings: Any) -> ScalingGroups:
    return ScalingGroups(GroupSettings(Instances(autoscaling=("web",)), autoscaling=AutoScaling(**settings)))


async def holds(one: ScalingGroup = WEB) -> frozenset[Arrangement]:
    return (await driver().readings([one]))[one.name].holds


async def test_held_and_let_go(account: Account) -> None:
    assert await holds() == {A.RETIRED, A.ABANDONED}
    await driver().arrange(WEB, A.PROVISIONED)
    assert (await holds(), account.suspended) == ({A.PROVISIONED}, REST)
    await driver().arrange(WEB, A.RETIRED)
    assert (await holds(), account.suspended, account.tags) == ({A.RETIRED, A.ABANDONED}, set(), {})
    assert account.changes == ["create_or_update_tags", "suspend_processes", "resume_processes", "delete_tags"]


async def test_what_others_suspended_stays_so(account: Account) -> None:
    account.suspended = {"AZRebalance", "HealthCheck"}
    await driver().arrange(WEB, A.PROVISIONED)
    await driver().arrange(WEB, A.ABANDONED)
    assert account.suspended == {"AZRebalance", "HealthCheck"}


async def test_a_group_that_rests_already_is_left_alone(account: Account) -> None:
    account.suspended = set(REST)
    await driver().arrange(WEB, A.PROVISIONED)
    assert A.PROVISIONED in await holds()
    await driver().arrange(WEB, A.RETIRED)
    assert (account.changes, account.suspended) == ([], REST)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("before", [(), ("AZRebalance",)])
async def test_cut_off_after_any_call_it_ends_as_it_was(account: Account, call: int, before: tuple[str, ...]) -> None:
    account.suspended, account.lost_at = set(before), call
    for wanted in (A.PROVISIONED, A.RETIRED):
        await tried_twice(lambda wanted=wanted: driver().arrange(WEB, wanted))
        assert wanted in await holds()
    assert (account.suspended, account.tags) == (set(before), {})


async def tried_twice(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Unavailable:
        await work()


async def test_what_a_deployment_left_behind_is_taken_over_and_put_back(account: Account) -> None:
    account.suspended, account.tags = {"AZRebalance"}, {NOTE: "d-0 AZRebalance"}
    [problem] = await driver().check([WEB])
    assert "d-0" in problem.message
    assert not problem.fatal
    await driver().arrange(WEB, A.PROVISIONED)
    await driver().arrange(WEB, A.RETIRED)
    assert (account.suspended, account.tags) == (set(), {})


async def test_a_note_of_another_deployment_is_not_let_go(account: Account) -> None:
    account.suspended, account.tags = {"AZRebalance"}, {NOTE: "d-2 AZRebalance"}
    await driver().arrange(WEB, A.ABANDONED)
    assert account.suspended == {"AZRebalance"}


async def test_a_group_that_is_not_there(account: Account) -> None:
    account.there = False
    [problem] = await driver().check([WEB])
    assert (problem.fatal, problem.code) == (True, "InvalidAutoScalingGroupException")
    with pytest.raises(InvalidRequest, match="no Auto Scaling group 'web'"):
        await driver().arrange(WEB, A.PROVISIONED)
    await driver().arrange(WEB, A.ABANDONED)
    assert A.ABANDONED in await holds(), "nothing is left to put back"


async def test_who_may_not_resume_is_told_what_to_run(account: Account) -> None:
    await driver().arrange(WEB, A.PROVISIONED)
    account.denied = "resume_processes"
    with pytest.raises(InvalidRequest, match=r"rest until somebody runs `aws autoscaling resume-processes .*'web'"):
        await driver().arrange(WEB, A.RETIRED)


async def test_only_what_the_group_wants_rests(account: Account) -> None:
    await driver(suspend=("AZRebalance",)).arrange(WEB, A.PROVISIONED)
    assert account.suspended == {"AZRebalance"}


async def test_the_same_with_moto(aws: Any) -> None:
    import boto3

    client = boto3.client("autoscaling")
    zone = [z["ZoneName"] for z in boto3.client("ec2").describe_availability_zones()["AvailabilityZones"]][:1]
    client.create_launch_configuration(LaunchConfigurationName="lc", ImageId="ami-12345678", InstanceType="t2.micro")
    client.create_auto_scaling_group(
        AutoScalingGroupName="web", LaunchConfigurationName="lc", MinSize=0, MaxSize=2, AvailabilityZones=zone
    )
    client.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["AZRebalance"])

    def group() -> Any:
        return client.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]

    await driver().arrange(WEB, A.PROVISIONED)
    assert A.PROVISIONED in await holds()
    assert suspended(group()) == REST
    assert set(note_of(group())) == {"d-1", *(REST - {"AZRebalance"})}
    await driver().arrange(WEB, A.RETIRED)
    assert await holds() == {A.RETIRED, A.ABANDONED}
    assert (suspended(group()), note_of(group())) == ({"AZRebalance"}, [])
