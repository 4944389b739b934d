"""Watching a deployment: events to the very end, output in whole lines, and searches that cannot hold anything up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog

from shiftwork_coordinator.api import deployments, search, search_child

from .test_api_use import bundle

GROUP = "application: web\ngroups:\n  production:\n    instances: {names: [web-1]}\n"


@pytest.fixture
async def waiting(site: Any) -> str:
    """A deployment that waits for an agent which is not there."""
    await site.agent("web-1")
    await site.json("POST", "/v1/apply", role="admin", json={"file": "shiftwork.yml", "text": GROUP})
    data = bundle(appspec_yml="version: 0.0\nos: linux\n")
    _, pushed = await site.json("POST", "/v1/revisions?application=web", role="deployer", data=data)
    body = {"application": "web", "group": "production", "revision": pushed["revision"]}
    status, made = await site.json("POST", "/v1/deployments", role="deployer", json=body)
    assert status == 201, made
    return str(made["deploymentId"])


async def stop(site: Any, id: str) -> None:
    status, answer = await site.json("POST", f"/v1/deployments/{id}/stop", role="deployer", json={"now": True})
    assert status == 200, answer


async def first_view(answer: Any) -> None:
    for end in (b"event: view", b"\n\n"):
        await answer.content.readuntil(end)


async def lines_until_end(answer: Any) -> list[tuple[str, Any, str]]:
    """(event, data, id) of each server-sent event."""
    async with asyncio.timeout(60):
        text = (await answer.read()).decode()
    found = []
    for block in filter(None, text.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


async def test_events_end_with_the_final_view(site: Any, waiting: str) -> None:
    async with site.request("GET", f"/v1/deployments/{waiting}/events", role="viewer") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        await first_view(answer)
        await stop(site, waiting)
        seen = await lines_until_end(answer)
    assert seen[-1][1]["status"] == "Stopped"


async def test_the_final_view_comes_even_when_the_end_falls_between_two_looks(site: Any, waiting: str) -> None:
    """The run is gone when the watcher looks again: the end is then in the rows alone."""
    changes = site.home.changes

    async def cut(id: str) -> Any:
        async for _ in changes(id):
            yield
            return

    site.home.changes = cut
    async with site.request("GET", f"/v1/deployments/{waiting}/events", role="viewer") as answer:
        await first_view(answer)
        await stop(site, waiting)
        seen = await lines_until_end(answer)
    assert seen[-1][1]["status"] == "Stopped"


async def test_a_watcher_goes_on_where_it_was_cut_off(site: Any, waiting: str) -> None:
    await stop(site, waiting)
    path = f"/v1/deployments/{waiting}/events"
    async with site.request("GET", path, role="viewer") as answer:
        numbers = [number for event, _, number in await lines_until_end(answer) if event == "history"]
    assert len(numbers) >= 2
    async with site.request("GET", path, role="viewer", headers={"Last-Event-ID": numbers[0]}) as answer:
        again = [number for event, _, number in await lines_until_end(answer) if event == "history"]
    assert again == numbers[1:]


@pytest.mark.parametrize("text", ["soon", "²", "٣", "-1", "+1", "1_0", " 1", "1" * 19, "9" * 5000])
async def test_numbers_that_are_none_are_refused(site: Any, waiting: str, text: str) -> None:
    for path, name in ((f"/v1/deployments/{waiting}/events", "after"), ("/v1/deployments", "limit")):
        status, answer = await site.json("GET", path, role="viewer", params={name: text})
        assert (status, answer["error"]["code"]) == (400, "InvalidRequest")


async def test_the_number_of_deployments_that_are_listed_has_bounds(site: Any) -> None:
    for text, expected in (("0", 400), ("1", 200), ("0500", 200), ("501", 400)):
        assert (await site.json("GET", "/v1/deployments", role="viewer", params={"limit": text}))[0] == expected


async def test_a_watcher_that_leaves_is_no_error(site: Any, waiting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, left = deployments._stream, asyncio.Event()

    async def watched(*args: Any) -> Any:
        try:
            async for piece in stream(*args):
                yield piece
        finally:
            left.set()

    monkeypatch.setattr(deployments, "_stream", watched)
    with structlog.testing.capture_logs() as logged:
        async with site.request("GET", f"/v1/deployments/{waiting}/events", role="viewer") as answer:
            await first_view(answer)
        await stop(site, waiting)
        async with asyncio.timeout(60):
            await left.wait()
    assert [line for line in logged if line["log_level"] == "error"] == []


def said(site: Any, id: str, offset: int, data: bytes, event: str = "ApplicationStart") -> None:
    site.home.outputs.append(id, "web-1", event, offset, data)


async def test_output_has_whole_lines_with_their_origin(site: Any, waiting: str) -> None:
    said(site, waiting, 0, b"one\r50%\r100%\ntw")
    said(site, waiting, 0, b"stopped\n", event="ApplicationStop")
    path = f"/v1/deployments/{waiting}/logs"
    async with site.request("GET", path, role="viewer") as answer:
        assert await answer.read() == (
            b"web-1 ApplicationStop | stopped\nweb-1 ApplicationStart | one\r50%\r100%\nweb-1 ApplicationStart | tw\n"
        )
    async with site.request("GET", path + "?target=web-1&event=ApplicationStart", role="viewer") as answer:
        assert await answer.read() == b"one\r50%\r100%\ntw\n"


async def test_following_never_breaks_a_line(site: Any, waiting: str) -> None:
    said(site, waiting, 0, b"one\ntw")
    path = f"/v1/deployments/{waiting}/logs?follow=1&target=web-1&event=ApplicationStart"
    async with site.request("GET", path, role="viewer") as answer:
        assert await answer.content.readline() == b"one\n"
        said(site, waiting, 6, b"o\nend")
        await stop(site, waiting)
        async with asyncio.timeout(60):
            assert await answer.read() == b"two\nend\n"


async def test_a_search_finds_lines_by_regular_expression(site: Any, waiting: str) -> None:
    said(site, waiting, 0, b"alpha 1\nbeta 22\ngamma 3\n")
    path = f"/v1/deployments/{waiting}/logs?target=web-1&event=ApplicationStart"
    async with site.request("GET", path, role="viewer", params={"grep": r"\d{2}$|^al"}) as answer:
        assert await answer.read() == b"alpha 1\nbeta 22\n"
    status, told = await site.json("GET", path + "&grep=(", role="viewer")
    assert (status, "no regular expression" in told["error"]["message"]) == (400, True)


async def test_a_search_that_never_ends_holds_up_nothing_but_itself(
    site: Any, waiting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    quick = tmp_path / "child.py"
    quick.write_text(search_child_source().replace("CPU_SECONDS = 10", "CPU_SECONDS = 1"))
    monkeypatch.setattr(search, "CHILD", quick)
    said(site, waiting, 0, b"a" * 60 + b"!\n")
    path = f"/v1/deployments/{waiting}/logs"
    async with site.request("GET", path, role="viewer", params={"grep": "(a+)+$"}) as answer:
        searched = asyncio.ensure_future(answer.read())
        assert (await site.json("GET", "/v1/health"))[0] == 200
        assert not searched.done()
        async with asyncio.timeout(60):
            assert b"took too long" in await searched


def search_child_source() -> str:
    from pathlib import Path

    return Path(str(search_child.__file__)).read_text()
