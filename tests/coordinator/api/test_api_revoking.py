"""Revocation holds against everything that happens at the same time; renewal never locks an agent out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Denied
from shiftwork_contract.messages import Hello, Welcome, encode, from_coordinator
from shiftwork_coordinator import joining
from shiftwork_coordinator.joining import amend
from shiftwork_coordinator.store import Put

from .conftest import key_and_csr

HELLO = Hello(protocol_min=1, protocol_max=1, agent_version="0.1.0", boot_id="b", next_seq=1)
BUNDLE = "/v1/agent/bundles/sha256:" + "0" * 64


def link(site: Any, tls: Any) -> Any:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))
    return session, session.ws_connect(site.url + "/v1/agent/link")


async def ended(socket: aiohttp.ClientWebSocketResponse) -> bool:
    async with asyncio.timeout(60):
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
    return True


@pytest.mark.parametrize("said_hello", [True, False])
async def test_revoking_ends_the_link_even_before_its_hello(site: Any, said_hello: bool) -> None:
    session, opening = link(site, await site.agent("web-1"))
    async with session, opening as socket:
        if said_hello:
            await socket.send_str(encode(HELLO))
            assert isinstance(from_coordinator((await socket.receive()).data), Welcome)
            async with asyncio.timeout(60):
                while not site.home.agents.connected("web-1"):
                    await asyncio.sleep(0.01)
        _, row = await site.json("POST", "/v1/instances/web-1/revoke", role="admin")
        assert row["revokedAt"] is not None
        assert await ended(socket)
    assert not site.home.agents.connected("web-1")
    assert site.services.links._tasks == {}


class Greeting:
    """A session whose link has read the instance's row just before, and gives it to the writer at the worst moment."""

    def __init__(self, site: Any, row: Any) -> None:
        self.site, self.row = site, row
        self.written: asyncio.Future[None] | None = None

    def send(self, message: Any) -> None: ...

    def close(self, reason: str) -> None:
        self.written = asyncio.ensure_future(self.site.home.store.write(Put(replace(self.row, agent_version="9"))))


async def test_a_link_that_read_the_row_before_cannot_undo_a_revocation(site: Any) -> None:
    await site.agent("web-1")
    session = Greeting(site, await site.home.store.instance("web-1"))
    site.home.agents.connect("web-1", session)
    status, _ = await site.json("POST", "/v1/instances/web-1/revoke", role="admin")
    assert status == 200
    assert session.written is not None
    await session.written
    assert (await site.home.store.instance("web-1")).revoked_at is not None


async def test_changes_of_one_instance_at_the_same_time_all_count(site: Any) -> None:
    await site.agent("web-1")
    await asyncio.gather(
        *(
            amend(site.home.store, "web-1", lambda row, k=k: replace(row, tags={**row.tags, k: "1"}))
            for k in ("a", "b", "c", "d")
        )
    )
    assert sorted((await site.home.store.instance("web-1")).tags) == ["a", "b", "c", "d"]


async def renewed(site: Any, directory: Path) -> Any:
    key, csr = key_and_csr(directory, "web-1")
    made = await joining.renew(site.home.store, site.home.clock, site.services.authority, "web-1", csr)
    return site.context(made.certificate, key)


async def opens(site: Any, tls: Any) -> bool:
    return bool((await site.json("GET", BUNDLE, tls=tls))[0] == 404)


async def test_an_agent_whose_renewals_got_lost_is_not_locked_out(site: Any, tmp_path: Path) -> None:
    first = await site.agent("web-1")
    for _ in range(3):
        last = await renewed(site, tmp_path)
    assert await opens(site, first)
    assert await opens(site, last)


async def test_the_certificate_before_ends_when_the_new_one_opened_a_link(site: Any, tmp_path: Path) -> None:
    first = await site.agent("web-1")
    second = await renewed(site, tmp_path)
    session, opening = link(site, second)
    async with session, opening as socket:
        await socket.send_str(encode(HELLO))
        await socket.receive()
    assert not await opens(site, first)
    assert await opens(site, second)


async def test_a_revoked_instance_renews_nothing(site: Any, tmp_path: Path) -> None:
    await site.agent("web-1")
    await site.json("POST", "/v1/instances/web-1/revoke", role="admin")
    with pytest.raises(Denied, match="revoked"):
        await renewed(site, tmp_path)


async def test_two_tokens_cannot_join_the_same_name(site: Any, tmp_path: Path) -> None:
    _, csr = key_and_csr(tmp_path, "web-1")
    bodies = [{"token": await site.join_token(), "name": "web-1", "csr": csr} for _ in range(4)]
    answers = await asyncio.gather(*(site.json("POST", "/v1/join", json=body) for body in bodies))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]


async def test_one_token_joins_one_of_many(site: Any, tmp_path: Path) -> None:
    _, csr = key_and_csr(tmp_path, "web-1")
    token = await site.join_token()
    bodies = [{"token": token, "name": f"web-{n}", "csr": csr} for n in range(4)]
    answers = await asyncio.gather(*(site.json("POST", "/v1/join", json=body) for body in bodies))
    assert sorted(status for status, _ in answers) == [200, 401, 401, 401]
    assert len(await site.home.store.instances()) == 1


async def test_without_a_right_token_nobody_learns_which_names_are_taken(site: Any, tmp_path: Path) -> None:
    await site.agent("web-1")
    _, csr = key_and_csr(tmp_path, "web-1")
    wrong = f"swj_{'0' * 12}_{'0' * 40}_{'0' * 32}"
    answers = [
        await site.json("POST", "/v1/join", json={"token": wrong, "name": name, "csr": csr}) for name in ("web-1", "x")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_a_refused_join_does_not_use_up_the_token(site: Any, tmp_path: Path) -> None:
    token = await site.join_token()
    _, csr = key_and_csr(tmp_path, "web-1")
    for body in ({"csr": "no request"}, {"name": "-"}):
        given = {"token": token, "name": "web-1", "csr": csr, **body}
        assert (await site.json("POST", "/v1/join", json=given))[0] == 400
    assert (await site.json("POST", "/v1/join", json={"token": token, "name": "web-1", "csr": csr}))[0] == 200
