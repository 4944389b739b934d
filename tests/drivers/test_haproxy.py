"""What is HAProxy's own: reloads, cookies, checks, rights, several endpoints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.ports import Problem, Server, TrafficState

Rig = Any


def fatal(problems: list[Problem]) -> list[str]:
    return [problem.message for problem in problems if problem.fatal]


async def test_a_reload_that_forgets_maint_is_seen(haproxy: Rig) -> None:
    server = haproxy.servers[0]
    await haproxy.driver.deregister([server])
    await haproxy.quiet(server)
    before = await haproxy.state(server)
    await haproxy.reload()
    after = await haproxy.state(server)
    assert after.generation != before.generation
    assert after.state not in (TrafficState.ABSENT, TrafficState.UNKNOWN)


async def test_requests_on_an_old_worker_count_after_a_reload(haproxy: Rig, until: Any) -> None:
    slow = asyncio.ensure_future(haproxy.get("/slow"))

    async def serving() -> Any:
        return [server for server in haproxy.servers if haproxy.apps[server.instance].slow]

    (busy,) = await until(serving, "the slow request arrived")
    await haproxy.reload()
    await haproxy.driver.deregister([busy])
    await haproxy.reach(TrafficState.ABSENT, busy)
    assert (await haproxy.state(busy)).in_flight == 1
    blind = haproxy.other(master=None)
    assert (await blind.states([busy]))[busy.instance].in_flight == 0
    assert any("old workers" in problem.message for problem in await blind.check([busy]) if not problem.fatal)
    haproxy.apps[busy.instance].released.set()
    assert await slow == 200
    await haproxy.quiet(busy)


async def test_a_client_with_a_cookie_for_it_is_moved(haproxy: Rig) -> None:
    server = haproxy.servers[0]
    assert await haproxy.get("/c/", "Cookie: SRV=s1\r\n") == 200
    assert haproxy.apps["s1"].hits == 1
    await haproxy.driver.deregister([server])
    await haproxy.quiet(server)
    assert {await haproxy.get("/c/", "Cookie: SRV=s1\r\n") for _ in range(10)} == {200}
    assert haproxy.apps["s1"].hits == 1


async def test_one_backend_out_of_two_is_not_out(haproxy: Rig) -> None:
    await haproxy.command("set server web/s1 state maint")
    found = await haproxy.state(haproxy.servers[0])
    assert found.state is TrafficState.DRAINING
    assert "web/s1 MAINT" in found.detail
    await haproxy.driver.register([haproxy.servers[0]])
    await haproxy.reach(TrafficState.HEALTHY, haproxy.servers[0])


async def test_up_without_a_check_since_it_came_back_is_not_healthy(haproxy: Rig) -> None:
    """Somebody else's `ready`: HAProxy calls the server UP at once and shows an old L7OK."""
    server = haproxy.servers[0]
    await haproxy.driver.deregister([server])
    await haproxy.quiet(server)
    answer = await haproxy.command(
        "set server web/s1 state ready; set server webc/s1 state ready; show servers state web; show stat -1 4 -1"
    )
    assert "UP 1/3" in answer
    haproxy.apps["s1"].cold = True
    assert (await haproxy.state(server)).state is not TrafficState.HEALTHY


async def test_drain_is_not_out(haproxy: Rig) -> None:
    await haproxy.command("set server web/s1 state drain; set server webc/s1 state drain")
    assert (await haproxy.state(haproxy.servers[0])).state is TrafficState.DRAINING


async def test_a_failing_server_is_unhealthy_and_register_leaves_it_alone(haproxy: Rig) -> None:
    haproxy.apps["s1"].cold = True
    await haproxy.reach(TrafficState.UNHEALTHY, haproxy.servers[0])
    await haproxy.driver.register([haproxy.servers[0]])
    assert (await haproxy.state(haproxy.servers[0])).state is TrafficState.UNHEALTHY


async def test_a_server_is_found_by_its_address(haproxy: Rig) -> None:
    app = haproxy.apps["s2"]
    server = Server("i-0abc", "i-0abc", app.address, app.port)
    assert (await haproxy.state(server)).state is TrafficState.HEALTHY
    assert not fatal(await haproxy.driver.check([server]))
    assert (await haproxy.state(Server("i-0abc", "i-0abc", app.address))).state is TrafficState.HEALTHY
    assert (await haproxy.state(Server("i-0abc", "i-0abc", app.address, 1))).state is TrafficState.UNKNOWN


async def test_a_template_names_the_server(haproxy: Rig) -> None:
    driver = haproxy.other(server="s{instance}")
    assert (await driver.states([Server("3", "3")]))["3"].state is TrafficState.HEALTHY


async def test_two_instances_on_one_server_are_refused(haproxy: Rig) -> None:
    twin = Server("twin", "s1")
    assert ["twin" in message for message in fatal(await haproxy.driver.check([haproxy.servers[0], twin]))] == [
        True
    ] * 2


async def test_verbs_name_what_they_cannot_find(haproxy: Rig) -> None:
    with pytest.raises(InvalidRequest, match="web-9"):
        await haproxy.driver.deregister([Server("web-9", "web-9")])
    with pytest.raises(Unavailable, match=r"nobody\.sock"):
        await haproxy.dead().deregister(haproxy.servers)


async def test_a_socket_without_rights_is_a_problem_and_refuses(haproxy: Rig) -> None:
    driver = haproxy.other(endpoint=f"unix://{haproxy.folder}/user.sock")
    assert any("level admin" in message for message in fatal(await driver.check(haproxy.servers)))
    with pytest.raises(InvalidRequest, match="Permission denied"):
        await driver.deregister(haproxy.servers)


async def test_an_unknown_backend_is_a_problem(haproxy: Rig) -> None:
    driver = haproxy.other(backends=["wbe"])
    (message,) = fatal(await driver.check(haproxy.servers))
    assert "wbe" in message
    assert "web, webc" in message


async def test_a_backend_that_was_not_named_is_a_warning(haproxy: Rig) -> None:
    driver = haproxy.other(backends=["web"])
    problems = await driver.check(haproxy.servers[:1])
    assert fatal(problems) == []
    assert ["webc/s1" in problem.message for problem in problems] == [True]


async def test_endpoints_must_agree(haproxy: Rig) -> None:
    gone = f"unix://{haproxy.folder}/nobody.sock"
    driver = haproxy.other(endpoint=None, endpoints=[gone, haproxy.settings["endpoint"]], master=None)
    assert (await driver.states(haproxy.servers))["s1"].state is TrafficState.UNKNOWN
    with pytest.raises(Unavailable):
        await driver.deregister([haproxy.servers[0]])
    # The one that could be asked was asked all the same.
    await haproxy.quiet(haproxy.servers[0])


BAD = """
backend bad
  server nocheck 127.0.0.1:1 no-check
  server agent 127.0.0.1:2 agent-check agent-port 3
  server tracker 127.0.0.1:4 no-check track web/s1
  server off 127.0.0.1:5 disabled
  server once 127.0.0.1:6 fall 1
"""


@pytest.fixture
async def bad(make_rig: Any) -> Any:
    rig = make_rig("haproxy", more=BAD)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def test_servers_that_cannot_be_steered_are_refused(bad: Rig) -> None:
    driver = bad.other(backends=["bad"])
    servers = [Server(name, name) for name in ("nocheck", "agent", "tracker", "once")]
    problems = await driver.check(servers)
    said = {(problem.instance, problem.fatal): problem.message for problem in problems}
    assert "no health check" in said["nocheck", True]
    assert "agent-check" in said["agent", True]
    assert "web/s1" in said["tracker", True]
    assert "fall 1" in said["once", False]
    lax = bad.other(backends=["bad"], unchecked="allow")
    assert fatal(await lax.check([Server("nocheck", "nocheck")])) == []


async def test_a_server_without_checks_comes_back_where_that_is_allowed(bad: Rig) -> None:
    driver = bad.other(backends=["bad"], unchecked="allow")
    server = Server("nocheck", "nocheck")
    await driver.deregister([server])
    assert (await driver.states([server]))["nocheck"].state is TrafficState.ABSENT
    await driver.register([server])
    assert (await driver.states([server]))["nocheck"].state is TrafficState.HEALTHY


async def test_a_server_that_the_configuration_disabled_says_so(bad: Rig) -> None:
    found = (await bad.other(backends=["bad"]).states([Server("off", "off")]))["off"]
    assert (found.state, found.out_by) == (TrafficState.ABSENT, "configuration")


async def test_a_tracking_server_follows_the_one_it_tracks(bad: Rig) -> None:
    tracker, web = bad.other(backends=["bad"]), bad.other(backends=["web"])
    follower, followed = Server("tracker", "tracker"), Server("s1", "s1")

    async def state() -> TrafficState:
        return (await tracker.states([follower]))["tracker"].state

    await web.deregister([followed])
    assert await state() is TrafficState.ABSENT
    await tracker.deregister([follower])
    await web.register([followed])
    assert await state() is TrafficState.ABSENT
    await tracker.register([follower])
    await bad.reach(TrafficState.HEALTHY, followed)
    assert await state() is TrafficState.HEALTHY


TLS = """
listen runtime
  mode tcp
  bind 127.0.0.1:{port} ssl crt {cert} ca-file {cert} verify required
  server admin unix@{folder}/admin.sock no-check
"""


async def test_the_socket_may_be_on_tls(
    make_rig: Any, certificate: tuple[str, str], unused_tcp_port: int, tmp_path: Path
) -> None:
    cert, key = certificate
    rig = make_rig("haproxy", more=TLS.format(port=unused_tcp_port, cert=cert, folder=tmp_path))
    try:
        await rig.start()
        where = f"tls://127.0.0.1:{unused_tcp_port}"
        driver = rig.other(endpoint=where, ca=cert, cert=cert, key=key)
        await driver.deregister(rig.servers[:1])
        await rig.quiet(rig.servers[0])
        assert (await driver.states(rig.servers))["s1"].state is TrafficState.ABSENT
        nameless = rig.other(endpoint=where, ca=cert)
        assert (await nameless.states(rig.servers))["s1"].state is TrafficState.UNKNOWN
    finally:
        await rig.stop()
