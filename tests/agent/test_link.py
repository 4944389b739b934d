"""The link in bad weather."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from aiohttp import web

from shiftwork_agent.link import CAP, Link, LinkLost, delays
from shiftwork_contract.messages import (
    GateState,
    HealthCheck,
    Heartbeat,
    Observed,
    SetGate,
    Unsupported,
    Unwatch,
    Watch,
    Welcome,
    encode,
)

Bench = Any


def test_the_ceiling_of_the_delays_doubles_up_to_its_cap() -> None:
    assert list(islice(delays(lambda low, high: high), 9)) == [0.5, 1, 2, 4, 8, 16, CAP, CAP, CAP]
    assert next(delays(lambda low, high: low)) == 0


async def test_an_agent_comes_back_and_beats_its_heart(bench: Bench) -> None:
    bench.coordinator.heartbeat = 0.05
    async with bench.agent():
        for _ in range(3):
            await bench.coordinator.expect(Heartbeat)
        await bench.coordinator.hang_up()
        again = await bench.coordinator.linked(2)
        assert again.next_seq == 1


async def test_a_stop_at_the_very_moment_of_a_lost_link_is_heeded(bench: Bench) -> None:
    async def lost_and_stopped(session: object, url: str) -> None:
        async def fail() -> None:
            link.close()
            running.cancel()
            raise LinkLost("gone")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await asyncio.sleep(60)

    async with bench.agent() as agent:
        link = Link(("http://x",), None, agent.outbox, agent, agent.clock)
        link._session = lost_and_stopped  # type: ignore[method-assign]
        running = asyncio.ensure_future(link.run())
        done, _ = await asyncio.wait({running}, timeout=60)
        assert done


async def test_no_cancellation_is_counted_when_it_tries_again(bench: Bench) -> None:
    counted: list[int] = []

    async def lost(session: object, url: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        counted.append(task.cancelling())
        task.cancel()  # as Python 3.11 leaves it behind
        raise LinkLost("gone")

    async with bench.agent() as agent:
        link = Link(("http://x",), None, agent.outbox, agent, agent.clock)
        link._session = lost  # type: ignore[method-assign]
        link._delays = iter([0.0] * 100)
        running = asyncio.ensure_future(link.run())
        async with asyncio.timeout(60):
            while len(counted) < 3 and not running.done():
                await asyncio.sleep(0.01)
        link.close()
        running.cancel()
    assert counted[:3] == [0, 0, 0]


async def test_a_half_open_link_is_noticed(bench: Bench) -> None:
    """The coordinator's end reads nothing and answers nothing, pings included."""
    silent, over = asyncio.Event(), asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        link = web.WebSocketResponse(autoping=False)
        await link.prepare(request)
        await link.receive_str()
        await link.send_str(encode(Welcome(1, 1, "i", 0.05)))
        silent.set()
        await over.wait()
        return link

    async with bench.agent() as agent:
        app = web.Application()
        app.router.add_get("/v1/agent/link", serve)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        agent.link._urls = iter([f"http://127.0.0.1:{runner.addresses[0][1]}"] + [bench.coordinator.url] * 9)
        await bench.coordinator.hang_up()
        await silent.wait()
        await bench.coordinator.linked(2)
        over.set()
        await runner.cleanup()


async def test_the_next_coordinator_is_tried(bench: Bench, free_port: int) -> None:
    away = f"http://127.0.0.1:{free_port}"
    async with bench.agent(coordinators=(away, bench.coordinator.url)) as agent:
        await bench.run(bench.command("ApplicationStart"))
        assert agent.link.coordinator == bench.coordinator.url


async def test_an_unknown_kind_is_answered_once_and_ignored(bench: Bench) -> None:
    async with bench.agent():
        link = bench.coordinator._link
        for _ in range(3):
            await link.send_str('{"kind":"Invented","x":1}')
        await bench.coordinator.expect(Unsupported, what="Invented")
        await bench.run(bench.command("ApplicationStart"))
    answers = [m for m in bench.coordinator.received if isinstance(m, Unsupported)]
    assert len(answers) == 1 and len(bench.coordinator.hellos) == 1


async def test_a_malformed_message_ends_the_link_not_the_agent(bench: Bench) -> None:
    async with bench.agent():
        await bench.coordinator._link.send_str('{"kind":"RunCommand","epoch":"x"}')
        await bench.coordinator.linked(2)
        assert (await bench.run(bench.command("ApplicationStart"))).ran == ("ApplicationStart",)


async def test_a_watched_group_is_reported_with_what_was_asked(bench: Bench, free_port: int) -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", free_port)
    check = HealthCheck(tcp=f"127.0.0.1:{free_port}", interval=0.05)
    async with bench.agent():
        await bench.coordinator.send(Watch(1, "g-1", 7, check, every=0.1))
        first = await bench.coordinator.expect(Observed)
        assert (first.group_id, first.asked) == ("g-1", 7) and first.probe is not None and first.probe.healthy
        await bench.coordinator.send(SetGate(1, "g-1", 8, f"127.0.0.1:{_other(free_port)}", "/g", False))
        gated = await bench.coordinator.expect(Observed, asked=8)
        assert isinstance(gated.gate, GateState) and not gated.gate.open
        server.close()
        while (await bench.coordinator.expect(Observed)).probe.healthy:
            pass
        await bench.coordinator.send(Unwatch(1, "g-1"))
        await bench.run(bench.command("ApplicationStart"))
        count = len(bench.coordinator.received)
        await asyncio.sleep(0.3)
        assert not [m for m in bench.coordinator.received[count:] if isinstance(m, Observed)]


async def test_a_reading_never_claims_to_be_younger_than_its_oldest_part(bench: Bench, free_port: int) -> None:
    """The probe was made before the gate was ordered and is not made again soon: it cannot speak for after that."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", free_port)
    check = HealthCheck(tcp=f"127.0.0.1:{free_port}", interval=100.0, healthy=1)
    async with bench.agent():
        await bench.coordinator.send(Watch(1, "g-1", 7, check, every=0.1))
        await bench.coordinator.expect(Observed, asked=7, gate=None)
        await bench.coordinator.send(SetGate(1, "g-1", 8, f"127.0.0.1:{_other(free_port)}", "/g", False))
        while (seen := await bench.coordinator.expect(Observed)).gate is None:
            pass
        assert seen.asked == 7
    server.close()


async def test_wishes_of_a_past_epoch_are_ignored(bench: Bench) -> None:
    bench.coordinator.epoch = 5
    async with bench.agent() as agent:
        await bench.coordinator.send(Watch(4, "g-1", 1))
        await bench.coordinator.send(Watch(5, "g-2", 1))
        await bench.coordinator.expect(Observed, group_id="g-2")
        assert not agent.watches.watches("g-1")


def _other(port: int) -> int:
    return port + 1 if port < 65535 else port - 1
