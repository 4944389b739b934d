"""The coordinator's end of the link, spoken to byte by byte."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    CommandEnded,
    Heartbeat,
    Hello,
    Message,
    Welcome,
    encode,
    from_coordinator,
)

HELLO = Hello(1, 1, "0.1.0", "boot", 1)


class Wire:
    """A raw agent: says what it is told to say, hears one message at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: Message | str) -> None:
        await self.socket.send_str(message if isinstance(message, str) else encode(message))

    async def hear(self) -> Any:
        return from_coordinator((await self.socket.receive(timeout=60)).data)

    async def closed(self) -> str:
        frame = await self.socket.receive(timeout=60)
        assert frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        return str(frame.extra)


@pytest.fixture
async def wire(site: Any) -> Any:
    tls = await site.agent("web-1")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
        session.ws_connect(f"{site.url}/v1/agent/link") as socket,
    ):
        yield Wire(socket)


async def test_hello_is_answered_with_welcome_and_then_the_agent_is_there(site: Any, wire: Wire) -> None:
    await wire.say(HELLO)
    welcome = await wire.hear()
    assert isinstance(welcome, Welcome)
    assert (welcome.protocol, welcome.epoch, welcome.instance) == (1, site.home.epoch, "web-1")
    await wire.say(Heartbeat(load1=0.5))
    await wire.say('{"kind": "Novelty", "x": 1}')
    await wire.say(Accepted(3, "d-GONE.web-1.1"))
    assert (await wire.hear()).seq == 3
    assert site.home.agents.heartbeat("web-1") == Heartbeat(load1=0.5)
    assert (await site.home.store.instance("web-1")).agent_version == "0.1.0"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (Heartbeat(), "must say Hello first"),
        (Hello(7, 9, "9", "boot", 1), "upgrade the older of the two"),
        ("{", "cannot read"),
        ('{"kind": "Hello"}', "cannot read a Hello"),
    ],
)
async def test_a_broken_greeting_ends_the_link_with_its_reason(wire: Wire, first: Message | str, told: str) -> None:
    await wire.say(first)
    assert told in await wire.closed()


async def test_a_report_on_another_instances_command_is_not_taken(site: Any, wire: Wire) -> None:
    await wire.say(HELLO)
    await wire.hear()
    await wire.say(CommandEnded(1, "d-ABC.web-2.1", EventStatus.SUCCEEDED, 0.0))
    assert "not its own" in await wire.closed()


async def test_a_late_report_on_something_forgotten_is_acknowledged_and_changes_nothing(wire: Wire) -> None:
    await wire.say(HELLO)
    await wire.hear()
    await wire.say(Accepted(7, "d-GONE.web-1.1"))
    assert (await wire.hear()).seq == 7


async def test_revoking_closes_the_live_link(site: Any, wire: Wire) -> None:
    await wire.say(HELLO)
    await wire.hear()
    row = await site.home.store.instance("web-1")
    assert row.revoked_at is None
    await site.json("POST", "/v1/instances/web-1/revoke", role="admin")
    await wire.closed()
    assert not site.home.agents.connected("web-1")
