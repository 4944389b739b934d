"""The real agent against the real API: joining by approval, and a coordinator that moves to another address."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from shiftwork_agent import config, identity
from shiftwork_agent import join as join_module
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.daemon import Agent
from shiftwork_agent.join import Wish, join
from shiftwork_agent.layout import Layout
from shiftwork_agent.testing import FakeInstaller
from shiftwork_contract.errors import Denied
from shiftwork_coordinator import clock as coordinators_clock
from shiftwork_coordinator.api.server import application
from shiftwork_coordinator.pki import Authority


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


class _Over(Exception):
    pass


@asynccontextmanager
async def running(layout: Layout, settings: config.Config) -> AsyncIterator[Agent]:
    try:
        async with asyncio.TaskGroup() as tasks:
            who = identity.credentials(layout)
            agent = Agent(layout, settings, who, SystemClock(), tasks, FakeInstaller(layout.state.parent))
            await agent.start()
            yield agent
            await agent.stop()
            raise _Over
    except* _Over:
        pass


@asynccontextmanager
async def restored(site: Any, directory: Path) -> AsyncIterator[str]:
    """The URL of a coordinator at another address, whose CA is a copy of the first one's."""
    shutil.copytree(site.data / "ca", directory)
    authority = Authority(directory, coordinators_clock.SystemClock())
    runner = web.AppRunner(application(replace(site.services, authority=authority)), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context(["127.0.0.1"])).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(join_module, "ASK_EVERY", 0.05)
    return Layout(tmp_path / "state")


def wish(site: Any, *more: str) -> Wish:
    return Wish(
        site.url, name="web-1", fingerprint=site.services.authority.fingerprint[:32], coordinators=more, wait=True
    )


async def asked(site: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not found:
            _, told = await site.json("GET", "/v1/join/requests", role="admin")
            found = told["requests"]
    return found[0]


async def test_a_host_is_approved_by_what_it_shows_and_follows_its_coordinator(
    site: Any, layout: Layout, tmp_path: Path
) -> None:
    told: list[str] = []
    async with restored(site, tmp_path / "copy") as elsewhere:
        joining = asyncio.ensure_future(join(wish(site, elsewhere), layout, tmp_path / "agent.yml", told.append))
        shown = (await asked(site))["fingerprint"]
        assert any(shown in line for line in told)
        path = f"/v1/join/requests/{shown}/approve"
        assert (await site.json("POST", path, role="admin", json={"name": "web-1"}))[0] == 200
        assert (await joining).instance == "web-1"
        settings = config.load(tmp_path / "agent.yml")
        assert settings.coordinators == (site.url, elsewhere)
        async with running(layout, settings) as agent:
            await until(lambda: agent.link.coordinator == site.url)
            await site.stop()
            await until(lambda: agent.link.coordinator == elsewhere)
            await until(lambda: site.home.agents.connected("web-1"))


async def test_a_denied_host_is_told_and_asks_anew_with_another_key(site: Any, layout: Layout, tmp_path: Path) -> None:
    seen = set()
    for _ in range(2):
        joining = asyncio.ensure_future(join(wish(site), layout, tmp_path / "agent.yml"))
        shown = (await asked(site))["fingerprint"]
        seen.add(shown)
        assert (await site.json("POST", f"/v1/join/requests/{shown}/deny", role="admin"))[0] == 200
        with pytest.raises(Denied, match="an operator has denied"):
            await joining
    assert len(seen) == 2
