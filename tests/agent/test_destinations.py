"""allowed_destinations: nothing is installed anywhere else, whatever links lead there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shiftwork_agent.fetch.target import Sink
from shiftwork_agent.install.roots import within
from shiftwork_agent.installer import Installer
from shiftwork_contract.archive import inspect, pack
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import BundleType, Revision


class Host:
    """A host with root's real `/`, which allows `srv` below a directory of the test."""

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.archive = tmp, tmp / "b.tgz"
        (tmp / "srv").mkdir()
        (tmp / "etc").mkdir()
        self.installer = Installer(tmp / "state", Path("/"), self, destinations=(str(tmp / "srv"),))

    async def fetch(self, revision: Revision, sink: Sink) -> None:
        await sink.begin()
        await sink.write(self.archive.read_bytes())

    async def deploy(self, destination: str, group: str = "production") -> None:
        bundle = self.tmp / "b"
        bundle.mkdir(exist_ok=True)
        (bundle / "f").write_text("x")
        spec = f"version: 0.0\nos: linux\nfiles:\n  - source: f\n    destination: {self.tmp}/{destination}\n"
        (bundle / "appspec.yml").write_text(spec)
        with self.archive.open("w+b") as out:
            pack(bundle, out)
            out.seek(0)
            identity = inspect(out, BundleType.TGZ).identity
        command = Command("c", f"d-{group}", f"g-{group}", "web", group, 1, Revision(identity, "coordinator:"))
        await self.installer.prepare(command)
        await self.installer.install(command)


@pytest.mark.parametrize("destination", ["srv", "srv/app", "srv/deep/er", "srv/inside/app"])
async def test_what_lies_below_is_installed(destination: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "srv/real").mkdir()
    (tmp_path / "srv/inside").symlink_to(tmp_path / "srv/real")
    await host.deploy(destination)
    assert (tmp_path / destination / "f").read_text() == "x"


@pytest.mark.parametrize("destination", ["etc", "srvother", "srv/way", "srv/way/app", "srv/real/up", "."])
async def test_anything_else_is_refused_before_a_file_is_touched(destination: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "srv/real").mkdir()
    (tmp_path / "srv/way").symlink_to(tmp_path / "etc")
    (tmp_path / "srv/real/up").symlink_to("../../etc")
    with pytest.raises(InvalidRequest, match="this host allows") as err:
        await host.deploy(destination)
    assert err.value.code == "DestinationNotAllowed"
    assert not list((tmp_path / "etc").iterdir()) and not (tmp_path / "srvother").exists()


async def test_a_link_that_the_bundle_brought_leads_nowhere_either(tmp_path: Path) -> None:
    """Installed as a link by one revision, it is on the way of the next one's destination."""
    host: Any = Host(tmp_path)
    (tmp_path / "b").mkdir()
    await host.deploy("srv/app")
    (tmp_path / "srv/app/out").symlink_to(tmp_path / "etc")
    with pytest.raises(InvalidRequest, match=f"which leads to {tmp_path}/etc"):
        await host.deploy("srv/app/out")


async def test_what_another_group_has_installed_is_refused_with_its_name(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.deploy("srv/app")
    with pytest.raises(InvalidRequest) as err:
        await host.deploy("srv/app", "staging")
    assert f"{tmp_path}/srv/app/f already exists and the deployment group web/production" in err.value.message
    assert "(deployment d-production) has installed it; change the destination in one of the two" in err.value.message
    with pytest.raises(
        InvalidRequest, match=r"a file is there \(the deployment group web/production \(deployment d-pr"
    ):
        await host.deploy("srv/app/f", "staging")
    (tmp_path / "srv/other").mkdir()
    (tmp_path / "srv/other/f").write_text("nobody's")
    with pytest.raises(InvalidRequest, match="this deployment group has not installed it; remove it"):
        await host.deploy("srv/other", "staging")
    await host.deploy("srv/app")


def test_roots_may_be_links_and_no_roots_are_no_limit() -> None:
    follow = {"/srv": "/data", "/srv/app": "/data/app"}.get
    assert within(("/srv",), lambda path: follow(path, path))("/srv/app") == "/data/app"
    assert within((), str)("/etc") == "/etc"
    assert within(("/",), str)("/etc") == "/etc"
    with pytest.raises(InvalidRequest):
        within(("/srv",), str)("/srvother")
