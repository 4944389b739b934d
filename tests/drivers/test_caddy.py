"""What is Caddy's own: reading its configuration, and what a freshly loaded one does to proofs."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.balancers import caddy_config, connect
from shiftwork_coordinator.balancers.gate import GatePoint
from shiftwork_coordinator.ports import Problem, Server, TrafficState
from shiftwork_coordinator.testing import MemoryGates

Rig = Any
POINT = GatePoint(7071, "/ready")


async def load_config(caddy: Rig, config: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session:
        # Cache-Control makes Caddy load a configuration again that is the same.
        headers = {"Content-Type": "application/json", "Cache-Control": "must-revalidate"}
        async with session.post(f"{caddy.admin}/load", data=json.dumps(config), headers=headers) as answer:
            assert answer.status == 200, await answer.text()


def fatal(problems: list[Problem]) -> list[str]:
    return [problem.message for problem in problems if problem.fatal]


async def test_after_a_reload_out_is_proven_anew(caddy: Rig, until: Any) -> None:
    server = caddy.servers[0]
    await caddy.driver.deregister([server])
    await caddy.quiet(server)
    before = await caddy.state(server)
    await load_config(caddy, caddy.config(interval="90ms"))

    async def reloaded() -> Any:
        found = await caddy.state(server)
        return found if found.generation != before.generation else None

    after = await until(reloaded, "the new configuration is seen")
    assert after.state is TrafficState.DRAINING
    assert "configuration loaded" in after.detail
    await caddy.quiet(server)


async def test_loading_the_same_configuration_again_is_another_generation(caddy: Rig, until: Any) -> None:
    before = (await caddy.state(caddy.servers[0])).generation
    await load_config(caddy, caddy.config())

    async def changed() -> bool:
        return bool((await caddy.state(caddy.servers[0])).generation != before)

    await until(changed, "another generation")


async def test_a_gate_that_is_not_asked_is_a_problem_and_proves_nothing(caddy: Rig) -> None:
    driver = connect("caddy", {**caddy.settings, "gate": {"port": 1, "path": "/ready"}}, caddy.gates)
    messages = fatal(await driver.check(caddy.servers[:1]))
    assert ["health_port 1" in message for message in messages] == [True]
    assert (await driver.states(caddy.servers[:1]))["s1"].state is TrafficState.UNKNOWN
    await driver.close()


async def test_the_admin_endpoint_may_be_a_unix_socket(caddy: Rig) -> None:
    await load_config(caddy, {**caddy.config(), "admin": {"listen": f"unix/{caddy.folder}/admin.sock"}})
    settings = {**caddy.settings, "admin": f"unix://{caddy.folder}/admin.sock"}
    driver = connect("caddy", settings, caddy.gates)
    assert fatal(await driver.check(caddy.servers)) == []
    assert (await driver.states(caddy.servers))["s1"].in_flight == 0
    await driver.close()


async def test_slow_checks_and_missing_passive_checks_are_warnings(caddy: Rig) -> None:
    config = caddy.config(interval="30s")
    del config["apps"]["http"]["servers"]["web"]["routes"][0]["handle"][0]["health_checks"]["passive"]
    await load_config(caddy, config)
    problems = await caddy.driver.check(caddy.servers[:1])
    assert fatal(problems) == []
    assert [word for word in ("takes 61 s", "passive") if any(word in one.message for one in problems)] == [
        "takes 61 s",
        "passive",
    ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"admin": "http://10.0.0.5:2019"}, "loopback only"),
        ({"admin": "https://127.0.0.1:2019"}, "write http"),
        ({"admin": "unix://run/caddy.sock"}, "write http"),
        ({"gate": {"port": 0}}, r"gate\.port"),
        ({"gate": {"path": "ready"}}, r"gate\.path"),
        ({"timeout": 0}, "timeout"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        connect("caddy", settings, MemoryGates())


@pytest.mark.parametrize(
    ("text", "value"),
    [("1s", 1.0), ("200ms", 0.2), ("1m30s", 90.0), ("1d", 86400.0), ("1.5s", 1.5), (2_000_000_000, 2.0), (None, 30.0)],
)
def test_durations(text: object, value: float) -> None:
    assert caddy_config.seconds(text, 30.0) == pytest.approx(value)


def proxy(*dials: str, **active: object) -> dict[str, object]:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial} for dial in dials],
        "health_checks": {"active": active},
    }


def test_proxies_are_found_in_nested_routes_with_caddys_defaults() -> None:
    inner = {"handler": "subroute", "routes": [{"handle": [proxy("10.0.0.1:80", uri="/ready?x=1", port=7071)]}]}
    (found,) = caddy_config.proxies({"apps": {"http": {"servers": {"s": {"routes": [{"handle": [inner]}]}}}}})
    assert found.active == caddy_config.Active("/ready", "", 7071, 30.0, 5.0, 1, 1)
    assert found.active.asks(POINT)
    assert caddy_config.proxies([proxy("a:1")])[0].active is None


def test_each_proxy_must_ask_the_gate_and_their_counts_add_up() -> None:
    fast = proxy("10.0.0.1:80", uri="/ready", port=7071, fails=2, interval="1s", timeout="1s")
    slow = proxy("10.0.0.1:80", uri="/ready", port=7071, fails=3, interval="2s", timeout="1s")
    blind = proxy("10.0.0.1:80", uri="/other", port=7071)
    both = caddy_config.needed(caddy_config.proxies([fast, slow]), "10.0.0.1:80", POINT)
    assert both is not None
    assert (both.refused, both.closed_for) == (5, 7.0)
    assert caddy_config.needed(caddy_config.proxies([fast, blind]), "10.0.0.1:80", POINT) is None
    assert caddy_config.needed(caddy_config.proxies([fast]), "10.0.0.2:80", POINT) is None


@pytest.mark.parametrize(
    ("server", "dials"),
    [
        (Server("a", "web1"), ["web1:80"]),
        (Server("a", "a", "10.0.0.1", 80), ["10.0.0.1:80"]),
        (Server("a", "a", "10.0.0.1"), ["10.0.0.1:80", "10.0.0.1:81"]),
        (Server("a", "a", "::1", 80), ["[::1]:80"]),
        (Server("a", "10.0.0.1:81", "10.0.0.1", 80), ["10.0.0.1:81"]),
        (Server("a", "a", "10.0.0.9", 80), []),
        (Server("a", "a"), []),
    ],
)
def test_upstreams_are_matched_by_name_or_address(server: Server, dials: list[str]) -> None:
    found = caddy_config.proxies([proxy("web1:80", "10.0.0.1:80", "10.0.0.1:81", "[::1]:80")])
    assert caddy_config.matching(found, server) == dials
