"""The command as people type it, against an API over the made-up coordinator and real SSH servers on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_coordinator.bootstrap.fleet import Result
from shiftwork_coordinator.bootstrap.ports import Ticket
from shiftwork_coordinator.bootstrap.targets import Target
from shiftwork_coordinator.cli.bootstrap import _dialled
from shiftwork_coordinator.cli.bootstrap_screen import picture
from shiftwork_coordinator.cli.bootstrapping import ApiCoordinator
from shiftwork_coordinator.cli.client import connected
from shiftwork_coordinator.cli.context import Where
from shiftwork_coordinator.clock import SystemClock

URL = "https://coordinator.example.com:7070"
COMMAND = (sys.executable, "-m", "shiftwork_coordinator.cli", "bootstrap")


def api(coordinator) -> web.Application:
    async def ca(request):
        return web.Response(text=coordinator.ca)

    async def instances(request):
        rows = [
            {"instance": name, "connected": row.connected, "agentVersion": row.version, "revokedAt": None}
            for name, row in coordinator.instances.items()
        ]
        return web.json_response({"instances": rows})

    async def create(request):
        asked = msgspec.json.decode(await request.read())
        assert (asked["kind"], asked["uses"], asked["ttl"]) == ("agent", 1, 300.0)
        assert asked.get("group", "web/production") == "web/production"
        ticket = await coordinator.admit(asked["name"], asked["tags"])
        return web.json_response({"id": ticket.id, "token": ticket.text}, status=201)

    async def revoke(request):
        texts = {id: text for text, id in coordinator.tokens.items()}
        await coordinator.withdraw(Ticket(request.match_info["id"], texts[request.match_info["id"]]))
        return web.json_response({})

    async def listed(request):
        return web.json_response({"tokens": []})

    async def group(request):
        return web.json_response({"deploymentGroupName": request.match_info["group"]})

    app = web.Application()
    app.router.add_get("/v1/tokens", listed)
    app.router.add_get("/v1/groups/web/{group:production}", group)
    app.router.add_get("/v1/ca.pem", ca)
    app.router.add_get("/v1/instances", instances)
    app.router.add_post("/v1/tokens", create)
    app.router.add_delete("/v1/tokens/{id}", revoke)
    return app


@pytest.fixture
async def shiftwork(ssh_fleet, monkeypatch):
    """Starts the command over all hosts of the fleet."""
    server = TestServer(api(ssh_fleet.coordinator))
    await server.start_server()
    monkeypatch.setenv("SHIFTWORK_URL", str(server.make_url("")).rstrip("/"))
    monkeypatch.setenv("SHIFTWORK_TOKEN", "swt_x")

    async def start(*args, **streams):
        directory = ssh_fleet.directory
        inventory = directory / "inventory"
        inventory.write_text("".join(f"ops@127.0.0.1:{each.port} Role=web\n" for each in ssh_fleet.targets.values()))
        options = ["--inventory", inventory, "--coordinator", URL, "--identity", directory / "key"]
        options += ["--known-hosts", directory / "known_hosts", "--ssh-config", directory / "config"]
        options += ["--package", ssh_fleet.wish.packages[0].path]
        (directory / "config").touch()
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | streams
        return await asyncio.create_subprocess_exec(*COMMAND, *map(str, options), *args, **pipes)

    yield start
    await server.close()


async def test_lines_meanwhile_a_table_at_the_end_and_one_for_the_failure(ssh_fleet, shiftwork):
    await ssh_fleet.add("web-1")
    await ssh_fleet.add("web-2", look={"machine": "aarch64"})
    process = await shiftwork("--group", "web/production")
    out, err = (text.decode() for text in await process.communicate())
    assert process.returncode == 1, err
    lines = out.splitlines()
    assert lines[0].split() == ["HOST", "INSTANCE", "DONE", "TIME"]
    assert "web-1" in lines[1]
    assert "installed 0.2.0, joined, started" in lines[1]
    assert "failed" in lines[2]
    assert "needs a deb for aarch64; given: deb for x86_64" in lines[3]
    assert lines[4:] == ["    build it and name it with --package FILE", "1 well, 1 failed."]
    port = ssh_fleet.targets["web-1"].port
    assert f"127.0.0.1:{port}: joining\n" in err
    assert ssh_fleet.coordinator.made == [("web-1", {"Role": "web"})]
    assert "swj_" not in out + err


async def test_json_is_the_result_alone_and_again_nothing_is_done(ssh_fleet, shiftwork):
    await ssh_fleet.add("web-1")
    await ssh_fleet.bootstrap()
    process = await shiftwork("--output", "json")
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    told = json.loads(out)["hosts"][0]
    assert (told["instance"], told["status"], told["did"], told["problem"]) == ("web-1", "unchanged", [], "")


async def test_a_group_that_is_not_there_is_refused_by_the_check_before_any_host(make_fleet):
    async with TestServer(api(make_fleet("memory").coordinator)) as server:
        where = Where(url=str(server.make_url("")).rstrip("/"), token="swt_x")
        async with connected(where) as client:
            await ApiCoordinator(client, SystemClock(), "web/production").check()
            with pytest.raises(ShiftworkError):
                await ApiCoordinator(client, SystemClock(), "web/staging").check()


async def test_on_a_terminal_one_picture_is_redrawn(ssh_fleet, shiftwork, monkeypatch):
    await ssh_fleet.add("web-1")
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "24", "CI": ""}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    process = await shiftwork(stdout=theirs, stderr=theirs)
    os.close(theirs)
    async with asyncio.timeout(60):
        seen = await asyncio.to_thread(read_all, ours)
        assert await process.wait() == 0, seen
    assert b"\xe2\x96\xb6" in seen
    assert b"1 well, 0 failed" in seen


def read_all(descriptor):
    seen = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            piece = b""
        if not piece:
            os.close(descriptor)
            return seen
        seen += piece


async def test_ctrl_c_withdraws_the_token_and_says_what_was_done(ssh_fleet, shiftwork):
    await ssh_fleet.add("web-1", hangs="join")
    process = await shiftwork()
    async with asyncio.timeout(60):
        while b"joining" not in await process.stderr.readline():
            pass
        while "join" not in ssh_fleet.hosts["web-1"].ran:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"0 well, 0 failed, 1 interrupted: run this again." in out
    assert ssh_fleet.coordinator.made
    assert ssh_fleet.coordinator.tokens == {}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("", Where(url="https://127.0.0.1:7070")),
        ("", Where(url="http://127.0.0.1:7070")),
        ("http://c:7070", Where(url="https://c:7070")),
    ],
)
def test_agents_are_not_sent_to_themselves_nor_in_clear_text(given, where):
    with pytest.raises(InvalidRequest, match="--coordinator"):
        _dialled(given, where)


def test_the_picture_keeps_to_its_room_and_shows_failures_first():
    stages = {Target(f"web-{number}"): ("joining", 0.0) for number in range(30)}
    ended = [Result(Target("db-1"), problem="cannot reach db-1"), Result(Target("db-2"))]
    table = picture(stages, ended, 5.0, 10)
    assert table.row_count == 11
    assert next(iter(table.columns[2].cells)).plain == "cannot reach db-1"
    assert list(table.columns[1].cells)[-1].plain == "1 well, 1 failed, 21 more not shown"
