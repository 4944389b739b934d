"""Reading a shiftwork.yml: durations, names, and the place of what is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.applying import apply, numbers, read
from shiftwork_coordinator.checking import check_health
from shiftwork_coordinator.model.config import TimeBasedCanary
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import Health
from shiftwork_coordinator.store import Put

BASE = "application: web\ngroups:\n  production:\n    instances: {names: [web-1]}\n"
GOOD = Revision("sha256:" + "a" * 64, "coordinator:")


@pytest.mark.parametrize(
    ("written", "expected"), [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1.5h", 5400.0), ("7", "7"), (7, 7)]
)
def test_durations_become_seconds(written: Any, expected: Any) -> None:
    assert numbers({"quiet": {"at_most": written}}) == {"quiet": {"at_most": expected}}


def test_only_durations_do() -> None:
    given = {"environment": {"timeout": "30s"}, "tags": {"event": ["5m"]}, "description": "30s"}
    assert numbers(given) == given


def test_a_group_may_be_called_like_a_duration() -> None:
    text = BASE.replace("production:", "event:") + "    bake: 1m\n"
    assert read(text, "f").groups["event"].bake == 60.0


def test_config_names_have_their_prefix_or_get_it() -> None:
    for name in ("HalfAtATime", "CodeDeployDefault.HalfAtATime"):
        found = read(BASE + f"    config: {name}\n", "f").groups["production"]
        assert found.config == "CodeDeployDefault.HalfAtATime"
    assert read(BASE + "    config: Careful\n", "f").groups["production"].config == "Careful"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f:1:1: the file is empty"),
        (BASE + "    bake: soon\n", "f:5:"),
        (BASE + "    bake: -1s\n", "f:5:"),
        (BASE + "    port: 70000\n", "f:5:"),
        (BASE + "    quiet: {then: explode}\n", "f:5:"),
        (BASE + "    baek: 1m\n", "baek"),
        (BASE.replace("web\n", "we b\n", 1), "cannot use the name"),
        (BASE.replace("production", "../production"), "cannot use the name"),
        ("groups: {}\n", "application"),
        ("a: [\n", "f:"),
        ("- 1\n", "f:1:"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(text, "f")
    assert expected in refused.value.message


async def test_all_of_a_file_or_nothing(site: Any) -> None:
    good = BASE + "  staging:\n    instances: {names: [web-2]}\n"
    bad = good + "    config: Sideways\n"
    assert (await site.json("POST", "/v1/apply", role="admin", json={"text": bad}))[0] in (400, 404)
    assert await site.home.store.groups() == []
    assert (await site.json("POST", "/v1/apply", role="admin", json={"text": good}))[0] == 200
    ids = {group.name: group.id for group in await site.home.store.groups()}
    changed = good.replace("web-2", "web-3")
    _, answer = await site.json("POST", "/v1/apply", role="admin", json={"text": changed})
    assert [(c["change"], c["detail"]) for c in answer["changes"]] == [("unchanged", ""), ("changed", "instances")]
    assert {group.name: group.id for group in await site.home.store.groups()} == ids


async def test_a_group_that_the_file_leaves_out_stays(site: Any) -> None:
    await site.json("POST", "/v1/apply", role="admin", json={"text": BASE})
    other = BASE.replace("production", "staging")
    await site.json("POST", "/v1/apply", role="admin", json={"text": other})
    assert sorted(group.name for group in await site.home.store.groups()) == ["production", "staging"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("health: {}", "give one of http, tcp, command"),
        ('health: {http: "http://h/", tcp: "h:1"}', "give one of http, tcp, command"),
        ("load_balancers: [{haproxy: {}}]", "haproxy"),
        ('load_balancers: [{haproxy: {endpoint: "tcp://127.0.0.1:1", backend: b, colour: red}}]', "colour"),
    ],
)
async def test_settings_are_checked_before_they_are_kept(site: Any, settings: str, expected: str) -> None:
    status, answer = await site.json("POST", "/v1/apply", role="admin", json={"text": BASE + f"    {settings}\n"})
    assert (status, expected in answer["error"]["message"]) == (400, True), answer


async def test_a_group_may_be_all_ec2s_and_is_checked_too(site: Any) -> None:
    for given, expected in (
        ("{autoscaling: [web]}", ""),
        ("{ec2_tags: {every: [30s]}}", ""),
        ("{ec2_tag_sets: [{timeout: [1m]}, {Role: [web]}]}", ""),
        ("{ec2_tags: {A: [a]}, ec2_tag_sets: [{A: [a]}]}", "InvalidEC2TagCombinationException"),
        ("{}", "InvalidRequest"),
    ):
        text = BASE.replace("{names: [web-1]}", given)
        _, answer = await site.json("POST", "/v1/apply", role="admin", json={"text": text})
        assert answer.get("error", {}).get("code", "") == expected, answer
    group = await site.home.store.group("web", "production")
    assert group.settings.instances.ec2_tag_sets == ({"timeout": ["1m"]}, {"Role": ["web"]})


async def test_none_is_no_balancer_and_says_what_to_write_instead(site: Any) -> None:
    text = BASE + "    load_balancers: [{none: {}}]\n"
    status, answer = await site.json("POST", "/v1/apply", role="admin", json={"text": text})
    assert (status, "leave `load_balancers` out" in answer["error"]["message"]) == (400, True), answer


class Overtaken:
    """A store in which, the first `times`, a deployment succeeds between the reading of a group and its writing."""

    def __init__(self, store: Any, times: int) -> None:
        self._store, self.times = store, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def group(self, application: str, name: str) -> Group | None:
        found: Group | None = await self._store.group(application, name)
        if found is not None and self.times:
            self.times -= 1
            await self._store.write(Put(replace(found, last_good=GOOD, last_good_deployment=f"d-{self.times}")))
        return found


@pytest.mark.parametrize("times", [1, 2])
async def test_an_apply_does_not_take_back_what_a_deployment_wrote_meanwhile(site: Any, times: int) -> None:
    await apply(site.home, BASE, "f", "me")
    home = SimpleNamespace(store=Overtaken(site.home.store, times), clock=site.home.clock)
    home.agents, home.epoch = site.home.agents, site.home.epoch
    report = await apply(home, BASE + "    bake: 1m\n", "f", "me")  # type: ignore[arg-type]
    assert [(line.change, line.detail) for line in report] == [("changed", "bake")]
    group = await site.home.store.group("web", "production")
    assert (group.settings.bake, group.last_good, group.last_good_deployment) == (60.0, GOOD, "d-0")
    assert [line.what for line in await site.home.store.audit() if line.action == "apply"] == ["f: 1 changes"] * 2


async def test_an_apply_that_is_always_overtaken_says_so(site: Any) -> None:
    await apply(site.home, BASE, "f", "me")
    home = SimpleNamespace(store=Overtaken(site.home.store, 99), clock=site.home.clock, epoch=site.home.epoch)
    with pytest.raises(Conflict, match=r"cannot apply f: .*try again"):
        await apply(home, BASE + "    bake: 1m\n", "f", "me")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "expected"), [("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 kB", 1500), ("12B", 12), (7, 7)]
)
def test_sizes_become_bytes(written: Any, expected: int) -> None:
    text = BASE + f"    health: {{http: 'http://x/', min_disk_free: {written}}}\n"
    found = read(text, "f").groups["production"].health
    assert found is not None and found.min_disk_free == expected


def test_a_size_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRequest, match="f:5:"):
        read(BASE + "    health: {http: 'http://x/', min_disk_free: 10%}\n", "f")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Health(), "give one of http, tcp, command, not none"),
        (
            Health(tcp="a:1", max_memory_percent=101.0),
            "max_memory_percent is 101; give more than 0 and at most 100",
        ),
        (Health(max_load_per_cpu=-1.0), "max_load_per_cpu is -1; give more than 0"),
        (Health(max_load_per_cpu=4.0), ""),
    ],
)
def test_thresholds_of_a_health_check(check: Health, expected: str) -> None:
    if not expected:
        check_health("web/p", check)
        return
    with pytest.raises(InvalidRequest) as caught:
        check_health("web/p", check)
    assert expected in caught.value.message


ECS = "application: web\ngroups:\n  live:\n    platform: ECS\n"
PAIR = "target_groups: [a, b], listener: l"
IN_ECS = ECS + f"    ecs: {{cluster: c, service: s, load_balancers: [{{{PAIR}}}]}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IN_ECS, ""),
        (IN_ECS + "    originals: {keep_for: 30m, then: keep}\n    ready: {manual: true, wait: 2h}\n", ""),
        (IN_ECS + "    hooks: {after_allow_test_traffic: smoke}\n", ""),
        (ECS, "platform ECS needs `ecs: {cluster"),
        (ECS + "    ecs: {cluster: c, service: ''}\n", "platform ECS needs `ecs: {cluster"),
        (ECS + "    ecs: {cluster: c, service: s}\n", "`ecs.load_balancers` needs at least one"),
        (IN_ECS.replace("[a, b]", "[a, a]"), "target group a stands in `ecs.load_balancers` twice"),
        (IN_ECS.replace("listener: l", "listener: l, test_listener: l"), "l stands in `ecs.load_balancers` twice"),
        (IN_ECS.replace("listener: l", "listener: l, test_listener: l, test_rule: r"), ""),
        (IN_ECS.replace("service: s,", "service: s, most_failed_tasks: 0,"), "most_failed_tasks"),
        (IN_ECS + "    port: 80\n", "port belong to hosts, and ECS has none"),
        (IN_ECS + "    config: LambdaAllAtOnce\n", "it is for Lambda"),
        (BASE + "    originals: {keep_for: 1m}\n", "originals belong to platform ECS"),
        (
            BASE.replace("    instances", "    hooks: {after_install: f}\n    instances"),
            "hooks.after_install belong to",
        ),
    ],
)
async def test_a_group_of_platform_ecs_is_checked_before_it_is_kept(site: Any, text: str, expected: str) -> None:
    status, answer = await site.json("POST", "/v1/apply", role="admin", json={"text": text})
    assert (status, expected in str(answer.get("error", ""))) == (400 if expected else 200, True), answer


ELB = "arn:aws:elasticloadbalancing:us-east-1:123456789012:"
SHIFT = f"""
      shift: {{target_groups: ["{ELB}targetgroup/a/1", "{ELB}targetgroup/b/2"], listener: "{ELB}listener/app/w/1/2"}}
"""
WEIGHED = f"""application: web
groups:
  production:
    instances: {{autoscaling: [web]}}
    config: tenth
    blue_green:{SHIFT}
configs: {{tenth: {{canary: {{percentage: 10, interval: 5m}}}}}}
"""


async def test_a_config_for_servers_may_be_a_canary(site: Any) -> None:
    await apply(site.home, WEIGHED, "f", "tester")
    config = (await site.home.store.configs())["tenth"]
    assert (config.platform, config.traffic) == ("Server", TimeBasedCanary(10, 300.0))
    assert (config.minimum_healthy_hosts.of(4), config.max_failed) == (0, 0)
    careful = WEIGHED.replace("tenth: {", 'tenth: {minimum_healthy_hosts: "50%", ')
    await apply(site.home, careful, "f", "tester")
    config = (await site.home.store.configs())["tenth"]
    assert (config.minimum_healthy_hosts.of(4), config.max_failed) == (2, None)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (SHIFT, "\n", "it shifts traffic by shares, and the group has no weights"),
        ("listener:", "rule:", "elasticloadbalancing:REGION:ACCOUNT:listener-rule/…, not 'arn:"),
        (f', listener: "{ELB}listener/app/w/1/2"', "", "`shift` needs the ARN of a `listener` or of a `rule`"),
        (f"{ELB}targetgroup/b/2", "b", "REGION:ACCOUNT:targetgroup/…, not 'b'"),
        (f"{ELB}targetgroup/b/2", f"{ELB}targetgroup/a/1", "names one twice"),
        ("    blue_green:", "    load_balancers: [{gate: {}}]\n    blue_green:", "either `load_balancers` or `shift`"),
        ("canary:", "linear: {percentage: 5, interval: 1m}, canary:", "not both"),
        ("canary: {percentage: 10, interval: 5m}", "", "needs minimum_healthy_hosts, canary or linear"),
    ],
)
async def test_weights_are_checked_before_they_are_kept(site: Any, old: str, new: str, expected: str) -> None:
    assert old in WEIGHED
    with pytest.raises(InvalidRequest) as e:
        await apply(site.home, WEIGHED.replace(old, new), "f", "tester")
    assert expected in e.value.message
    assert await site.home.store.configs() == {}


async def test_a_deployment_without_weights_takes_no_canary(site: Any) -> None:
    configs = "configs: {tenth: {canary: {percentage: 10, interval: 5m}}}\n"
    await site.json("POST", "/v1/apply", role="admin", json={"text": BASE + configs})
    asked = {"application": "web", "group": "production", "revision": GOOD.identity, "config": "tenth"}
    status, answer = await site.json("POST", "/v1/deployments", role="admin", json=asked)
    assert (status, answer["error"]["code"]) == (400, "InvalidTrafficRoutingConfigurationException")


async def test_originals_may_be_kept_and_waited_for_in_blue_green_of_instances(site: Any) -> None:
    waits = "    originals: {keep_for: 30m}\n    ready: {manual: true}\n"
    await apply(site.home, WEIGHED.replace("    blue_green:", f"{waits}    blue_green:"), "f", "tester")
    [group] = await site.home.store.groups()
    assert (group.settings.originals.keep_for, group.settings.ready.manual) == (1800.0, True)
    with pytest.raises(InvalidRequest, match="ready, originals belong to platform ECS"):
        await apply(site.home, BASE + waits, "f", "tester")
