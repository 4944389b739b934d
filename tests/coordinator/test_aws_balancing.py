"""Load balancers of AWS's stand-in: where requests go, how targets come and go, and that traffic follows."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import boto3
import botocore.exceptions
import pytest
from tests.answering import Answering, answering

from shiftwork_coordinator.lab.aws.balancing import forwarding, health
from shiftwork_coordinator.lab.aws.balancing.forwarding import Head, Rule
from shiftwork_coordinator.lab.aws.balancing.health import Group, Target, Targets
from shiftwork_coordinator.lab.aws.standin import StandIn, running

# Where a request goes


def to(group: str) -> list[Any]:
    return [{"Type": "forward", "TargetGroupArn": group}]


def when(field: str, *values: Any, **more: Any) -> dict[str, Any]:
    config = "".join(word.title() for word in field.split("-")) + "Config"
    return {"Field": field, config: {"Values": list(values), **more}}


RULES = [
    Rule("default", [], to("web")),
    Rule("20", [when("path-pattern", "/img/*", "/css/*")], to("static")),
    Rule("10", [when("path-pattern", "/img/secret*")], [{"Type": "fixed-response"}]),
    Rule("30", [when("host-header", "*.example.org")], to("hosted")),
    Rule("40", [when("http-header", "yes", HttpHeaderName="X-Canary"), when("http-request-method", "GET")], to("new")),
    Rule("50", [when("query-string", {"Key": "v", "Value": "2*"})], to("second")),
    Rule("60", [{"Field": "path-pattern", "Values": ["/old"]}], [{"Type": "authenticate-oidc"}, *to("old")]),
    Rule("70", [when("source-ip", "10.0.0.0/8")], to("nobody")),
]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Head(), "web"),
        (Head(path="/css/a.css"), "static"),
        (Head(path="/img/secret.png"), ""),
        (Head(headers={"host": "a.Example.org:80"}), "hosted"),
        (Head(headers={"host": "example.org"}), "web"),
        (Head(headers={"x-canary": "Yes"}), "new"),
        (Head("POST", headers={"x-canary": "yes"}), "web"),
        (Head(query="a=1&v=22"), "second"),
        (Head(query="v=1"), "web"),
        (Head(path="/old"), "old"),
    ],
)
def test_the_first_rule_that_fits_decides(head: Head, expected: str) -> None:
    found = forwarding.weights(forwarding.action(RULES, head))
    assert list(found) == ([expected] if expected else [])


def test_a_draw_falls_on_a_target_group_by_weight() -> None:
    shares = {"a": 0, "b": 1, "c": 3}
    assert [forwarding.drawn(shares, n / 8) for n in range(8)] == ["b"] * 2 + ["c"] * 6
    assert forwarding.drawn({"a": 0}, 0.5) == forwarding.drawn({}, 0.5) == ""
    assert forwarding.used(RULES) == {"web", "static", "hosted", "new", "second", "old", "nobody"}


# How targets come and go


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    monotonic = now


class Lot:
    """A target group of which everything is decided by the test."""

    def __init__(self, **about: Any) -> None:
        self.clock, self.used, self.wrong = Hands(), True, dict[str, str]()
        self.targets = Targets(self.check, self.clock, lambda id: id, lambda group: self.used)
        self.targets.know(Group("g", "HTTP", 80, **({"draining": 5.0, "healthy": 3, "unhealthy": 2} | about)))

    async def check(self, address: str, about: Group, target: Target) -> str:
        return self.wrong.get(target.id, "")

    async def after(self, checks: int = 1) -> dict[str, tuple[str, str]]:
        for _ in range(checks):
            await self.targets.check()
        return self.states()

    def states(self) -> dict[str, tuple[str, str]]:
        return {target.id: state for target, state in self.targets.states("g").items()}


async def test_one_check_makes_a_new_target_healthy_and_the_threshold_one_that_was_sick() -> None:
    lot = Lot()
    lot.targets.register("g", [("a", None)])
    assert lot.states() == {"a": ("initial", "Elb.RegistrationInProgress")}
    assert await lot.after() == {"a": ("healthy", "")}
    lot.wrong["a"] = "Target.Timeout"
    assert await lot.after() == {"a": ("healthy", "")}
    assert await lot.after() == {"a": ("unhealthy", "Target.Timeout")}
    lot.wrong.clear()
    assert (await lot.after(2))["a"][0] == "unhealthy"
    assert (await lot.after())["a"][0] == "healthy"


async def test_a_target_that_never_passes_is_initial_and_then_unhealthy() -> None:
    lot = Lot()
    lot.targets.settings = health.Settings(sick=("a",))
    lot.targets.register("g", [("a", None)])
    assert await lot.after() == {"a": ("initial", "Elb.InitialHealthChecking")}
    assert await lot.after() == {"a": ("unhealthy", "Target.FailedHealthChecks")}


async def test_one_that_leaves_gets_nothing_more_and_drains_for_the_groups_delay() -> None:
    lot = Lot()
    lot.targets.register("g", [("a", None), ("b", 81), ("b", 82)])
    await lot.after()
    lot.targets.deregister("g", [("a", None), ("b", 82)])
    assert lot.targets.taking("g") == [Target("b", 81)]
    assert lot.states()["a"] == ("draining", "Target.DeregistrationInProgress")
    lot.clock.at += 4.9
    assert len(lot.targets.states("g")) == 3
    lot.clock.at += 0.2
    assert set(lot.targets.states("g")) == {Target("b", 81)}


async def test_when_none_is_healthy_all_get_requests_and_a_group_without_listener_is_unused() -> None:
    lot = Lot()
    lot.targets.register("g", [("a", None), ("b", None)])
    lot.wrong = {"a": "no"}
    await lot.after(2)
    assert lot.targets.taking("g") == [Target("b", 80)]
    lot.wrong = {"a": "no", "b": "no"}
    await lot.after(2)
    assert len(lot.targets.taking("g")) == 2
    lot.used = False
    assert set(lot.states().values()) == {("unused", "Target.NotInUse")}


def test_matchers() -> None:
    assert [health.fits("200,301-303", status) for status in (200, 201, 301, 303, 304)] == [True, False, True, True,
                                                                                           False]  # fmt: skip


# All of it, over the API


@pytest.fixture
async def standin(aws: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandIn]:
    async with running(aws.url, tmp_path, seed=7) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        found.balancing.targets.settings = health.Settings(check_every=0.02)
        yield found


async def thread(work: Any, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(work, *args, **kwargs)


class Site:
    """A load balancer whose listener forwards to `blue`; groups answer at their own address, asked at /health."""

    def __init__(self, protocol: str = "HTTP") -> None:
        self.api, ec2 = boto3.client("elbv2"), boto3.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
        kind = "application" if protocol == "HTTP" else "network"
        made = self.api.create_load_balancer(Name="web", Subnets=[subnet], Type=kind)["LoadBalancers"][0]
        self.blue, self.green = (self._group(name, protocol, vpc) for name in ("blue", "green"))
        self.balancer = made["LoadBalancerArn"]
        told = self.api.create_listener(
            LoadBalancerArn=self.balancer, Protocol=protocol, Port=80, DefaultActions=to(self.blue)
        )
        self.listener = told["Listeners"][0]["ListenerArn"]

    def _group(self, name: str, protocol: str, vpc: str) -> str:
        path = {"HealthCheckPath": "/health"} if protocol == "HTTP" else {}
        told = self.api.create_target_group(
            Name=name, Protocol=protocol, Port=80, VpcId=vpc, TargetType="ip", HealthCheckProtocol=protocol, **path
        )
        group = told["TargetGroups"][0]["TargetGroupArn"]
        delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "1"}
        self.api.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
        return str(group)

    def register(self, group: str, *apps: Answering) -> None:
        self.api.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": a.port} for a in apps])

    def share(self, green: int) -> None:
        groups = [{"TargetGroupArn": self.blue, "Weight": 100 - green}, {"TargetGroupArn": self.green, "Weight": green}]
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
        self.api.modify_listener(ListenerArn=self.listener, DefaultActions=[action])

    def states(self, group: str) -> dict[int, str]:
        told = self.api.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return {one["Target"]["Port"]: one["TargetHealth"]["State"] for one in told}


async def healthy(site: Site, group: str, count: int) -> None:
    async with asyncio.timeout(10):
        while list((await thread(site.states, group)).values()).count("healthy") < count:
            await asyncio.sleep(0.02)


async def asked(url: str, times: int, path: str = "/") -> Counter[str]:
    found: Counter[str] = Counter()
    async with aiohttp.ClientSession() as session:
        for _ in range(times):
            async with session.get(url + path) as got:
                found[got.headers.get("X-Version", str(got.status))] += 1
    return found


async def test_requests_follow_weights_and_health(standin: StandIn) -> None:
    site = await thread(Site)
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(answering(v)) for v in ("a", "b", "new")]
        a, b, new = apps
        url = standin.balancing.routes()[site.listener]
        assert await asked(url, 1) == {"503": 1}
        await thread(site.register, site.blue, a, b)
        await thread(site.register, site.green, new)
        await healthy(site, site.blue, 2)
        assert await thread(site.states, site.green) == {new.port: "unused"}
        assert await asked(url, 20) == {"a": 10, "b": 10}
        await thread(site.share, 0)
        await healthy(site, site.green, 1)
        assert (await asked(url, 20))["new"] == 0
        await thread(site.share, 25)
        found = await asked(url, 400)
        assert abs(found["new"] - 100) <= 4 * math.sqrt(400 * 0.25 * 0.75), found
        b.health = 500
        async with asyncio.timeout(10):
            while (await thread(site.states, site.blue))[b.port] != "unhealthy":
                await asyncio.sleep(0.02)
        assert (await asked(url, 40))["b"] == 0
        leaving = [{"Id": "127.0.0.1", "Port": a.port}, {"Id": "127.9.9.9", "Port": 1}]
        await thread(site.api.deregister_targets, TargetGroupArn=site.blue, Targets=leaving)
        assert (await thread(site.states, site.blue))[a.port] == "draining"
        assert (await asked(url, 40))["a"] == 0
        async with asyncio.timeout(5):
            while a.port in await thread(site.states, site.blue):
                await asyncio.sleep(0.1)
        told = await thread(site.api.describe_target_health, TargetGroupArn=site.blue, Targets=leaving[1:])
        assert told["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"


async def test_rules_change_and_go_and_a_listener_with_its_balancer(standin: StandIn) -> None:
    site = await thread(Site)
    async with answering("new") as new:
        await thread(site.register, site.green, new)
        url = standin.balancing.routes()[site.listener]
        path = [{"Field": "path-pattern", "Values": ["/new*"]}]
        fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418", "ContentType": "text/plain"}}
        made = await thread(
            site.api.create_rule, ListenerArn=site.listener, Priority=5, Conditions=path, Actions=[fixed]
        )
        rule = made["Rules"][0]["RuleArn"]
        assert await asked(url, 1, "/new") == {"418": 1}
        await thread(site.api.modify_rule, RuleArn=rule, Actions=to(site.green))
        assert await asked(url, 1, "/new/x?y=1") == {"new": 1}
        await thread(site.api.delete_rule, RuleArn=rule)
        assert await asked(url, 1, "/new") == {"503": 1}
        await thread(site.api.delete_load_balancer, LoadBalancerArn=site.balancer)
        with pytest.raises(aiohttp.ClientConnectionError):
            await asked(url, 1)


async def test_a_target_that_breaks_off_is_502_and_no_weight_beyond_what_aws_takes(standin: StandIn) -> None:
    site = await thread(Site)
    async with answering("gone") as gone:
        pass
    await thread(site.register, site.blue, gone)
    assert await asked(standin.balancing.routes()[site.listener], 1) == {"502": 1}
    with pytest.raises(botocore.exceptions.ClientError, match="ValidationError"):
        await thread(site.share, 1001)


async def test_a_network_listener_joins_connections(standin: StandIn) -> None:
    site = await thread(Site, "TCP")
    async with answering("tcp") as app:
        await thread(site.register, site.blue, app)
        await healthy(site, site.blue, 1)
        port = int(standin.balancing.routes()[site.listener].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\ntcp")
        writer.close()


async def test_what_is_asked_of_the_stand_in_itself(standin: StandIn) -> None:
    site = await thread(Site)
    async with aiohttp.ClientSession() as session:

        async def own(method: str, what: str, body: Any = None) -> Any:
            async with session.request(method, f"{standin.url}/_lab/{what}", json=body) as got:
                return await got.json()

        assert await own("GET", "listeners") == standin.balancing.routes()
        assert list(await own("GET", "listeners")) == [site.listener]
        assert await own("PUT", "addresses", {"i-1": "127.77.0.1"}) == {}
        assert await own("PUT", "targets", {"check_every": 1.0, "sick": ["i-1"]}) == {}
        assert standin.balancing.targets.settings.sick == ("i-1",)
        assert standin.balancing.targets.address("i-1") == "127.77.0.1"
        assert "GET listeners" in (await own("GET", "nonsense"))["message"]
