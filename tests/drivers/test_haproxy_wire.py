"""The runtime socket's protocol against a scripted peer: answers that real HAProxy gives only on a bad day."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.balancers import haproxy_rows
from shiftwork_coordinator.balancers.haproxy_wire import LINE_LIMIT, Endpoint, TlsFiles, Wire, endpoint


@asynccontextmanager
async def peer(folder: Path, answer: Callable[[str], str | None]) -> AsyncIterator[tuple[Wire, list[str]]]:
    """A socket that answers each line; None keeps the connection open without a word."""
    asked: list[str] = []
    closing = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().rstrip("\n")
        asked.append(line)
        said = answer(line)
        if said is None:
            await closing.wait()
        else:
            writer.write(said.encode())
        writer.close()

    server = await asyncio.start_unix_server(serve, str(folder / "sock"))
    try:
        yield Wire(endpoint(f"unix://{folder}/sock"), TlsFiles(), 0.2), asked
    finally:
        closing.set()
        server.close()


async def test_a_silent_peer_is_unavailable_in_time(tmp_path: Path) -> None:
    async with peer(tmp_path, lambda _: None) as (wire, _):
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await wire.ask("show info")


async def test_a_peer_that_closes_without_an_answer_is_unavailable(tmp_path: Path) -> None:
    async with peer(tmp_path, lambda _: "") as (wire, _):
        with pytest.raises(Unavailable, match="closed without one"):
            await wire.tell(["set server b/s state maint"])


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        await Wire(endpoint(f"unix://{tmp_path}/gone"), TlsFiles(), 1.0).ask("show info")
    with pytest.raises(Unavailable, match="cannot reach HAProxy at tcp://127"):
        await Wire(endpoint("tcp://127.0.0.1:1"), TlsFiles(), 1.0).ask("show info")


async def test_any_text_after_a_change_is_an_error(tmp_path: Path) -> None:
    async with peer(tmp_path, lambda _: "\n\nNo such server.\n\n") as (wire, _):
        with pytest.raises(InvalidRequest, match=r"No such server\.") as caught:
            await wire.tell(["set server b/s state maint"])
    assert caught.value.code == "LOAD_BALANCER_REFUSED"


async def test_commands_of_one_server_stay_in_one_line(tmp_path: Path) -> None:
    whole = [f"set server web/s{n} health down; set server web/s{n} state ready" for n in range(300)]
    async with peer(tmp_path, lambda _: "\n\n") as (wire, asked):
        await wire.tell(whole)
    assert len(asked) > 1
    assert max(map(len, asked)) <= LINE_LIMIT
    assert "; ".join(asked) == "; ".join(whole)
    assert all(line.endswith("state ready") and line.split("; ")[0].endswith("health down") for line in asked)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("unix:///run/haproxy/admin.sock", Endpoint("unix:///run/haproxy/admin.sock", path="/run/haproxy/admin.sock")),
        ("tcp://127.0.0.1:9999", Endpoint("tcp://127.0.0.1:9999", host="127.0.0.1", port=9999)),
        ("tcp://[::1]:9999", Endpoint("tcp://[::1]:9999", host="::1", port=9999)),
        ("tls://lb1.example:9999", Endpoint("tls://lb1.example:9999", host="lb1.example", port=9999, tls=True)),
    ],
)
def test_endpoints(text: str, understood: Endpoint) -> None:
    assert endpoint(text) == understood


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tcp://10.0.0.5:9999", "tls:// or a unix socket"),
        ("tcp://lb1.example:9999", "tls:// or a unix socket"),
        ("tcp://127.0.0.1", "write unix"),
        ("tcp://127.0.0.1:99999", "write unix"),
        ("unix://run/haproxy.sock", "write unix"),
        ("/run/haproxy.sock", "write unix"),
        ("http://127.0.0.1:80", "write unix"),
    ],
)
def test_endpoints_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        endpoint(text)


async def test_tls_verifies_the_peer_and_shows_a_certificate(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cert)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"admin\n\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    where = endpoint(f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert await Wire(where, TlsFiles(cert, cert, key), 2.0).ask("show cli level") == "admin\n\n"
    with pytest.raises(Unavailable, match="cannot reach HAProxy at tls://127"):
        await Wire(where, TlsFiles(), 2.0).ask("show cli level")
    with pytest.raises(InvalidRequest, match="check `ca`, `cert` and `key`"):
        await Wire(where, TlsFiles("/nowhere.pem"), 2.0).ask("show cli level")
    server.close()


@pytest.mark.parametrize(
    "answer", ["Permission denied\n\n", "Unknown command: 'show'\n\n", "Name: HAProxy\nPid: 1\n\n", "x"]
)
def test_an_answer_that_means_nothing_is_unavailable(answer: str) -> None:
    with pytest.raises(Unavailable, match="cannot read HAProxy's answer"):
        haproxy_rows.view(answer)


def test_a_column_that_is_missing_is_named() -> None:
    answer = "Name: HAProxy\n\n1\n# be_id be_name\n\n# bkname/svname used_cur\n\n# pxname,svname\nweb,s1\n"
    with pytest.raises(Unavailable, match="srv_name"):
        haproxy_rows.view(answer.replace("be_name\n", "be_name\n3 web\n"))


def test_old_workers_are_read_from_the_master() -> None:
    listing = (
        "#<PID>          <type>          <reloads>\n10              master          2 [failed: 0]\n# workers\n"
        "12              worker          0\n# old workers\n11              worker          1\n# programs\n13  program\n"
    )
    assert haproxy_rows.old_workers(listing) == ["11"]
    assert haproxy_rows.old_workers(listing.replace("# old workers\n11              worker          1\n", "")) == []
