"""What every load balancer driver must pass, and the in-memory twin too: see docs/drivers.md."""

from __future__ import annotations

import asyncio
from typing import Any

from shiftwork_coordinator.ports import Server, TrafficState

Rig = Any


async def test_finds_nothing_fatal_in_a_sound_setup(rig: Rig) -> None:
    assert [problem for problem in await rig.driver.check(rig.servers) if problem.fatal] == []


async def test_names_an_instance_that_no_server_matches(rig: Rig) -> None:
    stranger = Server("web-9", "web-9", "192.0.2.9", 80)
    fatal = [problem for problem in await rig.driver.check([*rig.servers, stranger]) if problem.fatal]
    assert [problem.instance for problem in fatal] == ["web-9"]
    assert "web-9" in fatal[0].message
    found = await rig.driver.states([*rig.servers, stranger])
    assert found["web-9"].state is TrafficState.UNKNOWN
    assert found["s1"].state is TrafficState.HEALTHY


async def test_a_server_that_is_out_and_quiet_gets_no_request(rig: Rig) -> None:
    gone, *others = rig.servers
    await rig.driver.deregister([gone])
    await rig.driver.deregister([gone])
    await rig.quiet(gone)
    before = rig.apps[gone.instance].hits
    assert {await rig.get("/") for _ in range(40)} == {200}
    assert rig.apps[gone.instance].hits == before
    assert {(await rig.state(other)).state for other in others} == {TrafficState.HEALTHY}
    assert sum(rig.apps[other.instance].hits for other in others) >= 40


async def test_a_request_in_flight_counts_until_it_is_done(rig: Rig, until: Any) -> None:
    slow = asyncio.ensure_future(rig.get("/slow"))

    async def serving() -> Any:
        return [server for server in rig.servers if rig.apps[server.instance].slow]

    (busy,) = await until(serving, "the slow request arrived")
    await rig.driver.deregister([busy])
    await rig.reach(TrafficState.ABSENT, busy)
    assert await rig.busy(busy) >= 1
    assert not slow.done()
    rig.apps[busy.instance].released.set()
    assert await slow == 200
    await rig.quiet(busy)


async def test_a_cold_server_is_not_healthy_before_its_check_passes(rig: Rig, until: Any) -> None:
    server, app = rig.servers[0], rig.apps["s1"]
    await rig.driver.deregister([server])
    await rig.quiet(server)
    app.cold = True
    hits, checked = app.hits, app.checked
    await rig.driver.register([server])

    async def checked_often() -> bool:
        assert (await rig.state(server)).state is not TrafficState.HEALTHY
        assert await rig.get("/") == 200
        return bool(app.checked >= checked + 4)

    await until(checked_often, "four more checks")
    assert app.hits == hits
    app.cold = False
    await rig.reach(TrafficState.HEALTHY, server)

    async def served() -> bool:
        return await rig.get("/") == 200 and app.hits > hits

    await until(served, "it gets requests again")


async def test_registering_a_server_that_is_in_resets_nothing(rig: Rig) -> None:
    for _ in range(3):
        await rig.driver.register(rig.servers)
        found = await rig.driver.states(rig.servers)
        assert {one.state for one in found.values()} == {TrafficState.HEALTHY}


async def test_a_balancer_that_is_not_there_is_unknown_and_a_problem(rig: Rig) -> None:
    dead = rig.dead()
    found = await dead.states(rig.servers)
    assert {(one.state, one.in_flight) for one in found.values()} == {(TrafficState.UNKNOWN, None)}
    assert all(one.detail for one in found.values())
    assert any(problem.fatal for problem in await dead.check(rig.servers))
    await dead.close()


async def test_out_and_in_again_while_it_was_on_its_way(rig: Rig) -> None:
    server = rig.servers[0]
    await rig.driver.deregister([server])
    await rig.driver.register([server])
    await rig.reach(TrafficState.HEALTHY, server)
    await rig.driver.deregister([server])
    await rig.quiet(server)


async def test_half_and_then_the_other_half_without_a_failed_request(rig: Rig, load: Any, until: Any) -> None:
    traffic = load(rig)
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        for batch in (rig.servers[:2], rig.servers[2:]):
            await rig.driver.deregister(batch)
            await rig.quiet(*batch)
            apps = [rig.apps[server.instance] for server in batch]
            for app in apps:
                await rig.restart(app)
                app.cold = True
            checked = [app.checked for app in apps]
            await rig.driver.register(batch)

            async def all_checked(apps: Any = apps, checked: Any = checked, batch: Any = batch) -> bool:
                await rig.driver.states(batch)
                return all(app.checked >= before + 2 for app, before in zip(apps, checked, strict=True))

            # Still cold: a balancer that believes them before a check shows as failed requests.
            await until(all_checked, "the balancer checks the restarted applications")
            for app in apps:
                app.cold = False
            await rig.reach(TrafficState.HEALTHY, *batch)

        async def enough() -> bool:
            return bool(traffic.sent >= 600)

        await until(enough, "600 requests sent")
        traffic.over = True
    assert traffic.failed == []
    assert sum(app.hits for app in rig.apps.values()) == traffic.sent
