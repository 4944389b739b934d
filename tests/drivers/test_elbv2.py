"""The drivers for target groups and classic load balancers: what AWS says in our words, what is named before it goes
wrong, and how few calls it takes. The suite itself is in test_balancer_suite.py."""

from __future__ import annotations

from typing import Any

import pytest
from tests.drivers.elb_account import Account, InMoto, Instance, Member, Pool, client, connected, in_moto, servers

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.aws.rights import FEATURES
from shiftwork_coordinator.balancers import connect, elb, placed
from shiftwork_coordinator.balancers.elbv2_groups import Group
from shiftwork_coordinator.balancers.elbv2_health import reading
from shiftwork_coordinator.ports import LoadBalancer, NotTaken, Server, TrafficState
from shiftwork_coordinator.testing import MemoryGates

S = TrafficState
GROUP = Group("arn", "web", "instance", "HTTP", 80, "vpc-1", ("a",), 30.0, 5, {})
KINDS = {"elbv2": {"target_group": "web"}, "elb": {"load_balancer": "web"}}
CHANGES = {
    "elbv2": ("register_targets", "deregister_targets"),
    "elb": ("register_instances_with_load_balancer", "deregister_instances_from_load_balancer"),
}


@pytest.fixture
def account() -> Account:
    return Account().settled()


@pytest.fixture(params=tuple(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def driver(account: Account, kind: str = "elbv2", **settings: object) -> LoadBalancer:
    return connected(account, kind, **(settings or KINDS[kind]))


async def states(made: LoadBalancer, account: Account) -> dict[str, TrafficState]:
    return {name: one.state for name, one in (await made.states(servers(account))).items()}


async def state(made: LoadBalancer, server: Server) -> Any:
    return (await made.states([server]))[server.instance]


def asked(account: Account, *operations: str) -> list[int]:
    """How many targets each call of these was about."""
    return [len(p.get("Targets") or p.get("Instances")) for name, p in account.calls if name in operations]


# What AWS says


@pytest.mark.parametrize(
    ("told", "ours", "lasts"),
    [
        ({"State": "healthy"}, S.HEALTHY, 0),
        ({"State": "initial", "Reason": "Elb.InitialHealthChecking"}, S.STARTING, 150),
        ({"State": "unhealthy", "Reason": "Target.Timeout"}, S.UNHEALTHY, 150),
        ({"State": "unhealthy.draining"}, S.UNHEALTHY, 150),
        ({"State": "draining", "Reason": "Target.DeregistrationInProgress"}, S.DRAINING, 300),
        ({"State": "unused", "Reason": "Target.NotRegistered"}, S.ABSENT, 300),
        ({"State": "unused", "Reason": "Target.NotInUse"}, S.UNHEALTHY, 0),
        ({"State": "unused", "Reason": "Target.InvalidState"}, S.UNHEALTHY, 0),
        ({"State": "unused", "Reason": "Target.IpUnusable"}, S.UNHEALTHY, 0),
        ({"State": "unavailable", "Reason": "Elb.InternalError"}, S.UNKNOWN, 300),
        ({"State": "something new"}, S.UNKNOWN, 300),
        ({}, S.UNKNOWN, 300),
    ],
)
def test_each_state_of_a_target_in_our_words(told: dict[str, str], ours: TrafficState, lasts: float) -> None:
    found = reading(GROUP, told)
    assert (found.state, found.lasts, found.in_flight) == (ours, lasts, None)
    assert told.get("Reason", "") in found.detail


def test_what_is_awaited_is_told_with_its_arithmetic() -> None:
    told = {"State": "initial", "Reason": "Elb.InitialHealthChecking", "Description": "Initial health checks"}
    assert reading(GROUP, told).detail == (
        "web: initial (Elb.InitialHealthChecking: Initial health checks); healthy after at most 5 passed checks, one"
        " each 30 s"
    )
    assert "the deregistration delay is 300 s" in reading(GROUP, {"State": "draining"}).detail
    assert "let a listener forward" in reading(GROUP, {"State": "unused", "Reason": "Target.NotInUse"}).detail
    assert reading(GROUP, {"State": "draining"}, draining_is_out=True).state is S.ABSENT


@pytest.mark.parametrize(
    ("state", "description", "ours"),
    [
        ("InService", "N/A", S.HEALTHY),
        ("InService", "Instance deregistration currently in progress.", S.DRAINING),
        ("OutOfService", "Instance deregistration currently in progress.", S.DRAINING),
        ("OutOfService", "Instance is not currently registered with the LoadBalancer.", S.ABSENT),
        ("OutOfService", "Instance registration is still in progress.", S.STARTING),
        ("OutOfService", "Instance has not passed the configured HealthyThreshold number …", S.STARTING),
        ("OutOfService", "Instance has failed at least the UnhealthyThreshold number …", S.UNHEALTHY),
        ("OutOfService", "Instance is in stopped state.", S.UNHEALTHY),
        ("Unknown", "A transient error occurred. Please try again later.", S.UNKNOWN),
    ],
)
def test_each_state_of_a_classic_instance_in_our_words(state: str, description: str, ours: TrafficState) -> None:
    found = elb.reading(elb.Balancer("old", 30, 10, 300.0, True), {"State": state, "Description": description})
    assert found.state is ours
    assert description == "N/A" or description in found.detail
    assert found.lasts == (0 if ours is S.HEALTHY else 300)


# Out and in


async def test_out_is_drained_and_in_is_checked(account: Account, kind: str) -> None:
    made, (first, *_) = driver(account, kind), servers(account)
    await made.deregister([first])
    found = await state(made, first)
    assert (found.state, found.lasts) == (S.DRAINING, 20)
    assert (await state(made, first)).state is S.ABSENT
    await made.deregister([first])
    await made.register([first])
    assert (await state(made, first)).state is S.STARTING
    assert (await state(made, first)).state is S.HEALTHY
    assert await states(made, account) == dict.fromkeys(("s1", "s2", "s3", "s4"), S.HEALTHY)


async def test_an_instance_is_out_when_it_is_out_of_all_groups() -> None:
    account = Account()
    account.pools["api"] = Pool("api", "ip", port=8080, delay=70)
    account.settled("web", "api")
    made, (first, *_) = driver(account, target_groups=["web", account.pools["api"].arn]), servers(account)
    await made.deregister([first])
    assert {one["Id"] for name, p in account.calls if name == "deregister_targets" for one in p["Targets"]} == {
        "i-1",
        "10.0.0.10",
    }
    seen = [await state(made, first) for _ in range(4)]  # each lets 10 s go by for each group
    assert [one.state for one in seen] == [S.DRAINING] * 3 + [S.ABSENT]
    assert [one.lasts for one in seen] == [70] * 4
    assert "api: unused" in seen[-1].detail


async def test_a_target_that_fails_its_checks_says_why(account: Account, kind: str) -> None:
    made = driver(account, kind)
    account.probe = lambda id: id != "i-1"
    await states(made, account)
    await states(made, account)
    found = (await made.states(servers(account)))["s1"]
    assert found.state is S.UNHEALTHY
    assert "ealth checks" in found.detail


async def test_with_draining_as_out_the_delay_is_not_awaited(account: Account) -> None:
    made, (first, *_) = driver(account, target_group="web", out_when="draining"), servers(account)
    await made.deregister([first])
    found = await state(made, first)
    assert (found.state, found.in_flight) == (S.ABSENT, None)


async def test_targets_have_the_port_that_is_set_and_the_zone(account: Account) -> None:
    account.pools["far"] = Pool("far", "ip")
    away = Server("rack-1", "rack-1", "192.168.7.1", 0, "")
    made = driver(account, target_group="far", port=8081, zone="all")
    await made.register([away])
    assert list(account.pools["far"].members) == [("192.168.7.1", 8081)]
    with pytest.raises(InvalidRequest, match="VPC CIDR"):
        await driver(account, target_group="far").register([away])


# Instances that are gone


async def test_instances_that_are_gone_are_out_and_keep_nobody_from_leaving(account: Account, kind: str) -> None:
    made, everyone = driver(account, kind), servers(account)
    account.instances["i-2"].state = "terminated"
    del account.instances["i-4"]
    account.pools["web"].members.pop(("i-4", 80))
    await made.deregister(everyone)
    for _ in range(3):
        found = await made.states(everyone)
    assert {one.state for one in found.values()} == {S.ABSENT}


async def test_one_that_cannot_be_registered_is_named_and_the_others_are_in(account: Account, kind: str) -> None:
    made, everyone = driver(account, kind), servers(account)
    account.pools["web"].members.clear()
    account.instances["i-3"].state = "stopped"
    with pytest.raises(InvalidRequest, match=r"cannot register instance s3 .*must run") as found:
        await made.register(everyone)
    assert found.value.code == "ELB_INVALID_INSTANCE"
    assert {id for id, _ in account.pools["web"].members} == {"i-1", "i-2", "i-4"}


async def test_all_that_cannot_be_registered_are_told_apart_from_the_others(account: Account, kind: str) -> None:
    made, everyone = driver(account, kind), [*servers(account), Server("rack-1", "rack-1", "10.0.0.99")]
    account.instances["i-1"].state = account.instances["i-3"].state = "stopped"
    with pytest.raises(NotTaken) as found:
        await made.register(everyone)
    assert set(found.value.why) == {"s1", "s3", "rack-1"}
    account.denied.add(CHANGES[kind][0])
    with pytest.raises(InvalidRequest, match="aws policy") as refused:
        await made.register(everyone)
    assert not isinstance(refused.value, NotTaken), "an error of all of them"


async def test_another_vpc_is_told(account: Account) -> None:
    account.instances["i-9"] = Instance("10.9.0.1", vpc="vpc-9")
    with pytest.raises(InvalidRequest, match=r"not in the target group VPC.*vpc-1"):
        await driver(account).register(servers(account)[-1:])


async def test_without_an_id_it_is_unknown_and_named(account: Account, kind: str) -> None:
    made, away = driver(account, kind), Server("rack-1", "rack-1", "10.0.0.99")
    found = await state(made, away)
    assert found.state is S.UNKNOWN
    assert "no EC2 instance id" in found.detail
    with pytest.raises(InvalidRequest, match=r"rack-1.*no EC2 instance id"):
        await made.deregister([*servers(account), away])
    assert asked(account, *CHANGES[kind]) == [4]


# Few calls


async def test_many_targets_take_few_calls(kind: str) -> None:
    account = Account(tuple(f"i-{n}" for n in range(1000))).settled()
    made, everyone = driver(account, kind), servers(account)
    await made.states(everyone)
    before = len(account.calls)
    for _ in range(3):
        await made.states(everyone)
    assert len(account.calls) == before + 3
    await made.deregister(everyone)
    await made.register(everyone)
    assert asked(account, *CHANGES[kind]) == [200] * 10


async def test_one_call_tells_of_all_targets_of_a_group(account: Account) -> None:
    account.pools["api"] = Pool("api")
    account.settled("web", "api")
    made = driver(account, target_groups=["web", "api"])
    await states(made, account)
    account.calls.clear()
    await states(made, account)
    assert account.made == ["describe_target_health"] * 2


async def test_the_calls_are_those_that_the_policy_allows(account: Account, kind: str) -> None:
    made, (first, *_) = driver(account, kind), servers(account)
    await made.check([first])
    await made.deregister([first])
    await made.states([first])
    await made.register([first])
    assert set(account.made) == {right.operation for right in FEATURES[kind]}


# Bad luck


async def test_throttled_it_is_unknown_for_as_long_as_it_may_take(account: Account, kind: str) -> None:
    made, (first, *_) = driver(account, kind), servers(account)
    await made.states([first])
    account.throttled = 1
    found = await state(made, first)
    assert found.state is S.UNKNOWN
    assert "throttles" in found.detail
    assert found.lasts == 30
    assert (await state(made, first)).state is S.HEALTHY
    account.throttled = 1
    with pytest.raises(Unavailable, match="throttles") as raised:
        await made.deregister([first])
    assert raised.value.code == "THROTTLED"


async def test_what_is_not_allowed_is_named(account: Account, kind: str) -> None:
    made, (first, *_) = driver(account, kind), servers(account)
    account.denied = set(CHANGES[kind])
    action = "".join(word.title() for word in CHANGES[kind][1].split("_"))
    with pytest.raises(InvalidRequest, match=f"elasticloadbalancing:{action}.*shiftwork aws policy") as raised:
        await made.deregister([first])
    assert raised.value.code == "IAM_ROLE_PERMISSIONS"


async def test_one_group_that_refuses_keeps_the_others_from_nothing(account: Account) -> None:
    account.pools["api"] = Pool("api")
    account.settled("web", "api")
    made, (first, *_) = driver(account, target_groups=["web", "api"]), servers(account)
    await made.states([first])
    account.throttled = 1
    with pytest.raises(Unavailable):
        await made.deregister([first])
    assert asked(account, "deregister_targets") == [1]


# What would go wrong


async def problems(account: Account, kind: str = "elbv2", *more: Server, **settings: object) -> list[Any]:
    return list(await driver(account, kind, **settings).check([*servers(account), *more]))


async def one(account: Account, kind: str = "elbv2", *more: Server, **settings: object) -> Any:
    (found,) = await problems(account, kind, *more, **settings)
    return found


async def test_a_sound_setup_has_no_problem(account: Account, kind: str) -> None:
    assert await problems(account, kind) == []


async def test_a_group_or_balancer_that_is_not_there(account: Account) -> None:
    found = await one(account, target_groups=["web", "wbe"])
    assert found.fatal
    assert found.code == "ELASTIC_LOAD_BALANCING_INVALID"
    assert "wbe" in found.message
    assert "correct `target_group`, `region` or `role_arn`" in found.message
    assert "cannot find classic load balancer old" in (await one(account, "elb", load_balancer="old")).message
    made = driver(account, target_group="wbe")
    assert set((await states(made, account)).values()) == {S.UNKNOWN}


async def test_a_group_that_nothing_uses(account: Account) -> None:
    account.pools["web"].balancers = ()
    found = await one(account)
    assert found.fatal
    assert "no load balancer uses target group web" in found.message
    assert set((await states(driver(account), account)).values()) == {S.UNHEALTHY}


async def test_a_zone_that_the_balancer_does_not_serve(account: Account) -> None:
    account.instances["i-2"].zone = "us-east-1f"
    found = await one(account)
    assert (found.fatal, found.instance) == (True, "s2")
    assert "enable the target's zone" in found.message


async def test_targets_of_another_type(account: Account) -> None:
    account.pools["fn"] = Pool("fn", "lambda")
    assert "targets of type lambda" in (await one(account, target_group="fn")).message


async def test_a_check_that_nobody_passes(account: Account, kind: str) -> None:
    account.probe = lambda id: False
    await states(driver(account, kind), account)
    found = await one(account, kind)
    assert not found.fatal
    assert "passes its health check" in found.message


async def test_an_instance_without_id_or_address(account: Account, kind: str) -> None:
    found = await one(account, kind, Server("rack-1", "rack-1", "10.0.0.99"))
    assert (found.fatal, found.instance, found.code) == (True, "rack-1", "ELB_INVALID_INSTANCE")
    account.pools["api"] = Pool("api", "ip")
    assert "address is not known" in (await one(account, "elbv2", Server("x", "x"), target_group="api")).message


async def test_a_target_with_another_port(account: Account) -> None:
    account.pools["web"].members["i-1", 8081] = Member("healthy")
    found = await one(account)
    assert (found.fatal, found.instance) == (False, "s1")
    assert "with port 8081, and would be taken out and put back with 80 alone" in found.message
    del account.pools["web"].members["i-1", 80]
    assert (await one(account)).fatal
    assert "s1" not in [p.instance for p in await problems(account, target_group="web", port=8081) if p.fatal]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"deregistration_delay.timeout_seconds": "300"}, "every batch waits for; lower it"),
        ({"load_balancing.cross_zone.enabled": "false"}, "within a zone"),
        (
            {"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "60"},
            "fewer than 60 % are healthy",
        ),
        ({"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "3"}, "fewer than 3 are"),
    ],
)
async def test_traps_are_worth_a_word(account: Account, attributes: dict[str, str], said: str) -> None:
    account.pools["web"].attributes = attributes
    found = await one(account)
    assert not found.fatal
    assert said in found.message


async def test_network_balancers_have_traps_of_their_own(account: Account) -> None:
    account.network = {"web"}
    found = await problems(account)
    assert [p.fatal for p in found] == [False, False]
    assert "within a zone" in found[0].message
    assert "connections established" in found[1].message
    account.balancer_attributes = {"web": {"load_balancing.cross_zone.enabled": "true"}}
    account.pools["web"].attributes = {"deregistration_delay.connection_termination.enabled": "true"}
    assert await problems(account) == []


async def test_classic_balancers_that_cut_or_keep_to_a_zone(account: Account) -> None:
    account.pools["web"].draining = account.pools["web"].cross_zone = False
    found = await problems(account, "elb")
    assert [p.fatal for p in found] == [False, False]
    assert "turn on connection draining" in found[0].message


async def test_without_the_right_to_look(account: Account, kind: str) -> None:
    account.denied = {"describe_load_balancers"}
    found = await one(account, kind)
    assert found.fatal is (kind == "elb")
    assert "elasticloadbalancing:DescribeLoadBalancers" in found.message
    account.denied = {"describe_target_health", "describe_instance_health"}
    assert (await one(account, kind)).fatal


# Settings


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("elbv2", {}, "`target_group` is missing"),
        ("elbv2", {"target_group": "a", "target_groups": ["b"]}, "both given"),
        ("elbv2", {"target_groups": ["a", "a"]}, "one value twice"),
        ("elbv2", {"target_groups": [f"g{n}" for n in range(21)]}, "at most 20"),
        ("elbv2", {"target_group": "a", "port": 70000}, "`port` is 70000"),
        ("elbv2", {"target_group": "a", "out_when": "never"}, "out_when"),
        ("elbv2", {"target_group": "a", "group": "b"}, "its settings are: target_group"),
        (
            "elbv2",
            {"target_groups": [f"arn:aws:elasticloadbalancing:{r}:1:targetgroup/{r}/1" for r in ("eu-1", "us-1")]},
            "an entry for each region",
        ),
        ("elb", {}, "name 1 to 20"),
        ("elb", {"load_balancer": "a", "port": 1}, "its settings are: load_balancer"),
    ],
)
def test_settings_that_cannot_work_are_refused(kind: str, settings: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as found:
        connect(kind, settings, MemoryGates())
    assert found.value.code == "INVALID_LOAD_BALANCER"


def test_the_groups_region_and_role_are_the_balancers_unless_it_has_its_own() -> None:
    assert placed("elbv2", {"target_group": "a"}, "eu-1", "r") == {
        "target_group": "a",
        "region": "eu-1",
        "role_arn": "r",
    }
    assert placed("elb", {"region": "us-1"}, "eu-1", "") == {"region": "us-1"}
    assert placed("haproxy", {}, "eu-1", "r") == {}


# moto


@pytest.fixture
def moto(aws: Any) -> InMoto:
    return in_moto()


@pytest.mark.parametrize("which", ["group", "second", "both", "classic"])
async def test_in_moto_over_http(moto: InMoto, which: str) -> None:
    names = {"group": [moto.group], "second": ["by-address"], "both": [moto.group, moto.second]}
    wanted: dict[str, object] = {"target_groups": names.get(which)} if which in names else {"load_balancer": "old"}
    made = connect("elb" if which == "classic" else "elbv2", wanted, MemoryGates())
    first, *others = moto.servers
    assert [p for p in await made.check(moto.servers) if p.fatal] == []
    await made.deregister([first])
    await made.deregister([first])
    found = await made.states(moto.servers)
    if which == "classic":  # of what is not registered moto says nothing that AWS says
        assert found[first.instance].state is S.UNKNOWN
        listed = client("elb").describe_load_balancers(LoadBalancerNames=["old"])["LoadBalancerDescriptions"][0]
        assert [one["InstanceId"] for one in listed["Instances"]] == [other.cloud_id for other in others]
    else:
        assert found[first.instance].state is S.ABSENT
    assert {found[other.instance].state for other in others} == {S.HEALTHY}
    await made.register(moto.servers)
    assert {one.state for one in (await made.states(moto.servers)).values()} == {S.HEALTHY}


async def test_in_moto_what_is_not_there_is_named(moto: InMoto) -> None:
    for kind, wanted in (("elbv2", {"target_group": "nobody"}), ("elb", {"load_balancer": "nobody"})):
        (found,) = await connect(kind, wanted, MemoryGates()).check(moto.servers)
        assert found.fatal
        assert "nobody" in found.message
        assert found.code == "ELASTIC_LOAD_BALANCING_INVALID"
