"""Blue/green of Auto Scaling groups by weights, in the driver: whole deployments, a crash after each call there and
back, what is kept of listeners, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.drivers.test_blue_green import HELD, LET_GO, REAL, A, in_moto, stands, with_moto
from tests.drivers.weighed_account import BLUE, GREEN, LISTENER, LOGIN, RULE, Weighed, web

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.settings import BlueGreen as Wanted
from shiftwork_coordinator.model.settings import GroupSettings, Instances, Originals, Weights
from shiftwork_coordinator.ports import ShiftReading
from shiftwork_coordinator.shifters import asking, weighing
from shiftwork_coordinator.shifters.blue_green import BlueGreen

BOTH = (BLUE, GREEN)
COPY = ScalingGroup("autoscaling:web", "web", "d-1", "web-d-1", True)
SWAP = ScalingGroup("autoscaling:web", "web", "d-1", "web-b")
KINDS = {"copy": COPY, "swap": SWAP}
CALLS = {
    "copy": [
        "modify_listener", "create_auto_scaling_group", "suspend_processes", "put_scaling_policy",
        "enable_metrics_collection", *HELD, "update_auto_scaling_group",
        "register_targets", "modify_listener", "modify_listener", "deregister_targets",
        "resume_processes", "attach_load_balancer_target_groups", "put_scaling_policy", "put_warm_pool",
        "update_auto_scaling_group", *LET_GO, *HELD,
        "update_auto_scaling_group", "delete_auto_scaling_group", "delete_tags",
    ],
    "swap": [
        "modify_listener", "create_or_update_tags", *HELD, *HELD, "update_auto_scaling_group",
        "register_targets", "modify_listener", "modify_listener", "deregister_targets",
        "resume_processes", "attach_load_balancer_target_groups", *LET_GO, *HELD,
        "set_instance_protection", "update_auto_scaling_group", *LET_GO, "delete_tags",
    ],
}  # fmt: skip
CUTS = [(kind, n + 1) for kind, calls in CALLS.items() for n in range(len(calls))]


def standby(**fields: Any) -> dict[str, Any]:
    return web("web-b", **{"MinSize": 0, "MaxSize": 6, "DesiredCapacity": 0, "TargetGroupARNs": [], **fields})


@pytest.fixture(params=("copy", "swap"))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Weighed]:
    def made(kind: str) -> Weighed:
        account = Weighed(*((web(),) if kind == "copy" else (web(), standby())))
        monkeypatch.setattr(asking, "of", lambda at: account.ask)
        return account

    return made


def settings(weights: Weights | None = None, group: str = "web", keep: bool = False) -> GroupSettings:
    originals = Originals(then="keep" if keep else "terminate")
    wanted = Wanted(shift=weights or Weights(BOTH, LISTENER))
    return GroupSettings(Instances(autoscaling=(group,)), blue_green=wanted, originals=originals)


def driver(weights: Weights | None = None, **more: Any) -> BlueGreen:
    return BlueGreen(settings(weights, **more))


async def reading(made: BlueGreen, one: ScalingGroup) -> ShiftReading:
    return (await made.readings([one]))[one.name]


async def patiently(work: Callable[[], Any], done: Callable[[], Any]) -> None:
    """As the engine does it: asked for until it shows, whatever gets lost."""
    for _ in range(12):
        try:
            await work()
        except Unavailable:
            continue
        if await done():
            return
    raise AssertionError("never")


class Engine:
    """What it asks for in order; instances are the load balancers' driver's. `sides`: the original's target group and
    the other one."""

    def __init__(self, account: Weighed, one: ScalingGroup, sides: tuple[str, str] = BOTH, keep: bool = False) -> None:
        self.account, self.one, self.sides = account, one, sides
        self.made = driver(Weights(sides, LISTENER), keep=keep)

    async def arranged(self, wanted: A) -> None:
        async def shows() -> bool:
            return wanted in (await reading(self.made, self.one)).holds

        await patiently(lambda: self.made.arrange(self.one, wanted), shows)

    async def weight(self, share: float) -> None:
        async def shows() -> bool:
            return (await reading(self.made, self.one)).weight == share

        await patiently(lambda: self.made.set_weight(self.one, share), shows)

    async def targets(self, verb: str, group: str, side: int) -> None:
        ids = self.account.ids(group) if group in self.account.groups else []
        given = {"TargetGroupArn": self.sides[side], "Targets": [{"Id": id} for id in ids]}

        async def there() -> bool:
            registered = self.account.traffic[self.sides[side]]
            return set(ids) <= registered if verb == "register" else not set(ids) & registered

        if ids and not await there():
            await patiently(lambda: self.account.ask("elbv2", f"{verb}_targets", **given), there)

    async def go(self, steps: int = 99) -> None:
        one = self.one
        for step in [
            lambda: self.arranged(A.PROVISIONED),
            lambda: self.targets("register", one.replacement, 1),
            lambda: self.weight(0.25),
            lambda: self.weight(1.0),
            lambda: self.targets("deregister", one.group, 0),
            lambda: self.arranged(A.PROMOTED),
            lambda: self.arranged(A.RETIRED),
        ][:steps]:
            await step()
            assert self.account.leaks == [], "no request before the engine says so"

    async def back(self) -> None:
        await self.targets("register", self.one.group, 0)
        await self.weight(0.0)
        await self.targets("deregister", self.one.replacement, 1)
        await self.arranged(A.ABANDONED)


def ended(account: Weighed, kind: str) -> None:
    name = KINDS[kind].replacement
    stands = account.stands()
    assert stands[name] == {
        "sizes": [2, 6, 3], "instances": 3, "rests": [], "attached": [GREEN], "notes": [], "protected": True,
    }  # fmt: skip
    assert stands.keys() == ({name} if kind == "copy" else {"web", name})
    if kind == "swap":
        assert stands["web"]["sizes"] == [0, 6, 0]
        assert stands["web"]["attached"] == [BLUE]
    assert account.serving() == {GREEN: [name]}
    assert (account.share(GREEN), account.cut) == (100, [])


def as_before(account: Weighed, kind: str, before: dict[str, Any]) -> None:
    """But for the standby's, which is attached to the other target group once it was to take over."""
    now = account.stands()
    if kind == "swap":
        assert now["web-b"].pop("attached") in ([], [GREEN])
        before = {**before, "web-b": {k: v for k, v in before["web-b"].items() if k != "attached"}}
    assert now == before
    assert account.serving() == {BLUE: ["web"]}
    assert (account.share(BLUE), account.cut, account.leaks) == (100, [], [])


async def test_a_whole_deployment_and_its_calls(make: Any, kind: str) -> None:
    account = make(kind)
    await Engine(account, KINDS[kind]).go()
    assert account.changes == CALLS[kind]
    assert account.shares == [0, 25, 100]
    ended(account, kind)


@pytest.mark.parametrize(("which", "call"), CUTS)
async def test_cut_off_after_any_call_it_ends_as_it_should(make: Any, which: str, call: int) -> None:
    account = make(which)
    account.lost_at = call
    await Engine(account, KINDS[which]).go()
    ended(account, which)


@pytest.mark.parametrize(("which", "steps"), [(kind, steps) for kind in KINDS for steps in range(7)])
async def test_from_any_step_there_is_a_way_back(make: Any, which: str, steps: int) -> None:
    account = make(which)
    before, engine = account.stands(), Engine(account, KINDS[which])
    await engine.go(steps)
    await engine.back()
    as_before(account, which, before)


@pytest.mark.parametrize(("which", "call"), [(kind, call) for kind, call in CUTS if call < len(CALLS[kind]) - 3])
async def test_from_any_call_there_is_a_way_back(make: Any, which: str, call: int) -> None:
    """Until the original is let go, which is not taken back. The one that is lost is never asked for again."""
    account = make(which)
    before, engine = account.stands(), Engine(account, KINDS[which])
    account.lost_at = call
    for attempt in (
        lambda: engine.made.arrange(engine.one, A.PROVISIONED),
        lambda: engine.go(2),
        lambda: engine.made.set_weight(engine.one, 0.25),
        lambda: engine.made.set_weight(engine.one, 1.0),
        lambda: engine.targets("deregister", engine.one.group, 0),
        lambda: engine.made.arrange(engine.one, A.PROMOTED),
    ):
        if len(account.changes) < call:
            try:
                await attempt()
            except Unavailable:
                break
    await engine.back()
    as_before(account, which, before)


@pytest.mark.parametrize("steps", [3, 6])
async def test_cut_off_on_the_way_back_it_ends_as_it_was(make: Any, kind: str, steps: int) -> None:
    lost = 0
    while True:
        account = make(kind)
        before, engine = account.stands(), Engine(account, KINDS[kind])
        await engine.go(steps)
        lost += 1
        account.lost_at = (done := len(account.changes)) + lost
        await engine.back()
        as_before(account, kind, before)
        if len(account.changes) < done + lost:
            break
    assert lost > 3


async def test_the_next_deployment_goes_the_other_way(make: Any, kind: str) -> None:
    account, first = make(kind), KINDS[kind]
    await Engine(account, first).go()
    wanted = await weighing.oriented(settings(group=first.replacement))
    assert wanted.weights is not None
    assert wanted.weights.target_groups == (GREEN, BLUE)
    account.shares.clear()
    then = replace(first, group=first.replacement, token="d-2", replacement="web" if kind == "swap" else "web-d-2")
    account.look(then.group)
    await Engine(account, then, (GREEN, BLUE)).go()
    assert account.serving() == {BLUE: [then.replacement]}
    assert account.shares == [75, 0]
    assert account.stands()[then.replacement]["attached"] == [BLUE]


async def test_policies_count_the_requests_of_the_new_target_group(make: Any) -> None:
    account = make("copy")
    await Engine(account, COPY).go()
    [_, requests] = account.tables["web-d-1"]["policies"]
    tracked = requests["TargetTrackingConfiguration"]["PredefinedMetricSpecification"]
    assert tracked["ResourceLabel"] == "app/web/1/targetgroup/admin/2"


async def test_originals_that_are_kept_leave_their_target_group(make: Any, kind: str) -> None:
    account = make(kind)
    await Engine(account, KINDS[kind], keep=True).go()
    assert account.stands()["web"]["attached"] == []
    assert account.serving() == {GREEN: [KINDS[kind].replacement]}


@pytest.mark.parametrize("arn", [LISTENER, RULE])
async def test_the_other_actions_stay_and_so_does_stickiness(make: Any, arn: str) -> None:
    account = make("copy")
    sticky = {"Enabled": True, "DurationSeconds": 60}
    account.routes[arn][1] = {
        "Type": "forward", "Order": 2,
        "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": BLUE, "Weight": 5}], "TargetGroupStickinessConfig": sticky
        },
    }  # fmt: skip
    made = driver(Weights(BOTH, LISTENER) if arn == LISTENER else Weights(BOTH, rule=arn))
    await made.arrange(COPY, A.PROVISIONED)
    account.look("web-d-1")
    account.register_targets(GREEN, [{"Id": id} for id in account.ids("web-d-1")])
    await made.set_weight(COPY, 0.25)
    login, forward = account.routes[arn]
    assert login == LOGIN
    assert (forward["Order"], forward["ForwardConfig"]["TargetGroupStickinessConfig"]) == (2, sticky)
    assert account.weights(arn) == {BLUE: 75, GREEN: 25}
    other = RULE if arn == LISTENER else LISTENER
    assert account.weights(other) == {BLUE: 1}, "only the one that is named is changed"


async def test_what_is_as_wanted_is_not_written_again(make: Any, kind: str) -> None:
    account = make(kind)
    engine = Engine(account, KINDS[kind])
    await engine.go(3)
    before = list(account.changes)
    await engine.made.arrange(engine.one, A.PROVISIONED)
    await engine.made.set_weight(engine.one, 0.25)
    assert account.changes == before


async def test_nothing_goes_while_requests_go_to_it(make: Any, kind: str) -> None:
    account, engine = (made := make(kind)), Engine(made, KINDS[kind])
    await engine.go(6)
    account.register_targets(BLUE, [{"Id": id} for id in account.ids("web")])
    await engine.weight(0.5)
    with pytest.raises(Unavailable, match="50% of its requests to web"):
        await engine.made.arrange(engine.one, A.RETIRED)
    with pytest.raises(Unavailable, match="50% of its requests to admin"):
        await engine.made.arrange(engine.one, A.ABANDONED)
    assert account.stands()["web"]["instances"] == 3
    assert account.stands()[engine.one.replacement]["instances"] == 3


async def test_no_weight_for_a_group_that_is_not_there(make: Any) -> None:
    account = make("copy")
    with pytest.raises(InvalidRequest, match="no Auto Scaling group 'web-d-1'"):
        await driver().set_weight(COPY, 0.25)
    assert account.changes == []


async def test_a_listener_that_others_use_too_is_not_written_over(make: Any) -> None:
    account = make("copy")
    account.routes[LISTENER][1] = {"Type": "forward", "TargetGroupArn": "arn:x:targetgroup/third/3"}
    with pytest.raises(InvalidRequest, match=r"cannot put admin behind .*: it sends to third 100%"):
        await driver().arrange(COPY, A.PROVISIONED)
    assert account.changes == []
    assert (await reading(driver(), COPY)).weight is None


async def test_readings_tell_the_share_and_what_is_not_provisioned(make: Any) -> None:
    account = make("copy")
    engine = Engine(account, COPY)
    assert (await reading(engine.made, COPY)).weight == 0.0
    await engine.go(3)
    assert (await reading(engine.made, COPY)).weight == 0.25
    account.routes[LISTENER][1] = {"Type": "forward", "TargetGroupArn": BLUE}
    assert A.PROVISIONED not in (await reading(engine.made, COPY)).holds, "nobody checks what no listener knows"
    account.denied = {"describe_listeners"}
    found = await reading(engine.made, COPY)
    assert (found.weight, found.fatal, found.holds) == (None, True, frozenset())


@pytest.mark.parametrize(("attached", "how"), [([], "neither"), ([BLUE, GREEN], "both")])
async def test_whose_target_group_is_whose_must_be_plain(make: Any, attached: list[str], how: str) -> None:
    account = make("copy")
    account.groups["web"]["TargetGroupARNs"] = attached
    with pytest.raises(InvalidRequest, match=f"it is attached to {how}; run `aws autoscaling") as e:
        await weighing.oriented(settings())
    assert e.value.code == "ELASTIC_LOAD_BALANCING_INVALID"


async def test_a_group_that_is_not_there_is_found_missing_by_the_check(make: Any) -> None:
    account = make("copy")
    account.groups.clear()
    assert await weighing.oriented(settings()) == settings()
    assert "no Auto Scaling group 'web'" in (await driver().check([COPY]))[0].message


# What is refused before anything is changed

THIRD = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/third/3"


def sends(**weights: int) -> Callable[[Weighed], None]:
    arns = {"blue": BLUE, "green": GREEN, "third": THIRD}
    groups = [{"TargetGroupArn": arns[name], "Weight": weight} for name, weight in weights.items()]
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
    return lambda account: account.routes[LISTENER].__setitem__(1, action)


def other(**fields: str) -> Callable[[Weighed], None]:
    return lambda account: account.about[GREEN].update(fields)


def fixed(account: Weighed) -> None:
    account.routes[LISTENER][1] = {"Type": "fixed-response"}


def network(account: Weighed) -> None:
    account.network = True


def taken(account: Weighed) -> None:
    account.traffic[GREEN].add("i-stranger")


def gone(account: Weighed) -> None:
    del account.about[GREEN]


def no_listener(account: Weighed) -> None:
    del account.routes[LISTENER]


def misattached(account: Weighed) -> None:
    account.groups["web-b"]["TargetGroupARNs"] = [BLUE]


REFUSED: list[tuple[str, str, Callable[[Weighed], None]]] = [
    ("is of a Network Load Balancer", "copy", network),
    ("forwards to no target group; let it forward to web", "copy", fixed),
    ("forwards to third too", "copy", sends(blue=1, third=0)),
    ("forwards to third too", "copy", sends(third=1)),
    ("it sends to web 50%, admin 50%", "swap", sends(blue=1, green=1)),
    ("it sends to admin 100%", "copy", sends(blue=0, green=1)),
    ("web (vpc-1) and admin (vpc-2) are not of the same VPC", "copy", other(VpcId="vpc-2")),
    ("web (HTTP) and admin (HTTPS) are not of the same protocol", "copy", other(Protocol="HTTPS")),
    ("web (instance) and admin (ip) are not of the same target type", "copy", other(TargetType="ip")),
    ("target groups not found", "copy", gone),
    ("listeners not found", "copy", no_listener),
    ("i-stranger are in the target group admin already", "copy", taken),
    ("web-b is attached to web, the target group of web", "swap", misattached),
]


@pytest.mark.parametrize(("what", "which", "change"), REFUSED, ids=[what for what, _, _ in REFUSED])
async def test_refused(make: Any, what: str, which: str, change: Callable[[Weighed], None]) -> None:
    account = make(which)
    change(account)
    found = [problem for problem in await driver().check([KINDS[which]]) if problem.fatal]
    assert [what in problem.message for problem in found] == [True], found
    assert found[0].code
    assert account.changes == []


@pytest.mark.parametrize("change", [sends(blue=1), sends(blue=3, green=0), lambda account: None])
async def test_not_refused(make: Any, kind: str, change: Callable[[Weighed], None]) -> None:
    account = make(kind)
    account.groups["web"]["Tags"] = []
    change(account)
    assert [problem.message for problem in await driver().check([KINDS[kind]]) if problem.fatal] == []


async def test_the_same_with_moto(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There and back, and then there."""
    import boto3

    monkeypatch.setattr(asking, "of", lambda at: with_moto(REAL(at)))
    scaling, elb = in_moto("copy"), boto3.client("elbv2")
    before = stands(scaling)
    weights = behind_a_listener(elb, before["web"]["TargetGroupARNs"][0])
    made, [_, other] = driver(weights), weights.target_groups
    assert [problem.message for problem in await made.check([COPY]) if problem.fatal] == []
    await made.arrange(COPY, A.PROVISIONED)
    members = [{"Id": id} for id in (await reading(made, COPY)).members]
    elb.register_targets(TargetGroupArn=other, Targets=members)
    await made.set_weight(COPY, 0.25)
    assert (await reading(made, COPY)).weight == 0.25
    with pytest.raises(Unavailable, match="sends 25% of its requests to too"):
        await made.arrange(COPY, A.ABANDONED)
    await made.set_weight(COPY, 0.0)
    elb.deregister_targets(TargetGroupArn=other, Targets=members)
    await made.arrange(COPY, A.ABANDONED)
    assert stands(scaling) == before
    await made.arrange(COPY, A.PROVISIONED)
    await made.set_weight(COPY, 1.0)
    for wanted in (A.PROMOTED, A.RETIRED):
        await made.arrange(COPY, wanted)
        assert wanted in (await reading(made, COPY)).holds
    assert stands(scaling)["web-d-1"]["TargetGroupARNs"] == [other]
    assert stands(scaling).keys() == {"web-d-1"}
    assert (await reading(made, COPY)).weight == 1.0


def behind_a_listener(elb: Any, target_group: str) -> Weights:
    """It and another one, of which the listener knows the first."""
    import boto3

    subnets = boto3.client("ec2").describe_subnets()["Subnets"][:2]
    other = elb.create_target_group(Name="too", Protocol="HTTP", Port=80, VpcId=subnets[0]["VpcId"])["TargetGroups"][0]
    balancer = elb.create_load_balancer(Name="web", Subnets=[one["SubnetId"] for one in subnets])["LoadBalancers"][0]
    listener = elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
    )["Listeners"][0]  # fmt: skip
    return Weights((target_group, other["TargetGroupArn"]), listener["ListenerArn"])
