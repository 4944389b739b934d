"""What can go wrong between the command and a coordinator: always a sentence and an exit code, never a traceback."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli.context import find


@pytest.mark.parametrize(("status", "code"), [(400, 2), (404, 2), (409, 2), (401, 3), (403, 3), (503, 3), (500, 3)])
async def test_refusals_become_exit_codes(fake, cli, status, code):
    fake.on("GET", "/v1/instances", {"error": {"code": "X", "message": "cannot do it: reasons"}}, status)
    ran = await cli("instances")
    assert ran.code == code
    assert ran.err.startswith("shiftwork: cannot do it: reasons")
    assert ran.out == ""


async def test_a_missing_token_says_where_to_get_one(fake, cli, monkeypatch):
    monkeypatch.delenv("SHIFTWORK_TOKEN")
    ran = await cli("instances")
    assert ran.code == 3
    assert "set SHIFTWORK_TOKEN" in ran.err


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"deployments": 1}', b"[]", b"\xff\xfe"])
async def test_broken_json_is_the_peers_fault(fake, cli, body):
    fake.on("GET", "/v1/deployments", body)
    ran = await cli("list")
    assert ran.code == 3
    assert "cannot understand the coordinator's answer" in ran.err


async def test_a_gateway_in_between_is_named_by_its_status(fake, cli):
    fake.on("GET", "/v1/instances", b"<html>bad gateway</html>", 502)
    assert "HTTP 502" in (await cli("instances")).err
    fake.on("GET", "/v1/instances", b"<html>moved</html>", 302)
    assert (await cli("instances")).code == 3


async def test_nobody_listens(cli, fake, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SHIFTWORK_URL", f"https://127.0.0.1:{free.getsockname()[1]}")
        ran = await cli("status")
    assert ran.code == 3
    assert "cannot reach the coordinator at https://127.0.0.1" in ran.err
    assert "`shiftwork serve`" in ran.err


async def test_tls_to_what_speaks_none(cli, fake, monkeypatch):
    monkeypatch.setenv("SHIFTWORK_URL", fake.url.replace("http", "https"))
    ran = await cli("status")
    assert ran.code == 3
    assert "cannot reach the coordinator" in ran.err


async def test_the_socket_on_its_own_host(cli, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("SHIFTWORK_URL", "")
    ran = await cli("instances", "--data", str(tmp_path))
    assert ran.code == 3
    assert f"cannot reach the coordinator at the socket {tmp_path}/shiftwork.sock (--data)" in ran.err
    assert "`shiftwork serve`" in ran.err
    fake.on("GET", "/v1/instances", {"instances": []})
    runner = web.AppRunner(fake.application())
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "shiftwork.sock")).start()
    monkeypatch.setenv("SHIFTWORK_DATA", str(tmp_path))
    ran = await cli("instances")
    await runner.cleanup()
    assert (ran.code, ran.out.split(":")[0]) == (0, "No instances yet")


@pytest.mark.parametrize(
    "args",
    [
        *(
            ("deploy", "web", "--revision", "sha256:ab"),
            ("deploy", "web/production"),
            ("nonsense",),
            ("list", "--limit", "0"),
        ),
        *(
            ("serve", "--listen", "7070"),
            ("instances", "tag", "web-1", "=x"),
            ("token", "create", "--agent", "--ttl", "x"),
        ),
        *(("apply", "-f", "/no/such/file"), ("push", "/no/such/directory", "--application", "web")),
    ],
)
async def test_usage_errors_are_2_and_ask_nobody(fake, cli, args):
    ran = await cli(*args)
    assert ran.code == 2
    assert ran.err
    assert not fake.asked


def test_where_to_look_in_this_order(tmp_path):
    config = tmp_path / "shiftwork" / "context.yml"
    home = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/home/user"}
    assert str(find(None, home, uid=0).socket) == "/var/lib/shiftwork/shiftwork.sock"
    assert str(find(None, home, uid=1000).socket) == "/home/user/.local/share/shiftwork/shiftwork.sock"
    config.parent.mkdir()
    config.write_text("url: https://a:7070/\ntoken: swt_a\n")
    assert (find(None, home).url, find(None, home).token) == ("https://a:7070", "swt_a")
    assert "swt_a" not in repr(find(None, home))
    data = home | {"SHIFTWORK_DATA": str(tmp_path)}
    assert find(None, data).socket == tmp_path / "shiftwork.sock"
    url = data | {"SHIFTWORK_URL": "https://b:7070", "SHIFTWORK_TOKEN": "swt_b"}
    assert find(None, url).token == "swt_b"
    (tmp_path / "serve.json").write_text('{"socket": "/run/else.sock"}')
    assert str(find(tmp_path, url).socket) == "/run/else.sock"


@pytest.mark.parametrize("url", ["coordinator:7070", "http://10.0.0.1:7070", "ftp://x"])
def test_addresses_that_would_not_do(url):
    with pytest.raises(InvalidRequest, match="cannot"):
        find(None, {"SHIFTWORK_URL": url})


@pytest.mark.parametrize("text", ["[", "url: ''", "just text", "url: https://a\ntokne: x"])
def test_context_files_that_would_not_do(tmp_path, text):
    (tmp_path / "shiftwork").mkdir()
    (tmp_path / "shiftwork" / "context.yml").write_text(text)
    with pytest.raises(InvalidRequest, match="context file"):
        find(None, {"XDG_CONFIG_HOME": str(tmp_path)})
