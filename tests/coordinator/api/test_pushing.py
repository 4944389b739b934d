"""Pushing: what is kept once, what is refused, and that a cut upload leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shiftwork_contract.archive import inspect
from shiftwork_coordinator.api import revisions
from shiftwork_coordinator.pushing import sweep

from .test_api_use import bundle

pytestmark = pytest.mark.usefixtures("web_app")
PUSH = "/v1/revisions?application=web&type=tgz"
GOOD = bundle(appspec_yml="version: 0.0\nos: linux\n")


def kept(site: Any) -> list[str]:
    return [path.name for path in (site.data / "bundles").iterdir()]


async def test_one_archive_serves_every_application(site: Any) -> None:
    await site.application("api")
    _, first = await site.json("POST", PUSH, role="deployer", data=GOOD)
    status, other = await site.json("POST", PUSH.replace("web", "api"), role="deployer", data=GOOD)
    assert (status, other["new"], other["revision"]) == (201, True, first["revision"])
    assert len(kept(site)) == 1


def packed(kind: str) -> bytes:
    """The same tree each time, as another archive."""
    raw = gzip.decompress(GOOD)
    if kind == "tar":
        return raw
    if kind == "tgz":
        return gzip.compress(raw, compresslevel=1, mtime=7)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("appspec.yml")
        info.external_attr = 0o644 << 16
        archive.writestr(info, "version: 0.0\nos: linux\n")
    return out.getvalue()


@pytest.mark.parametrize("together", [False, True])
async def test_every_row_describes_the_archive_that_is_kept(site: Any, together: bool) -> None:
    """However often the tree is pushed, as whatever archive, to whichever application, with a group or without."""
    pushes = [
        site.json("POST", f"/v1/revisions?application=app-{n}&type={kind}", role="deployer", data=packed(kind))
        for n, kind in enumerate(("tgz", "tar", "zip", "tgz"))
    ]
    await site.application(*(f"app-{n}" for n in range(4)))
    await site.operator("deployer")
    answers = await asyncio.gather(*pushes) if together else [await push for push in pushes]
    (identity,) = {answer["revision"] for _, answer in answers}
    data = site.services.bundles.path(identity).read_bytes()
    for n in range(4):
        row = await site.home.store.revision(f"app-{n}", identity)
        assert (row.revision.archive_sha256, row.revision.size) == (hashlib.sha256(data).hexdigest(), len(data))
        inspect(io.BytesIO(data), row.revision.bundle_type)


async def test_revisions_are_listed_newest_first(site: Any) -> None:
    pushed = [
        (await site.json("POST", PUSH, role="deployer", data=bundle(appspec_yml="version: 0.0\nos: linux\n", a_txt=t)))[
            1
        ]
        for t in ("1", "2")
    ]
    _, listed = await site.json("GET", "/v1/revisions?application=web", role="viewer")
    assert [r["revision"]["identity"] for r in listed["revisions"]] == [p["revision"] for p in reversed(pushed)]
    assert (await site.json("GET", "/v1/revisions?application=none", role="viewer"))[1] == {"revisions": []}


@pytest.mark.parametrize("query", ["", "?application=", "?application=web&type=rar", "?application=web&type=directory"])
async def test_what_is_not_asked_for_rightly_is_refused(site: Any, query: str) -> None:
    status, answer = await site.json("POST", "/v1/revisions" + query, role="deployer", data=GOOD)
    assert (status, "cannot push" in answer["error"]["message"]) == (400, True), answer


async def test_an_archive_that_is_too_large_is_refused(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "UPLOAD_LIMIT", len(GOOD) - 1)
    status, answer = await site.json("POST", PUSH, role="deployer", data=GOOD)
    assert (status, answer["error"]["code"]) == (400, "TooLarge")

    async def unannounced() -> Any:
        yield GOOD

    assert (await site.json("POST", PUSH, role="deployer", data=unannounced()))[0] == 400
    assert kept(site) == []


async def test_a_full_disk_is_said(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(function: Any, *args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(revisions.asyncio, "to_thread", full)
    status, answer = await site.json("POST", PUSH, role="deployer", data=GOOD)
    assert (status, "disk is full" in answer["error"]["message"]) == (503, True), answer
    assert kept(site) == []


async def test_an_upload_that_is_cut_leaves_nothing(site: Any) -> None:
    async def cut() -> Any:
        yield GOOD[:100]
        while not kept(site):
            await asyncio.sleep(0.01)
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await site.json("POST", PUSH, role="deployer", data=cut())
    async with asyncio.timeout(60):
        while kept(site):
            await asyncio.sleep(0.01)


async def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    directory = tmp_path / "left"
    directory.mkdir()
    for name in (".upload-1", ".upload-2", "a" * 64):
        (directory / name).write_text("x")
    sweep(directory)
    assert [path.name for path in directory.iterdir()] == ["a" * 64]


async def test_a_push_of_what_is_there_tells_a_round_of_pruning(site: Any) -> None:
    _, first = await site.json("POST", PUSH, role="deployer", data=GOOD)
    path = site.services.bundles.path(first["revision"])
    os.utime(path, (100.0, 100.0))
    _, again = await site.json("POST", PUSH, role="deployer", data=GOOD)
    assert again["new"] is False
    assert path.stat().st_mtime > 100.0


async def test_only_an_application_that_is_there_takes_revisions(site: Any) -> None:
    await site.application("api")
    status, told = await site.json("POST", PUSH.replace("web", "wbe"), role="deployer", data=GOOD)
    assert (status, told["error"]["code"]) == (404, "ApplicationDoesNotExistException")
    assert "cannot push to the application 'wbe'" in told["error"]["message"]
    assert "there are api, web; `shiftwork apply` makes" in told["error"]["message"]
    assert kept(site) == [] == await site.home.store.revisions()
