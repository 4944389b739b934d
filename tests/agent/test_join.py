"""Joining, against a coordinator with a CA of its own."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shiftwork_agent import config, identity, status
from shiftwork_agent import join as join_module
from shiftwork_agent.cli import main
from shiftwork_agent.join import Wish, join
from shiftwork_agent.layout import Layout
from shiftwork_agent.testing import FakeCoordinator
from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, Unavailable
from shiftwork_contract.lifecycle import EventStatus

Authority = Any


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state")


async def test_an_agent_joins_and_keeps_its_key(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    file = tmp_path / "etc" / "agent.yml"
    wish = Wish(secure.url, authority.token, "web-3", address="127.77.0.3", install_root="/srv/web-3")
    about = await join(wish, layout, file)
    assert (about.instance, about.name) == ("i-fake", "web-3") and about.renew_at < about.expires
    assert authority.joins[0].keys() == {"token", "name", "csr", "address"}
    assert "PRIVATE" in layout.key.read_text() and "PRIVATE" not in str(authority.joins)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (layout.state, layout.identity, layout.key, file)}
    assert modes == {"state": 0o711, "identity": 0o700, "key.pem": 0o600, "agent.yml": 0o600}
    settings = config.load(file)
    assert (settings.coordinators, settings.address, settings.install_root) == (
        (secure.url,),
        "127.77.0.3",
        "/srv/web-3",
    )
    assert isinstance(identity.credentials(layout).context, ssl.SSLContext)


async def test_a_second_join_needs_force(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    await join(Wish(secure.url, authority.token, "a"), layout, tmp_path / "a.yml")
    key = layout.key.read_text()
    with pytest.raises(Conflict, match="already belongs to instance i-fake"):
        await join(Wish(secure.url, authority.token, "b"), layout, tmp_path / "a.yml")
    assert layout.key.read_text() == key
    await join(Wish(secure.url, authority.token, "b", force=True), layout, tmp_path / "a.yml")
    assert layout.key.read_text() != key


async def test_joining_takes_nothing_back_that_the_host_s_owner_has_set(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "a.yml").write_text("require_signed: true\nallowed_destinations: [/srv]\n")
    await join(Wish(secure.url, authority.token, "a"), layout, tmp_path / "a.yml")
    found = config.load(tmp_path / "a.yml")
    assert (found.require_signed, found.allowed_destinations, found.coordinators) == (True, ("/srv",), (secure.url,))


async def test_a_coordinator_with_another_ca_never_sees_the_token(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    with pytest.raises(Denied, match="somebody answers in its place"):
        await join(Wish(secure.url, "swj_tok1_s3cret_" + "0" * 32), layout, tmp_path / "a.yml")
    assert authority.joins == [] and not layout.key.exists()


async def test_a_refused_token_is_explained(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    authority.refusal = (403, "the token expired an hour ago")
    with pytest.raises(Denied, match="expired an hour ago"):
        await join(Wish(secure.url, authority.token), layout, tmp_path / "a.yml")


@pytest.mark.parametrize(("url", "token"), [("http://x", "t"), ("https://x:1", "swj_wrong"), ("nonsense", "t")])
async def test_wrong_input_is_refused(url: str, token: str, layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        await join(Wish(url, token), layout, tmp_path / "a.yml")


async def test_an_unreachable_coordinator_is_said_to_be(
    authority: Authority, layout: Layout, tmp_path: Path, free_port: int
) -> None:
    with pytest.raises(Unavailable, match="cannot reach"):
        await join(Wish(f"https://127.0.0.1:{free_port}", authority.token), layout, tmp_path / "a.yml")


def test_exit_codes(authority: Authority, tmp_path: Path, free_port: int) -> None:
    common = ["--state", str(tmp_path / "s"), "--config", str(tmp_path / "c.yml")]
    run = CliRunner().invoke
    away = run(main, ["join", f"https://127.0.0.1:{free_port}", "--token", authority.token, *common])
    bad = run(main, ["join", f"https://127.0.0.1:{free_port}", "--token", "swj_bad", *common])
    assert (away.exit_code, bad.exit_code) == (3, 2)
    assert run(main, ["status", "--state", str(tmp_path / "s")]).exit_code == 3
    assert run(main, ["run", *common]).exit_code == 2


async def test_a_new_coordinator_finds_no_memory_of_the_old_one(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path, bench: Any
) -> None:
    bench.coordinator.epoch, bench.coordinator.acknowledging = 7, False
    async with bench.agent():
        await bench.run(bench.command("Install"))
    assert layout.ledger.exists()
    await join(Wish(secure.url, authority.token, "b", force=True), layout, tmp_path / "a.yml")
    bench.coordinator.epoch, bench.coordinator.acknowledging = 1, True
    bench.coordinator.reports.clear()
    async with bench.agent():
        hello = bench.coordinator.hellos[-1]
        assert (hello.epoch_seen, hello.next_seq) == (0, 1)
        assert (await bench.run(bench.command("Install", sequence=1, id="new"))).status is EventStatus.SUCCEEDED
        assert {report.command_id for report in bench.coordinator.reports.values()} == {"new"}


async def test_the_memory_of_a_running_agent_is_left_alone(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    layout.create()
    layout.ledger.write_text("")
    held = status.lock(layout)
    with pytest.raises(Conflict, match="stop it"):
        await join(Wish(secure.url, authority.token, "b", force=True), layout, tmp_path / "a.yml")
    os.close(held)
    assert authority.joins == [] and layout.ledger.exists()


async def test_what_could_not_be_kept_is_refused_before_the_token_is_spent(
    secure: FakeCoordinator, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for layout, file in (
        (Layout(tmp_path / "file" / "state"), tmp_path / "agent.yml"),
        (Layout(tmp_path / "state"), tmp_path / "file" / "agent.yml"),
    ):
        with pytest.raises(InvalidRequest, match="not a directory that this user may write"):
            await join(Wish(secure.url, authority.token, "web-3"), layout, file)
    assert authority.joins == []


def waiting(authority: Authority, url: str, **more: Any) -> Wish:
    return Wish(url, name="web-3", fingerprint=f"sha256:{authority.fingerprint}", wait=True, **more)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_interrupted_wait_goes_on_with_the_same_key(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_module, "ASK_EVERY", 0.02)
    monkeypatch.setattr(join_module, "TELL_EVERY", 0.05)
    told: list[str] = []
    first = asyncio.ensure_future(join(waiting(authority, secure.url), layout, tmp_path / "a.yml", told.append))
    await until(lambda: len(authority.asks) > 4)
    assert layout.waiting_key.stat().st_mode & 0o777 == 0o600 and not layout.about.exists()
    assert any("Still waiting" in line for line in told)
    first.cancel()
    key, shown = layout.waiting_key.read_text(), told[1]
    second = asyncio.ensure_future(join(waiting(authority, secure.url), layout, tmp_path / "a.yml", told.append))
    asked = len(authority.asks)
    await until(lambda: len(authority.asks) > asked)
    for away in ((503, "the lease has run out"), (429, "too many")):
        authority.decision, asked = away, len(authority.asks)
        await until(lambda asked=asked: len(authority.asks) > asked)
    authority.decision = (200, "")
    assert (await second).name == "web-3"
    assert (layout.key.read_text(), told.count(shown)) == (key, 2) and not layout.waiting_key.exists()
    assert authority.joins == [] and set(authority.asks[0]) == {"name", "csr", "address"}


async def test_a_denied_key_is_not_used_again(
    secure: FakeCoordinator, authority: Authority, layout: Layout, tmp_path: Path
) -> None:
    authority.decision = (401, "an operator has denied this request")
    with pytest.raises(Denied, match="has denied"):
        await join(waiting(authority, secure.url), layout, tmp_path / "a.yml")
    assert not layout.waiting_key.exists() and not layout.key.exists()


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish("https://x:1", wait=True), "--ca-fingerprint"),
        (Wish("https://x:1"), "one of --token T"),
        (Wish("https://x:1", "swj_a_b_" + "0" * 32, wait=True), "one of --token T"),
        (Wish("https://x:1", wait=True, fingerprint="sha256:abcd"), "32 to 64 hex digits"),
    ],
)
async def test_a_join_without_a_token_needs_to_know_the_coordinator(
    wish: Wish, told: str, layout: Layout, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await join(wish, layout, tmp_path / "a.yml")
