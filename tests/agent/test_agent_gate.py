"""The gate as balancers see it, and health checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from shiftwork_agent.clock import SystemClock
from shiftwork_agent.gate import MANY_CHECKERS, Gate, Gates
from shiftwork_agent.health import Thresholds
from shiftwork_contract.messages import HealthCheck, Probe, SetGate


class Ahead(SystemClock):
    later = 0.0

    def uptime(self) -> float:
        return super().uptime() + self.later


class App:
    """Something with a health URL."""

    def __init__(self) -> None:
        self.status, self.asked = 200, 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status)


@pytest_asyncio.fixture
async def app() -> AsyncIterator[App]:
    made = App()
    application = web.Application()
    application.router.add_get("/", made.answer)
    async with TestServer(application) as server:
        made.url = str(server.make_url("/"))  # type: ignore[attr-defined]
        yield made


@pytest_asyncio.fixture
async def gates(tmp_path: Path) -> AsyncIterator[Gates]:
    made = Gates(tmp_path / "gates.json", Ahead(), lambda group: None, "127.0.0.1")
    yield made
    await made.close()


async def ask(port: int, path: str = "/g", method: str = "GET", source: str = "127.0.0.1") -> tuple[int, str]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


def order(port: int, open: bool, health: HealthCheck | None = None, group: str = "g", path: str = "/g") -> SetGate:
    return SetGate(1, group, 1, f":{port}", path, open, health)


async def test_a_gate_answers_and_counts_per_checker(gates: Gates, free_port: int) -> None:
    await gates.set(order(free_port, False))
    assert await ask(free_port) == (503, "closed: this instance is being kept out of traffic\n")
    assert (await ask(free_port, method="HEAD"))[0] == 503
    await ask(free_port, source="127.0.0.2")
    state = gates.state("g")
    assert state is not None and (state.open, state.refused, state.passed, state.checkers) == (False, 1, 0, 2)
    await gates.set(order(free_port, True))
    assert await ask(free_port) == (200, "open\n")
    state = gates.state("g")
    assert state is not None and (state.open, state.refused, state.passed, state.checkers) == (True, 0, 1, 1)


async def test_checkers_that_no_longer_ask_do_not_count(gates: Gates, free_port: int) -> None:
    await gates.set(order(free_port, False))
    await ask(free_port, source="127.0.0.2")
    gates._clock.later = 61.0  # type: ignore[attr-defined]
    await ask(free_port)
    await ask(free_port)
    state = gates.state("g")
    assert state is not None and (state.refused, state.checkers) == (2, 1)


async def test_groups_share_an_address_by_path(gates: Gates, free_port: int) -> None:
    await gates.set(order(free_port, True))
    await gates.set(order(free_port, False, group="h", path="/h"))
    assert [(await ask(free_port, path))[0] for path in ("/g", "/g?x=1", "/h", "/i")] == [200, 200, 503, 404]
    assert (await ask(free_port, method="POST"))[0] == 405
    await gates.set(SetGate(1, "g", 2, "", "", False))
    assert [(await ask(free_port, path))[0] for path in ("/g", "/h")] == [404, 503]
    assert gates.state("g") is None


async def test_an_open_gate_passes_only_a_healthy_application(gates: Gates, free_port: int, app: App) -> None:
    check = HealthCheck(http=app.url, interval=100.0)  # type: ignore[attr-defined]
    await gates.set(order(free_port, True, check))
    assert app.asked == 0
    assert [(await ask(free_port))[0] for _ in range(3)] == [200] * 3
    assert app.asked == 1
    app.status = 500
    gates._clock.later = 101.0  # type: ignore[attr-defined]
    assert await ask(free_port) == (503, "health check failed: HTTP 500\n")
    state = gates.state("g")
    assert state is not None and (state.open, state.passed) == (True, 0)


async def test_state_is_kept_over_a_restart(gates: Gates, free_port: int, tmp_path: Path) -> None:
    await gates.set(order(free_port, True))
    await gates.close()
    again = Gates(tmp_path / "gates.json", Ahead(), lambda group: None, "127.0.0.1")
    await again.restore()
    assert (await ask(free_port))[0] == 200
    await again.close()


async def test_two_orders_at_once_bind_once(gates: Gates, free_port: int) -> None:
    await asyncio.gather(*(gates.set(order(free_port, True)) for _ in range(4)))
    state = gates.state("g")
    assert state is not None
    assert state.problem == ""


async def test_a_gate_that_cannot_listen_says_so(gates: Gates, free_port: int) -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", free_port)
    await gates.set(order(free_port, True))
    state = gates.state("g")
    assert state is not None and "cannot listen on 127.0.0.1" in state.problem
    server.close()
    await gates.set(order(free_port, True))
    state = gates.state("g")
    assert state is not None and state.problem == ""


def test_health_follows_its_thresholds() -> None:
    thresholds = Thresholds(HealthCheck(tcp="x:1", healthy=2, unhealthy=3))
    answers = [thresholds.after(Probe(answer == "+")) for answer in "+-++--+---+"]
    seen = [answer and answer.healthy for answer in answers]
    assert seen == [None, None, None, True, True, True, True, True, True, False, False]


async def test_a_gate_that_cannot_be_remembered_is_in_force(gates: Gates, tmp_path: Path, free_port: int) -> None:
    """As on a full disk: it ends neither the gate nor the agent."""
    (tmp_path / ".gates.json.new").mkdir()
    await gates.set(order(free_port, False))
    assert (await ask(free_port))[0] == 503


def test_who_asks_from_many_addresses_is_not_remembered_for_ever() -> None:
    gate = Gate(order(1, False), 0.0)
    for number in range(5000):
        gate.count(f"2001:db8::{number:x}", passed=False, now=float(number))
    assert len(gate.checkers) <= MANY_CHECKERS and gate.state(4999.0).checkers == 61
