"""Hosts that ask without a token: nothing is told to strangers, little is kept of them, and only a key is approved."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import force_setattr

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, Unavailable
from shiftwork_coordinator import approving
from shiftwork_coordinator.api.attempts import BURST, Attempts, TooMany
from shiftwork_coordinator.approving import DECIDED_FOR, PENDING_FOR, Approval, Ask, approve, ask, deny, pending
from shiftwork_coordinator.joining import amend
from shiftwork_coordinator.pki import Authority
from shiftwork_coordinator.store import Store

from .conftest import key_and_csr
from .test_tokens import Clock


class Desk:
    """A store, an authority, and a clock that a test moves."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.clock, self.directory = store, Clock(), directory
        self.authority = Authority(directory / "ca", self.clock)

    def csr(self, key: str = "web-1") -> str:
        return key_and_csr(self.directory, key)[1]

    async def ask(self, csr: str, name: str = "web-1", remote: str = "10.0.0.7") -> Any:
        return await ask(self.store, self.clock, Ask(name, csr), remote)

    async def approve(self, fingerprint: str, name: str = "web-1", **tags: str) -> Any:
        return await approve(self.store, self.clock, self.authority, fingerprint, Approval(name, tags), "root")

    async def pending(self) -> list[str]:
        return [row.name for row in await pending(self.store, self.clock)]


@pytest.fixture
async def desk(tmp_path: Path, database: Path) -> AsyncIterator[Desk]:
    store = await Store.open(database)
    yield Desk(store, tmp_path)
    await store.close()


async def test_a_host_asks_until_it_is_approved_and_then_holds_a_certificate(desk: Desk) -> None:
    csr = desk.csr()
    waiting = await desk.ask(csr)
    assert waiting.state == "pending"
    desk.clock.time += 60
    assert (await desk.ask(csr)).asked_at == waiting.asked_at
    instance = await desk.approve(waiting.fingerprint, Role="web")
    assert (instance.name, instance.tags) == ("web-1", {"Role": "web"})
    got = await desk.ask(csr)
    assert got.certificate.startswith("-----BEGIN CERTIFICATE")
    assert got.serial == instance.certificate_serial
    assert await desk.ask(csr) == got
    assert [line.action for line in await desk.store.audit()] == ["instance.approve"]


async def test_a_name_that_is_taken_is_told_to_the_operator_alone(desk: Desk) -> None:
    first = await desk.ask(desk.csr("a"))
    await desk.approve(first.fingerprint)
    second = await desk.ask(desk.csr("b"))
    assert second.state == "pending"
    with pytest.raises(Conflict, match="has joined already"):
        await desk.approve(second.fingerprint)
    assert await desk.pending() == ["web-1"]


async def test_an_approval_is_for_the_name_that_was_shown(desk: Desk) -> None:
    csr = desk.csr()
    shown = await desk.ask(csr, "web-1")
    await desk.ask(csr, "db-1")
    with pytest.raises(Conflict, match="now asks to be 'db-1'"):
        await desk.approve(shown.fingerprint, "web-1")
    assert await desk.store.instances() == []


async def test_of_two_decisions_at_once_one_counts(desk: Desk) -> None:
    shown = (await desk.ask(desk.csr())).fingerprint
    both = await asyncio.gather(
        desk.approve(shown), deny(desk.store, desk.clock, shown, "root"), return_exceptions=True
    )
    assert [type(each) for each in both].count(Conflict) == 1


async def test_a_denied_key_stays_denied_and_another_may_ask(desk: Desk) -> None:
    csr = desk.csr()
    await deny(desk.store, desk.clock, (await desk.ask(csr)).fingerprint, "root")
    assert await desk.pending() == []
    with pytest.raises(Denied):
        await desk.ask(csr)
    assert (await desk.ask(desk.csr("other"))).state == "pending"


async def test_a_revoked_instance_gets_nothing_with_its_old_request(desk: Desk) -> None:
    from msgspec.structs import replace

    csr = desk.csr()
    await desk.approve((await desk.ask(csr)).fingerprint)
    await amend(desk.store, "web-1", lambda row: replace(row, revoked_at=1.0))
    with pytest.raises(Denied):
        await desk.ask(csr)


async def test_what_is_not_asked_any_more_is_forgotten(desk: Desk) -> None:
    left, stays, decided = desk.csr("a"), desk.csr("b"), desk.csr("c")
    gone = await desk.ask(left, "left")
    await desk.ask(stays, "stays")
    await desk.approve((await desk.ask(decided, "decided")).fingerprint, "decided")
    for _ in range(2):
        desk.clock.time += PENDING_FOR * 0.6
        await desk.ask(stays, "stays")
    assert await desk.pending() == ["stays"]
    with pytest.raises(InvalidRequest, match="cannot find a request"):
        await desk.approve(gone.fingerprint, "left")
    assert (await desk.ask(decided, "decided")).state == "approved"
    desk.clock.time += DECIDED_FOR
    await desk.ask(desk.csr("d"), "new")
    assert [row.name for row in await desk.store.join_requests()] == ["new"]


async def test_only_so_many_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approving, "PENDING", 3)
    monkeypatch.setattr(approving, "PENDING_EACH", 2)
    first = desk.csr("k0")
    await desk.ask(first)
    await desk.ask(desk.csr("k1"))
    with pytest.raises(Unavailable, match="too many wait"):
        await desk.ask(desk.csr("k2"))
    await desk.ask(desk.csr("k3"), remote="10.0.0.8")
    with pytest.raises(Unavailable, match="too many wait"):
        await desk.ask(desk.csr("k4"), remote="10.0.0.9")
    assert (await desk.ask(first)).state == "pending"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Ask("../x", "c"), "cannot join as"),
        (Ask("web-1", "c" * 5000), "the limit is 4096"),
        (Ask("web-1", "c", "somewhere"), "give an IP address"),
        (Ask("web-1", "c"), "cannot read the certificate request"),
    ],
)
async def test_nonsense_is_refused_and_not_kept(desk: Desk, asked: Ask, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await ask(desk.store, desk.clock, asked, "10.0.0.7")
    assert await desk.store.join_requests() == []


async def test_a_request_is_not_kept_without_its_key(desk: Desk) -> None:
    lines = desk.csr().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    forged = "\n".join([lines[0], base64.encodebytes(der).decode().strip(), lines[-1]])
    with pytest.raises(InvalidRequest, match=r"cannot (use|read) the certificate request"):
        await desk.ask(forged)


def test_attempts_come_back_with_time_and_addresses_are_apart() -> None:
    attempts = Attempts(burst=2, each=10.0)
    for _ in range(2):
        attempts.take("10.0.0.1", 100.0)
    with pytest.raises(TooMany) as refused:
        attempts.take("10.0.0.1", 101.0)
    assert refused.value.retry_after == 9
    attempts.take("10.0.0.2", 101.0)
    attempts.take("10.0.0.1", 110.0)
    with pytest.raises(TooMany):
        attempts.take("10.0.0.1", 110.0)


def test_an_attempt_that_was_right_does_not_count() -> None:
    attempts = Attempts(burst=1, each=10.0)
    for _ in range(5):
        attempts.take("10.0.0.1", 100.0)
        attempts.give_back("10.0.0.1")


def test_a_network_of_ipv6_is_one_address_and_the_table_is_bounded() -> None:
    attempts = Attempts(burst=1, each=10.0, addresses=100)
    attempts.take("2001:db8::1", 100.0)
    with pytest.raises(TooMany):
        attempts.take("2001:db8::2", 100.0)
    for n in range(200):
        attempts.take(f"10.0.0.{n}", 100.0)
    assert len(attempts._full_at) == 100


async def test_a_stranger_who_asks_too_often_is_put_off_and_others_are_not(site: Any, tmp_path: Path) -> None:
    body = {"name": "web-1", "csr": key_and_csr(tmp_path, "web-1")[1]}
    for _ in range(BURST):
        site.services.attempts.take("127.0.0.1", site.home.clock.monotonic() + 60)
    async with site.request("POST", "/v1/join/requests", json=body) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (429, "TooMany")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await site.json("GET", "/v1/health"))[0] == 200
    assert (await site.json("GET", "/v1/join/requests", role="admin"))[1]["requests"] == []


async def test_a_fleet_behind_one_address_joins_at_once(site: Any, tmp_path: Path) -> None:
    force_setattr(site.services, "attempts", Attempts(burst=1, each=1000.0))
    token = await site.join_token(uses=3)
    for name in ("web-1", "web-2", "web-3"):
        body = {"token": token, "name": name, "csr": key_and_csr(tmp_path, name)[1]}
        assert (await site.json("POST", "/v1/join", json=body))[0] == 200


async def test_the_way_over_the_api(site: Any, tmp_path: Path) -> None:
    key, csr = key_and_csr(tmp_path, "web-1")
    body = {"name": "web-1", "csr": csr, "address": "10.0.0.11"}
    status, waits = await site.json("POST", "/v1/join/requests", json=body)
    assert (status, waits["state"]) == (202, "pending")
    _, shown = await site.json("GET", "/v1/join/requests", role="admin")
    assert shown["caFingerprint"] == f"sha256:{site.services.authority.fingerprint}"
    assert [(r["fingerprint"], r["remote"], r["address"]) for r in shown["requests"]] == [
        (waits["fingerprint"], "127.0.0.1", "10.0.0.11")
    ]
    path = f"/v1/join/requests/{waits['fingerprint']}/approve"
    assert (await site.json("POST", path, role="approver", json={"name": "web-1"}))[0] == 403
    assert (await site.json("POST", path, role="admin", json={"name": "web-1", "tags": {"Role": "web"}}))[0] == 200
    status, joined = await site.json("POST", "/v1/join/requests", json=body)
    assert (status, joined["instance"], joined["coordinators"]) == (200, "web-1", [site.url])
    tls = site.context(joined["certificate"], key)
    assert (await site.json("GET", "/v1/agent/bundles/sha256:" + "0" * 64, tls=tls))[0] == 404
    assert (await site.json("POST", path, role="admin", json={"name": "web-1"}))[0] == 404
