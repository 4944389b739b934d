"""Many hosts, in memory and through a real SSH server: the same suite for both."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shiftwork_coordinator.bootstrap.fleet import AGAIN, Pace
from shiftwork_coordinator.bootstrap.ports import Ran
from shiftwork_coordinator.bootstrap.steps import Known
from shiftwork_coordinator.bootstrap.targets import Target

WHOLE = ("installed 0.2.0", "joined", "started")


async def test_bare_hosts_are_installed_joined_and_heard_and_then_left_alone(fleet):
    for name in ("web-1", "web-2", "web-3"):
        await fleet.add(name)
    fleet.targets["web-1"].tags["Role"] = "web"
    first = await fleet.bootstrap()
    assert {name: (each.instance, each.did, each.problem) for name, each in first.items()} == {
        name: (name, WHOLE, "") for name in ("web-1", "web-2", "web-3")
    }
    assert all(known.connected for known in fleet.coordinator.instances.values())
    assert sorted(fleet.coordinator.made, key=lambda made: made[0])[0] == ("web-1", {"Role": "web"})
    assert fleet.coordinator.tokens == {}
    assert fleet.left() == []
    for host in fleet.hosts.values():
        host.ran.clear()
    again = await fleet.bootstrap()
    assert all(not each.failed and not each.did for each in again.values())
    assert {name: host.ran for name, host in fleet.hosts.items()} == {name: ["look", "survey"] for name in again}
    assert len(fleet.coordinator.made) == 3


async def test_no_command_line_shows_a_token(fleet):
    host = await fleet.add("web-1")
    seen = []
    joined = fleet.coordinator.join
    fleet.coordinator.join = lambda token, name: (seen.append(token), joined(token, name))
    await fleet.bootstrap()
    assert len(seen) == 1
    assert seen[0].startswith("swj_")
    assert not any("swj_" in command for command in host.commands)


async def test_a_host_that_repeats_the_token_does_not_get_it_shown(make_fleet):
    fleet = make_fleet("memory")
    host = await fleet.add("web-1")
    obey = host._obey

    def echoed(name, arguments, stdin):
        return Ran(1, f"sh: {stdin.decode()}") if name == "join" else obey(name, arguments, stdin)

    host._obey = echoed
    result = (await fleet.bootstrap())["web-1"]
    assert result.problem == "cannot join (exit code 1): sh: …"


async def test_a_newer_package_replaces_an_older_agent(fleet, package):
    host = await fleet.add("web-1")
    await fleet.bootstrap()
    fleet.wish = replace(fleet.wish, packages=(package("shiftwork-agent_0.3.0_amd64.deb"),))
    result = (await fleet.bootstrap())["web-1"]
    assert (result.did, result.problem, host.version) == (("installed 0.3.0",), "", "0.3.0")
    assert fleet.coordinator.instances["web-1"].version == "0.3.0"
    fleet.wish = replace(fleet.wish, packages=(package("shiftwork-agent_0.1.0_amd64.deb"),))
    assert ((await fleet.bootstrap())["web-1"].did, host.version) == ((), "0.3.0")


async def test_one_bad_host_does_not_stop_the_rest(fleet):
    await fleet.add("good")
    await fleet.add("arm", look={"machine": "aarch64"})
    await fleet.add("full", full=100)
    await fleet.add("nosudo", look={"root": False, "user": "ops", "sudo": "password"})
    await fleet.add("apt", fails={"install": "E: Sub-process dpkg returned an error code (1)"})
    await fleet.add("refused", fails={"join": "cannot reach the coordinator"})
    await fleet.add("gone")
    if fleet.kind == "memory":
        del fleet.hosts["gone"]
    else:
        fleet.targets["gone"] = Target("127.0.0.1", "ops", 1)
    results = await fleet.bootstrap()
    assert results["good"].did == WHOLE
    words = {
        "arm": "needs a deb for aarch64; given: deb for x86_64",
        "nosudo": "cannot become root: sudo wants a password of ops",
        "apt": "cannot install shiftwork-agent_0.2.0_amd64.deb (exit code 1): E: Sub-process dpkg returned",
        "refused": "cannot join (exit code 1): cannot reach the coordinator",
        "gone": "cannot reach",
    }
    if fleet.kind == "memory":
        words["full"] = "no space left"
        assert results["full"].did == ()
    for name, text in words.items():
        assert text in results[name].problem, name
        assert results[name].remedy not in ("", AGAIN), name
    assert results["refused"].did == ("installed 0.2.0",)
    assert fleet.coordinator.tokens == {}
    assert [file.name for file in fleet.left() if file.parent.name not in ("apt", "full")] == []


async def test_a_user_with_sudo_runs_only_what_needs_it_as_root(fleet):
    host = await fleet.add("web-1", look={"root": False, "user": "ops"})
    assert (await fleet.bootstrap())["web-1"].did == WHOLE
    sudo = {name: command.startswith("sudo -n --") for name, command in zip(host.ran, host.commands, strict=True)}
    assert sudo == {
        "look": False, "survey": True, "prepare": False, "install": True, "join": True, "start": True,
    }  # fmt: skip


async def test_a_sudo_password_goes_in_front_of_the_token_and_is_shown_nowhere(fleet):
    asks = {"root": False, "user": "ops", "sudo": "password"}
    host = await fleet.add("web-1", look=asks, sudo_password="correct horse")
    fleet.password, fleet.wish = "correct horse", replace(fleet.wish, password=True)
    assert (await fleet.bootstrap())["web-1"].did == WHOLE
    assert not any("horse" in command for command in host.commands)
    fleet.password = "wrong"
    wrong = (await fleet.bootstrap())["web-1"]
    assert "no password was provided" in wrong.problem
    assert "wrong" not in wrong.problem


async def test_what_belongs_elsewhere_is_kept_unless_rejoin_is_said(fleet, tmp_path):
    from shiftwork_coordinator.clock import SystemClock
    from shiftwork_coordinator.pki import Authority

    theirs = Authority(tmp_path / "theirs", SystemClock()).pem
    host = await fleet.add("web-1", version="0.1.0", instance="old", ca=theirs, active=True)
    refused = (await fleet.bootstrap())["web-1"]
    assert "belongs to another coordinator already, as old" in refused.problem
    assert (host.ran, host.version, host.instance) == (["look", "survey"], "0.1.0", "old")
    fleet.wish = replace(fleet.wish, rejoin=True)
    taken = (await fleet.bootstrap())["web-1"]
    assert (taken.problem, taken.did) == ("", ("installed 0.2.0", "joined anew", "started"))
    assert (host.instance, host.ca) == ("web-1", fleet.coordinator.ca)


async def test_two_hosts_of_one_name_do_not_both_join(fleet):
    await fleet.add("a", look={"hostname": "same"})
    await fleet.add("b", look={"hostname": "same"})
    results = await fleet.bootstrap("a", "b")
    assert sorted(each.did for each in results.values()) == [(), WHOLE]
    assert any("of this same run has that name" in each.problem for each in results.values())
    assert sorted(host.version for host in fleet.hosts.values()) == ["", "0.2.0"]


async def test_a_name_that_another_host_has_is_refused(fleet):
    await fleet.add("web-1")
    fleet.coordinator.instances["web-1"] = Known(exists=True, connected=True)
    assert "another host has joined by that name" in (await fleet.bootstrap())["web-1"].problem


async def test_an_agent_that_is_never_heard_is_said_with_its_own_words(fleet):
    await fleet.add("web-1", mute=True, fails={"explain": "link  not connected: no route to host"})
    fleet.pace = replace(fleet.pace, heard_within=0.2)
    result = (await fleet.bootstrap())["web-1"]
    assert result.did == WHOLE
    assert result.problem.startswith("cannot hear the agent web-1 within 0.2 s: link  not connected: no route")


@pytest.mark.parametrize("order", ["survey", "join"])
async def test_a_host_that_hangs_is_given_up_and_its_token_withdrawn(fleet, order):
    await fleet.add("stuck", hangs=order)
    fleet.pace = replace(fleet.pace, timeout=1.0)
    results = await fleet.bootstrap()
    assert results["stuck"].problem.startswith("cannot finish within 1 s: it was ")
    assert fleet.coordinator.tokens == {}


async def interrupted(fleet, stage):
    """Ctrl-C at the moment when the first host comes to that stage."""
    reached = asyncio.Event()
    fleet.notes.hear = lambda target, now: reached.set() if now.startswith(stage) else None
    running = asyncio.ensure_future(fleet.bootstrap())
    async with asyncio.timeout(60):
        await reached.wait()
        for _ in range(5):
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_an_interrupt_leaves_no_token_and_no_copy(fleet):
    await fleet.add("joining", hangs="join")
    await interrupted(fleet, "joining")
    assert fleet.coordinator.made
    assert fleet.coordinator.tokens == {}
    assert fleet.left() == []


async def test_an_interrupt_while_the_token_is_made_ends_that_token(fleet):
    await fleet.add("web-1")
    gate = asyncio.Event()
    fleet.coordinator.slow = lambda what: gate
    asyncio.get_running_loop().call_later(0.3, gate.set)
    await interrupted(fleet, "joining")
    assert fleet.coordinator.made
    assert fleet.coordinator.tokens == {}


async def test_an_interrupted_copy_is_dropped(make_fleet):
    fleet = make_fleet("memory")
    await fleet.add("web-1", hangs="copy")
    await interrupted(fleet, "copying")
    assert fleet.left() == []


async def test_no_more_hosts_at_once_than_said(make_fleet):
    fleet = make_fleet("memory")
    for number in range(9):
        await fleet.add(f"web-{number}")
    fleet.pace, dialer = Pace(at_once=3), fleet.dialer()
    fleet.dialer = lambda: dialer
    await fleet.bootstrap()
    assert dialer.most == 3
