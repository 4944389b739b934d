"""What is asked of balancers for many targets in one call, and whose error is whose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shiftwork_contract.errors import ShiftworkError, Unavailable
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.engine.actions import Register
from shiftwork_coordinator.model.rows import Asked
from shiftwork_coordinator.ports import NotTaken, Server
from shiftwork_coordinator.shell.observe import Balancer
from shiftwork_coordinator.shell.perform import Performer

NAMES = ("web-1", "web-2", "web-3")


class Refusing:
    name = "lb"

    def __init__(self, problem: ShiftworkError | None) -> None:
        self.problem = problem

    async def register(self, servers: Sequence[Server]) -> None:
        if self.problem is not None:
            raise self.problem


def not_taken(name: str) -> NotTaken:
    return NotTaken({name: f"cannot register {name}"}, code="ELB_INVALID_INSTANCE")


async def recorded(*problems: ShiftworkError | None) -> dict[str, Asked]:
    """The rows after all three were registered in one call with balancers that raise these."""
    rows: list[Asked] = []

    async def record(some: list[Asked]) -> None:
        rows.extend(some)

    drivers: list[Any] = [Balancer(f"lb-{n}", Refusing(one)) for n, one in enumerate(problems)]  # type: ignore[arg-type]
    servers = {name: Server(name, name) for name in NAMES}
    performer = Performer("d-1", drivers, servers, SystemClock(), lambda limit: True, record)
    async with asyncio.TaskGroup() as group:
        performer.start([Register(name) for name in NAMES], group)
    return {row.instance: row for row in rows}


async def test_one_that_cannot_be_registered_is_no_error_of_the_others() -> None:
    rows = await recorded(None, not_taken("web-2"), not_taken("web-3"))
    assert {name: row.error for name, row in rows.items()} == {
        "web-1": "", "web-2": "cannot register web-2", "web-3": "cannot register web-3"
    }  # fmt: skip
    assert rows["web-1"].asked_at is not None and rows["web-2"].asked_at is None


@pytest.mark.parametrize("first", [True, False])
async def test_a_balancer_that_is_away_is_an_error_of_all(first: bool) -> None:
    away, one = Unavailable("cannot reach lb"), not_taken("web-2")
    rows = await recorded(*((away, one) if first else (one, away)))
    assert rows["web-1"].error == rows["web-3"].error == "cannot reach lb"
    assert all(row.asked_at is None for row in rows.values())


class Slow:
    """Notes whom it is asked for together, and answers when it is let."""

    name = "lb"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.let = asyncio.Event()

    async def register(self, servers: Sequence[Server]) -> None:
        self.asked.append([server.instance for server in servers])
        await self.let.wait()


async def test_whoever_wants_the_same_while_a_call_is_under_way_is_in_the_next_one_together() -> None:
    async def record(rows: list[Asked]) -> None:
        pass

    slow = Slow()
    servers = {name: Server(name, name) for name in NAMES}
    performer = Performer(
        "d-1", [Balancer("lb", slow)], servers, SystemClock(), lambda limit: True, record  # type: ignore[arg-type]
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        for wanted in (NAMES[:1], NAMES[:2], NAMES):
            performer.start([Register(name) for name in wanted], group)
            await asyncio.sleep(0)
        assert slow.asked == [["web-1"]]
        slow.let.set()
        await asyncio.sleep(0.01)
        performer.start([Register(name) for name in NAMES[1:]], group)
    assert slow.asked == [["web-1"], ["web-2", "web-3"]]
