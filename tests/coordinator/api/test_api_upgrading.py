"""Packages and upgrades over the API: given by an admin, fetched by an agent, refused with the remedy."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from msgspec.structs import replace

from shiftwork_contract.messages import HostFacts
from shiftwork_coordinator.store import Put


def package(version: str) -> bytes:
    packed, control = io.BytesIO(), f"Package: shiftwork-agent\nVersion: {version}\nArchitecture: amd64\n"
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("./control")
        member.size = len(control)
        archive.addfile(member, io.BytesIO(control.encode()))
    data = packed.getvalue()
    return b"!<arch>\n" + f"{'control.tar.gz':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data


async def give(site: Any, version: str) -> Any:
    return await site.json("POST", "/v1/packages", role="admin", data=package(version))


async def test_a_package_is_kept_once_and_given_to_agents(site: Any) -> None:
    status, given = await give(site, "2")
    assert (status, given["version"], given["format"], given["machine"]) == (201, "2", "deb", "x86_64")
    status, again = await site.json("POST", "/v1/packages", role="admin", data=package("2"))
    assert (status, again["new"]) in ((200, False), (201, True))  # gzip writes the time into what it packs
    tls = await site.agent("web-1")
    latest = again["sha256"]
    async with site.request("GET", f"/v1/agent/packages/sha256:{latest}", tls=tls) as answer:
        assert answer.status == 200 and len(await answer.read()) == again["size"]
    _, listed = await site.json("GET", "/v1/packages", role="viewer")
    assert [row["version"] for row in listed["packages"]] == ["2"]
    assert [line.action for line in await site.home.store.audit()].count("package.add") >= 1


async def test_the_same_package_again_counts_as_the_one_that_came_last(site: Any) -> None:
    packed = package("2")
    answers = [await site.json("POST", "/v1/packages", role="admin", data=packed) for _ in range(2)]
    assert [status for status, _ in answers] == [201, 200]
    assert answers[1][1]["addedAt"] > answers[0][1]["addedAt"]


async def test_what_is_no_package_is_refused(site: Any) -> None:
    status, answer = await site.json("POST", "/v1/packages", role="admin", data=b"PK")
    assert status == 400 and "neither a .deb nor an .rpm" in answer["error"]["message"]
    assert list((site.data / "packages").iterdir()) == []


async def test_an_upgrade_is_created_shown_and_stopped(site: Any) -> None:
    await site.agent("web-1")
    row = await site.home.store.instance("web-1")
    facts = HostFacts("x86_64", "debian", "12", "deb")
    await site.home.store.write(Put(replace(row, agent_version="1", features=("upgrade",), host=facts)))
    status, answer = await site.json("POST", "/v1/upgrades", role="admin", json={})
    assert status == 400 and "no package is at the coordinator" in answer["error"]["message"]
    await give(site, "2")
    status, answer = await site.json("POST", "/v1/upgrades", role="admin", json={})
    assert (status, answer["error"]["code"]) == (400, "NO_PACKAGE")
    assert "deb package of version 1 for x86_64 (to go back to)" in answer["error"]["message"]
    await give(site, "1")
    status, created = await site.json("POST", "/v1/upgrades", role="admin", json={"version": "2", "atOnce": "50%"})
    assert (status, created["version"], created["overview"]["Pending"]) == (201, "2", 1)
    path = f"/v1/upgrades/{created['upgradeId']}"
    status, answer = await site.json("POST", "/v1/upgrades", role="admin", json={"version": "2"})
    assert status == 409
    status, _ = await site.json("POST", f"{path}/stop", role="admin")
    assert status == 200
    for _ in range(200):
        _, shown = await site.json("GET", path, role="viewer")
        if shown["completeTime"]:
            break
    assert (shown["status"], shown["targets"][0]["code"]) == ("Stopped", "STOPPED")
    _, listed = await site.json("GET", "/v1/upgrades", role="viewer")
    assert [one["upgradeId"] for one in listed["upgrades"]] == [created["upgradeId"]]
    assert (await site.json("GET", "/v1/upgrades/u-none", role="viewer"))[0] == 404
    assert (await site.json("POST", f"{path}/stop", role="admin"))[0] == 409


async def test_wrong_wishes_name_the_field(site: Any) -> None:
    status, answer = await site.json("POST", "/v1/upgrades", role="admin", json={"settle": -1})
    assert status == 400 and "settle" in answer["error"]["message"]
