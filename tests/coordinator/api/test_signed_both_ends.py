"""A host that requires signatures, at the real coordinator: what is not right is refused while the old one serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_agent import daemon, identity
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.daemon import Agent
from shiftwork_agent.join import Wish, join
from shiftwork_agent.late import LateInstaller
from shiftwork_agent.layout import Layout
from shiftwork_contract.messages import HostFacts, Package, Upgrade
from shiftwork_contract.revision import Signed
from shiftwork_coordinator import balancers
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryBalancer

from .test_api_signatures import key, put, sign
from .test_api_use import apply, bundle
from .test_both_ends import until

GROUP = """\
application: web
groups:
  production:
    instances: {names: [web-1]}
    config: AllAtOnce
    load_balancers: [{memory: {}}]
"""
SPEC = "version: 0.0\nos: linux\nfiles:\n  - source: version\n    destination: /srv/app\n"
DAY = 86400.0
BLOCKED = ("deregister", "web-1")


class _Over(Exception):
    pass


class World:
    """One coordinator, one host. `serving` is the version that is installed."""

    def __init__(self, site: Any, directory: Path, balancer: MemoryBalancer) -> None:
        self.site, self.directory, self.balancer = site, directory, balancer
        self.now = SystemClock().wall()
        self.agent: Agent

    @property
    def serving(self) -> str:
        return (self.directory / "root/srv/app/version").read_text()

    async def push(self, version: str) -> str:
        data = bundle(appspec_yml=SPEC, version=version)
        _, told = await self.site.json("POST", "/v1/revisions?application=web", role="deployer", data=data)
        return str(told["revision"])

    def sign(self, tree: str, sequence: int, **facts: Any) -> Signed:
        times = {"at": self.now, "expires": self.now + DAY}
        return sign(self.directory, tree, **{"sequence": sequence} | times | facts)

    async def attach(self, tree: str, sequence: int, **facts: Any) -> str:
        """Who has signed. The coordinator knows no signers, and looks at no dates."""
        status, told = await put(self.site, tree, self.sign(tree, sequence, **facts))
        assert status == 200, told
        return str(told["signed"]["signer"])

    async def plant(self, tree: str, **fields: Any) -> None:
        """What a stolen coordinator would do: its own checks are gone round."""
        store = self.site.home.store
        stored = await store.revision("web", tree)
        await store.write(Put(replace(stored, revision=replace(stored.revision, **fields))))

    async def deploy(self, tree: str) -> Any:
        body = {"application": "web", "group": "production", "revision": tree}
        status, made = await self.site.json("POST", "/v1/deployments", role="deployer", json=body)
        assert status == 201, made
        async with asyncio.timeout(60):
            async for _ in self.site.home.changes(made["deploymentId"]):
                pass
            while True:
                path = f"/v1/deployments/{made['deploymentId']}"
                _, view = await self.site.json("GET", path, role="viewer")
                if view["completeTime"]:
                    return view

    async def refused(self, tree: str, *parts: str) -> None:
        """Before traffic is blocked, with a message that says why; what served before serves on."""
        before, calls = self.serving, list(self.balancer.calls)
        view = await self.deploy(tree)
        events = {one["lifecycleEventName"]: one for one in view["targets"][0]["lifecycleEvents"]}
        failed = [name for name, one in events.items() if one["status"] == "Failed"]
        assert (view["status"], failed) == ("Failed", ["DownloadBundle"]), events
        message = events["DownloadBundle"]["diagnostics"]["message"]
        assert all(part in message for part in parts), message
        assert self.balancer.calls == calls
        assert self.serving == before


@asynccontextmanager
async def _host(site: Any, directory: Path, signers: Path) -> AsyncIterator[Agent]:
    layout, fingerprint = Layout(directory / "state"), site.services.authority.fingerprint
    wish = Wish(site.url, name="web-1", token=await site.join_token(), fingerprint=fingerprint)
    await join(wish, layout, directory / "agent.yml")
    settings = Config(
        (site.url,), install_root=str(directory / "root"), require_signed=True, allowed_signers=str(signers)
    )
    layout.create()
    try:
        async with asyncio.TaskGroup() as tasks:
            installer = LateInstaller(layout, settings)
            agent = Agent(layout, settings, identity.credentials(layout), SystemClock(), tasks, installer, "1")
            installer.link = agent.link
            await agent.start()
            await until(lambda: site.home.agents.connected("web-1"))
            yield agent
            await agent.stop()
            raise _Over
    except* _Over:
        pass


@pytest.fixture
async def world(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    memory = MemoryBalancer(["web-1"])
    monkeypatch.setitem(balancers.BUILT_IN, "memory", lambda settings, gates: memory)  # type: ignore[arg-type]
    monkeypatch.setattr(daemon, "host_facts", lambda: HostFacts("x86_64", "debian", "12", "deb"))
    monkeypatch.setattr(daemon, "has_systemd", lambda: True)
    world = World(site, tmp_path, memory)
    signers = tmp_path / "signers"
    signers.write_text(f"web {key(tmp_path).with_suffix('.pub').read_text()}")
    signers.chmod(0o644)
    async with _host(site, tmp_path, signers) as world.agent:
        assert (await apply(site, GROUP))[0] == 200
        yield world


async def test_only_what_is_signed_takes_the_host_out_of_traffic(world: World, tmp_path: Path) -> None:
    first, second, third = [await world.push(version) for version in ("v1", "v2", "v3")]
    await world.attach(first, 1)
    assert (await world.deploy(first))["status"] == "Succeeded"
    assert (world.serving, world.balancer.calls.count(BLOCKED)) == ("v1", 1)

    await world.refused(second, second, "it is not signed", "require_signed")
    stranger = await world.attach(second, 2, by="stranger")
    await world.refused(second, "the key is not in", stranger)
    await world.attach(second, 2, at=world.now - 2 * DAY, expires=world.now - 5)
    await world.refused(second, "expired")
    elsewhere = world.sign(second, 2, application="api")
    assert (await put(world.site, second, elsewhere))[0] == 400
    await world.plant(second, signed=elsewhere)
    await world.refused(second, "for the application 'api'")
    await world.plant(second, signed=world.sign(third, 2))
    await world.refused(second, "for the tree", third)

    await world.attach(second, 2)
    stored = world.site.data / "bundles" / second.removeprefix("sha256:")
    kept = stored.read_bytes()
    stored.write_bytes(bundle(appspec_yml=SPEC, version="evil"))
    await world.refused(second, "bytes instead of")
    await world.plant(second, size=0)
    await world.refused(second, "its tree digest is", f"instead of {second}")
    stored.write_bytes(kept)
    assert (await world.deploy(second))["status"] == "Succeeded"
    assert (world.serving, world.balancer.calls.count(BLOCKED)) == ("v2", 2)

    assert (await world.deploy(first))["status"] == "Succeeded"  # back, by the signature that was accepted before
    assert world.serving == "v1"
    await world.attach(third, 1)
    await world.refused(third, "sequence 1 is not above 2")


async def test_an_upgrade_is_no_way_round(world: World) -> None:
    """Whatever the coordinator sends: a package would run as root before anybody looked for a signature."""
    row = await world.site.home.store.instance("web-1")
    assert "upgrade" not in row.features
    package = Package("2", "/v1/agent/packages/sha256:" + "0" * 64, "0" * 64, 7)
    world.agent.handle(Upgrade(world.site.home.epoch, "u-1", package))
    assert not world.agent.layout.upgrade.exists()
    assert "runs only what is signed" in world.agent.upgrades.problem
