"""One suite for the twin in memory and for EC2 and Auto Scaling as moto plays them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import boto3
import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.aws import clients
from shiftwork_coordinator.fleets.ec2 import IN_A_FILTER, Ec2
from shiftwork_coordinator.fleets.tags import matches
from shiftwork_coordinator.model.settings import Aws, Instances
from shiftwork_coordinator.ports import Fleets, Member
from shiftwork_coordinator.testing import Machine, MemoryFleets

UNKNOWN = "i-00000000000000bad"


class World(Protocol):
    """An account that a test furnishes."""

    fleets: Fleets

    def launch(self, *tags: dict[str, str], zone: str = "us-east-1a") -> list[str]: ...
    def group(self, name: str, size: int) -> list[str]: ...
    def set(self, id: str, state: str) -> None: ...
    def standby(self, group: str, id: str) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.fleets = self._memory = MemoryFleets()

    def launch(self, *tags: dict[str, str], zone: str = "us-east-1a") -> list[str]:
        first = len(self._memory.machines)
        ids = [f"i-{first + n:017x}" for n in range(len(tags))]
        self._memory.machines |= {id: Machine(each, zone=zone) for id, each in zip(ids, tags, strict=True)}
        return ids

    def group(self, name: str, size: int) -> list[str]:
        self._memory.groups.add(name)
        ids = self.launch(*({} for _ in range(size)))
        for id in ids:
            self._memory.machines[id].group = name
        return ids

    def set(self, id: str, state: str) -> None:
        self._memory.machines[id].state = state

    def standby(self, group: str, id: str) -> None:
        self._memory.machines[id].lifecycle = "Standby"


class InMoto:
    def __init__(self) -> None:
        self.fleets = Ec2(Aws())
        self.ec2, self.autoscaling = boto3.client("ec2"), boto3.client("autoscaling")

    def launch(self, *tags: dict[str, str], zone: str = "us-east-1a") -> list[str]:
        return [self._one(each, zone) for each in tags]

    def many(self, count: int, **tags: str) -> list[str]:
        told = self.ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=count, MaxCount=count, TagSpecifications=_specified(tags)
        )
        return [row["InstanceId"] for row in told["Instances"]]

    def _one(self, tags: dict[str, str], zone: str) -> str:
        given: dict[str, Any] = {"TagSpecifications": _specified(tags)} if tags else {}
        told = self.ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, Placement={"AvailabilityZone": zone}, **given
        )
        return str(told["Instances"][0]["InstanceId"])

    def group(self, name: str, size: int) -> list[str]:
        self.ec2.create_launch_template(
            LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "t3.micro"}
        )
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, MaxSize=size, DesiredCapacity=size,
            LaunchTemplate={"LaunchTemplateName": name}, AvailabilityZones=["us-east-1a"],
        )  # fmt: skip
        told = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return [row["InstanceId"] for row in told["AutoScalingGroups"][0]["Instances"]]

    def set(self, id: str, state: str) -> None:
        if state == "stopped":
            self.ec2.stop_instances(InstanceIds=[id])
        else:
            self.ec2.terminate_instances(InstanceIds=[id])

    def standby(self, group: str, id: str) -> None:
        self.autoscaling.enter_standby(
            AutoScalingGroupName=group, InstanceIds=[id], ShouldDecrementDesiredCapacity=True
        )


def _specified(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


@pytest.fixture(params=["memory", "moto"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return InMemory()
    request.getfixturevalue("aws")
    return InMoto()


def ids(members: Iterable[Member]) -> set[str]:
    return {member.id for member in members}


async def test_ids_are_found_once_each_with_state_and_zone(world: World) -> None:
    one, two, other = world.launch({}, {"Role": "web"}, {}, zone="us-east-1b")
    world.set(two, "stopped")
    found = await world.fleets.members(Instances(ids=(one, two, one), ec2_tags={"Role": ["web"]}))
    assert sorted(found, key=lambda m: m.id) == sorted(
        [Member(one, "running", "us-east-1b"), Member(two, "stopped", "us-east-1b")], key=lambda m: m.id
    )
    assert other not in ids(found)


async def test_what_is_not_there_is_named(world: World) -> None:
    (one,) = world.launch({})
    with pytest.raises(InvalidRequest, match=UNKNOWN) as refused:
        await world.fleets.members(Instances(ids=(one, UNKNOWN)))
    assert one not in str(refused.value)
    with pytest.raises(InvalidRequest, match="typo"):
        await world.fleets.members(Instances(autoscaling=("typo",)))


async def test_the_members_of_groups_come_with_their_state_there(world: World) -> None:
    first, second = world.group("web-a", 2), world.group("web-b", 1)
    world.group("empty", 0)
    world.launch({"Role": "web"})
    world.standby("web-a", first[0])
    found = {m.id: m for m in await world.fleets.members(Instances(autoscaling=("web-a", "web-b", "empty")))}
    assert found.keys() == {*first, *second}
    assert found[first[0]].lifecycle == "Standby"
    assert found[second[0]] == Member(second[0], "running", "us-east-1a", "web-b", "InService")


TAGS = (
    {"Environment": "production", "Role": "web"},
    {"Environment": "staging", "Role": "web"},
    {"Environment": "production", "Role": "db"},
    {"Environment": "Production", "Role": "web-2"},
    {"Name": "production", "Role": ""},
    {},
)


MEANT: list[tuple[Instances, set[int]]] = [
    (Instances(ec2_tags={"Role": ["web"]}), {0, 1}),
    (Instances(ec2_tags={"Role": ["web", "db"], "Environment": ["production"]}), {0, 2}),
    (Instances(ec2_tags={"Role": ["web*"]}), {0, 1, 3}),
    (Instances(ec2_tags={"Role": ["*"]}), {0, 1, 2, 3, 4}),
    (Instances(ec2_tags={"Role": [""]}), {4}),
    (Instances(ec2_tags={"Role": ["w?b"]}), {0, 1}),
    (Instances(ec2_tags={"Role": ["WEB"]}), set()),
    (Instances(ec2_tags={"role": ["web"]}), set()),
    (Instances(ec2_tags={"*": ["production"]}), {0, 2, 4}),
    (Instances(ec2_tags={"*": ["production"], "Role": ["web"]}), {0}),
    (Instances(ec2_tag_sets=({"Role": ["db"], "Environment": ["staging"]},)), {1, 2}),
    (Instances(ec2_tag_sets=({"Role": ["db", "web"]}, {"Environment": ["staging"], "Name": ["*"]})), {1}),
    (Instances(ec2_tag_sets=({"Role": ["*"]}, {"Role": ["web", ""]})), {0, 1, 4}),
    (Instances(ec2_tag_sets=({"*": ["staging", "db"]},)), {1, 2}),
    (Instances(ec2_tag_sets=({"*": ["production"]}, {"Role": ["db"], "Name": ["*"]})), {2, 4}),
    (Instances(ec2_tag_sets=({"Role": ["web"]}, {"Name": ["*"]})), set()),
]


async def test_tags_mean_the_same_to_everybody(world: World) -> None:
    there = world.launch(*TAGS)
    for wanted, meant in MEANT:
        assert ids(await world.fleets.members(wanted)) == {there[n] for n in meant}, wanted
        assert {n for n, tags in enumerate(TAGS) if matches(tags, wanted)} == meant, wanted


async def test_all_ways_are_one_union_and_the_terminated_are_not_meant_by_tags(world: World) -> None:
    tagged, gone, named = world.launch({"Role": "web"}, {"Role": "web"}, {})
    (scaled,) = world.group("web", 1)
    world.set(gone, "terminated")
    wanted = Instances(ids=(named,), autoscaling=("web",), ec2_tags={"Role": ["web"]})
    running = {m.id for m in await world.fleets.members(wanted) if m.state == "running"}
    assert running == {tagged, named, scaled}


async def test_what_is_terminated_ends_and_nothing_else_also_when_some_has_ended_before(world: World) -> None:
    there, gone, ends = world.launch({}, {}, {})
    world.set(gone, "terminated")
    for _ in range(2):
        await world.fleets.terminate([gone, ends, UNKNOWN])
    told = await world.fleets.lost([there, ends])
    assert told.keys() == {ends} and told[ends] in ("shutting-down", "terminated")


async def test_what_does_not_run_any_more_is_told_with_its_state(world: World) -> None:
    there, stopped, gone = world.launch({}, {}, {})
    world.set(stopped, "stopped")
    world.set(gone, "terminated")
    asked = [there, stopped, gone, UNKNOWN]
    assert await world.fleets.lost(asked) == {stopped: "stopped", gone: "terminated"}
    told = await world.fleets.lost(asked, missing=True)
    assert told == {stopped: "stopped", gone: "terminated", UNKNOWN: "missing"}


async def test_an_endpoint_that_is_away_may_come_back(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(clients, "ATTEMPTS", 1)
    clients.forget()
    with pytest.raises(Unavailable, match="ec2:DescribeInstances"):
        await Ec2(Aws()).lost([UNKNOWN])


@pytest.fixture
def calls(aws: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every operation that was asked of AWS by the driver."""
    from shiftwork_coordinator.fleets import ec2

    made: list[str] = []

    async def counted(service: str, operation: str, *given: Any, **named: Any) -> Any:
        made.append(operation)
        return await clients.call(service, operation, *given, **named)

    monkeypatch.setattr(ec2, "call", counted)
    monkeypatch.setattr(ec2, "PAGE", 5)  # moto counts launches, AWS instances
    return made


async def test_calls_grow_with_pages_and_not_with_instances(calls: list[str]) -> None:
    world = InMoto()
    many = [id for _ in range(12) for id in world.many(10, Role="web")]
    assert len(await world.fleets.members(Instances(ec2_tags={"Role": ["web"]}))) == 120
    assert calls == ["describe_instances"] * 3
    calls.clear()
    assert await world.fleets.lost(many) == {}
    assert calls == ["describe_instances"], "those that run are not told, so there is one page"
    calls.clear()
    assert await world.fleets.lost([f"i-{n:017x}" for n in range(IN_A_FILTER + 1)]) == {}
    assert calls == ["describe_instances"] * 2
    calls.clear()
    for name in ("web-a", "web-b"):
        world.group(name, 3)
    assert len(await world.fleets.members(Instances(autoscaling=("web-a", "web-b")))) == 6
    assert calls == ["describe_auto_scaling_groups", "describe_instances"]


async def test_a_group_has_who_it_says_and_not_who_carries_its_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm pool's instances carry the tag too; one that was attached a moment ago may not yet."""
    from shiftwork_coordinator.fleets import ec2

    tagged, attached, warm = (f"i-{n:017x}" for n in range(3))
    asked: list[Any] = []

    def row(id: str) -> dict[str, Any]:
        return {"InstanceId": id, "State": {"Name": "running"}, "Placement": {"AvailabilityZone": "z"}}

    async def canned(service: str, operation: str, *given: Any, **named: Any) -> Any:
        if service == "autoscaling":
            standing = [{"InstanceId": id, "LifecycleState": "InService"} for id in (tagged, attached)]
            return {"AutoScalingGroups": [{"AutoScalingGroupName": "web*", "Instances": standing}]}
        asked.append(named["Filters"][0])
        known = [tagged, warm] if len(asked) == 1 else [attached]
        return {"Reservations": [{"Instances": [row(id) for id in known]}]}

    monkeypatch.setattr(ec2, "call", canned)
    found = await Ec2(Aws()).members(Instances(autoscaling=("web*",)))
    assert ids(found) == {tagged, attached}
    assert asked == [
        {"Name": "tag:aws:autoscaling:groupName", "Values": ["web\\*"]},
        {"Name": "instance-id", "Values": [attached]},
    ]
