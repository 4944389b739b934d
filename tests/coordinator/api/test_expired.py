"""An expired certificate is good for one thing only: a new one for the same key, for 90 days."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from shiftwork_agent import expired as agents_end
from shiftwork_agent import identity, keys
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.layout import Layout
from shiftwork_contract.errors import Conflict, Denied
from shiftwork_coordinator import expired, joining
from shiftwork_coordinator.expired import RENEWABLE_FOR, Renewal
from shiftwork_coordinator.joining import amend
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.nonces import GOOD_FOR, Nonces
from shiftwork_coordinator.pki import AGENT_DAYS, Authority
from shiftwork_coordinator.store import Put, Store

from .conftest import IssuingClock
from .test_approving import Desk
from .test_both_ends import running, until
from .test_tokens import Clock

LIFE = AGENT_DAYS * 86400.0
LINK = "/v1/agent/link"


class Host:
    """An instance whose certificate was issued at the desk's time 0, and what it can show."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.nonces, self.key = desk, Nonces(), keys.new_key()
        self.csr = keys.request(self.key, "web-1")
        self.certificate = ""

    async def join(self) -> None:
        issued = self.desk.authority.issue(self.csr, "web-1")
        self.certificate = issued.certificate
        row = await self.desk.store.instance("web-1")
        assert row is None
        await self.desk.store.write(Put(Instance("web-1", certificate_serial=issued.serial)))

    def proof(self, **other: Any) -> Renewal:
        nonce = other.get("nonce") or self.nonces.new(self.desk.clock.monotonic())
        csr, key = other.get("csr", self.csr), other.get("key", self.key)
        signature = other.get("signature") or keys.renewal_proof(key, nonce, csr)
        return Renewal(nonce, other.get("certificate", self.certificate), csr, signature)

    async def renew(self, proof: Renewal | None = None) -> Any:
        desk = self.desk
        return await expired.renew(desk.store, desk.clock, desk.authority, self.nonces, proof or self.proof())


@pytest.fixture
async def host(tmp_path: Path, database: Path) -> AsyncIterator[Host]:
    store = await Store.open(database)
    found = Host(Desk(store, tmp_path))
    await found.join()
    found.desk.clock.time += LIFE
    yield found
    await store.close()


async def test_the_same_key_gets_a_new_certificate_again_and_again(host: Host) -> None:
    for _ in range(2):  # the first answer may have been lost
        made = await host.renew()
    about = keys.described(made.certificate.encode(), host.key, instance="web-1", name="web-1")
    assert about.expires == host.desk.clock.time + LIFE
    assert [(line.who, line.action) for line in await host.desk.store.audit()] == [
        ("agent web-1", "instance.renew")
    ] * 2


@pytest.mark.parametrize(
    ("later", "good"), [(-1.0, False), (0.0, True), (RENEWABLE_FOR, True), (RENEWABLE_FOR + 1, False)]
)
async def test_from_its_end_for_90_days(host: Host, later: float, good: bool) -> None:
    host.desk.clock.time += later
    if good:
        await host.renew()
        return
    with pytest.raises(Conflict if later < 0 else Denied, match="good still" if later < 0 else "more than 90 days"):
        await host.renew()


async def test_a_revoked_or_replaced_certificate_renews_nothing(host: Host) -> None:
    def replaced(row: Any) -> Any:
        return replace(row, certificate_serial="1", previous_serial="")

    before = await amend(host.desk.store, "web-1", replaced)
    with pytest.raises(Denied, match="was replaced"):
        await host.renew()
    await host.desk.store.write(Put(replace(before, certificate_serial="", revoked_at=1.0)))
    with pytest.raises(Denied, match="is revoked"):
        await host.renew()


async def test_whoever_does_not_hold_the_key_is_told_nothing(host: Host, tmp_path: Path) -> None:
    thief = keys.new_key()
    stranger = Authority(tmp_path / "stranger", host.desk.clock)
    other = host.desk.authority.issue(keys.request(thief, "db-1"), "db-1").certificate
    told = set()
    for proof in (
        host.proof(key=thief),
        host.proof(key=thief, csr=keys.request(thief, "web-1")),
        host.proof(csr=keys.request(thief, "web-1")),
        host.proof(certificate=stranger.issue(host.csr, "web-1").certificate),
        host.proof(certificate=other),
        host.proof(certificate=host.desk.authority.pem),
        host.proof(certificate="nothing"),
        host.proof(csr="nothing"),
        host.proof(signature="nothing"),
    ):
        with pytest.raises(Denied) as refused:
            await host.renew(proof)
        told.add(refused.value.message)
    assert told == {expired.REFUSED}
    assert await host.desk.store.audit() == []


async def test_a_proof_counts_once_and_for_the_nonce_that_was_given(host: Host) -> None:
    proof = host.proof()
    swapped = replace(proof, nonce=host.nonces.new(host.desk.clock.monotonic()))
    with pytest.raises(Denied, match="signature"):
        await host.renew(swapped)
    await host.renew(proof)
    with pytest.raises(Denied, match="nonce"):
        await host.renew(proof)


def test_nonces_end_and_are_of_one_coordinator() -> None:
    mine, clock = Nonces(), Clock()
    good = mine.new(clock.time)
    for wrong in ("", "x", "-", "é-é-é", good + "0", good[1:], Nonces().new(clock.time)):
        with pytest.raises(Denied, match="nonce"):
            mine.check(wrong, clock.time)
    mine.check(good, clock.time + GOOD_FOR)
    with pytest.raises(Denied):
        mine.check(good, clock.time + GOOD_FOR + 0.1)
    for n in range(5):
        mine.spend(mine.new(clock.time + n * GOOD_FOR), clock.time + n * GOOD_FOR)
    assert len(mine._used) <= 2


def test_a_used_nonce_stays_used_for_as_long_as_it_would_be_good() -> None:
    mine, clock = Nonces(), Clock()
    used = [mine.new(clock.time) for _ in range(3)]
    for nonce in used:
        mine.spend(nonce, clock.time)
    later = clock.time + GOOD_FOR
    mine.spend(mine.new(later), later)
    for nonce in used:
        with pytest.raises(Denied):
            mine.spend(nonce, later)


@pytest.fixture
def issuing() -> IssuingClock:
    """The site's CA was made, and its instances joined, 40 days ago."""
    clock = IssuingClock()
    clock.later = -40 * 86400.0
    return clock


async def expired_layout(site: Any, directory: Path) -> Layout:
    """What a host has that joined 40 days ago and was away since."""
    layout, key = Layout(directory / "state"), keys.new_key()
    asked = joining.Join(await site.join_token(), "web-1", keys.request(key, "web-1"))
    _, certificate = await joining.join(site.home.store, site.home.clock, site.services.authority, asked)
    about = keys.described(certificate.encode(), key, instance="web-1", name="web-1")
    ca = site.services.authority.pem.encode()
    identity.save(layout, about, certificate=certificate.encode(), ca=ca, key=key)
    return layout


async def test_an_expired_certificate_opens_nothing_else(site: Any, issuing: IssuingClock, tmp_path: Path) -> None:
    tls = identity.credentials(await expired_layout(site, tmp_path)).context
    assert isinstance(tls, ssl.SSLContext)
    for method, path in (("GET", LINK), ("GET", "/v1/health"), ("POST", "/v1/join/nonces")):
        with pytest.raises(aiohttp.ClientError):
            await site.json(method, path, tls=tls)


async def test_an_agent_that_was_away_for_40_days_comes_back_by_itself(
    site: Any, issuing: IssuingClock, tmp_path: Path, unused_tcp_port_factory: Any
) -> None:
    layout = await expired_layout(site, tmp_path)
    issuing.later = 0.0
    away = f"https://127.0.0.1:{unused_tcp_port_factory()}"
    config = Config((away, site.url), name="web-1")
    async with running(layout, config) as agent:
        await until(lambda: site.home.agents.connected("web-1"))
        assert agent.renewal.identity.expires > SystemClock().wall()


async def test_a_refusal_reaches_the_agent_in_words(site: Any, issuing: IssuingClock, tmp_path: Path) -> None:
    layout = await expired_layout(site, tmp_path)
    assert (await site.json("POST", "/v1/instances/web-1/revoke", role="admin"))[0] == 200
    with pytest.raises(Denied, match="is revoked"):
        await agents_end.renew(layout, [site.url])
