"""Watched groups: whatever a group asks to be checked, the agent lives on and tells what it found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from shiftwork_agent import quiet
from shiftwork_agent.gate import Gates
from shiftwork_agent.health import probe
from shiftwork_agent.quiet import look
from shiftwork_contract.messages import HealthCheck, Observed, Quiet, QuietCheck, SetGate, Watch

Bench = Any

ODD = [
    HealthCheck(http="http://web..example.com/"),
    HealthCheck(http="http://" + "a" * 70 + ".example.com/"),
    HealthCheck(http="http://[::1/"),
    HealthCheck(http="http://127.0.0.1:99999/"),
    HealthCheck(http="http://127.0.0.1:x/"),
    HealthCheck(http="ftp://127.0.0.1/"),
    HealthCheck(http="nonsense"),
    HealthCheck(tcp="127.0.0.1:99999"),
    HealthCheck(tcp="127.0.0.1:²"),
    HealthCheck(tcp="127.0.0.1:" + "9" * 5000),
    HealthCheck(tcp="web..example.com:80"),
    HealthCheck(command=("true\0",)),
    HealthCheck(command=("true", "\ud800")),
    HealthCheck(command=("",)),
]


@pytest.mark.parametrize("check", ODD, ids=range(len(ODD)))
async def test_a_check_that_cannot_be_made_is_a_failed_one_with_a_reason(check: HealthCheck) -> None:
    answer = await probe(check)
    assert not answer.healthy and answer.detail


async def test_an_agent_outlives_a_check_with_a_typo(bench: Bench) -> None:
    typo = HealthCheck(http="http://web..example.com/", unhealthy=1)
    async with bench.agent():
        await bench.coordinator.send(Watch(1, "g-1", 1, typo))
        seen = await bench.coordinator.expect(Observed, group_id="g-1")
        assert seen.probe is not None and not seen.probe.healthy


@pytest_asyncio.fixture
async def gates(tmp_path: Any, bench: Bench) -> AsyncIterator[Gates]:
    made = Gates(tmp_path / "gates.json", bench.clock, lambda group: None, "127.0.0.1")
    yield made
    await made.close()


@pytest.mark.parametrize("listen", [":99999", ":²", "web..example.com:80"])
async def test_a_gate_with_a_typo_in_its_address_says_so(gates: Gates, listen: str) -> None:
    await gates.set(SetGate(1, "g", 1, listen, "/g", True))
    state = gates.state("g")
    assert state is not None and "cannot listen on" in state.problem


@pytest.mark.parametrize("port", [99999, -1])
async def test_a_port_that_cannot_be_is_unknown_not_quiet(port: int) -> None:
    seen = await look(QuietCheck(port))
    assert not seen.known and str(port) in seen.detail


async def test_a_look_at_the_port_is_sent_once_and_every_new_one_is(
    bench: Bench, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def counted(check: QuietCheck, address: str = "") -> Quiet:
        looks.append(check)
        return Quiet(True)

    monkeypatch.setattr(quiet, "look", counted)
    async with bench.agent():
        await bench.coordinator.send(Watch(1, "g-1", 1, quiet=QuietCheck(free_port, window=1.6), every=0.1))
        for _ in range(12):
            await bench.coordinator.expect(Observed, group_id="g-1")
        seen = [m for m in bench.coordinator.received if isinstance(m, Observed)]
        assert 2 <= sum(m.quiet is not None for m in seen) <= len(looks)
