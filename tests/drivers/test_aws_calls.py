"""How AWS is called: beside the event loop, and beside one another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.aws import clients
from shiftwork_coordinator.model.settings import Aws


class Slow:
    """A client of which `invoke` waits until `let_go`."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.threads: list[threading.Thread] = []

    def invoke(self) -> str:
        self.threads.append(threading.current_thread())
        self.let_go.wait(20)
        return "invoked"

    def describe_alarms(self) -> str:
        return "described"

    def update_alias(self) -> str:
        raise InvalidRequest("cannot do this")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    found = Slow()
    monkeypatch.setattr(clients, "client", lambda *where: found)
    yield found
    found.let_go.set()


def call(operation: str) -> Any:
    return clients.call("lambda", operation, Aws())


async def test_functions_that_take_their_time_keep_nobody_from_reading_alarms(slow: Slow) -> None:
    invoked = [asyncio.ensure_future(call("invoke")) for _ in range(40)]
    async with asyncio.timeout(60):
        assert await call("describe_alarms") == "described"
    assert all(thread.daemon for thread in slow.threads), "the process does not wait for them when it ends"
    slow.let_go.set()
    assert set(await asyncio.gather(*invoked)) == {"invoked"}


async def test_errors_and_cancellation_come_through(slow: Slow) -> None:
    with pytest.raises(InvalidRequest):
        await call("update_alias")
    waiting = asyncio.ensure_future(call("invoke"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        ("eu-west-1", {"AWS_REGION": "eu-north-1"}, "eu-west-1"),
        ("", {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "us-east-1"}, "eu-north-1"),
        ("", {"AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
    ],
)
def test_the_region_is_the_groups_else_the_environments(
    asked: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert clients._made("sts", asked, "", 1.0, 1).meta.region_name == expected
