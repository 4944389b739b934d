"""`serve` as a process: what it announces, who its socket is for, how it ends and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import encode
from shiftwork_coordinator import logs, main
from shiftwork_coordinator.main import serve

from .conftest import key_and_csr
from .test_api_revoking import HELLO

PROMPTLY = 20.0
"""Seconds: on a busy machine, and far less than the minute for which a server waits for its links."""
START = "import sys; from pathlib import Path; from shiftwork_coordinator.cli import main; main(sys.argv[1:])"


class Process:
    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.data = data
        self.log = (data.parent / "serve.log").open("ab")
        self.popen = subprocess.Popen(
            [sys.executable, "-c", START, "serve", "--data", str(data), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
        )

    def ready(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line.startswith("Listening on https://127.0.0.1:"), self.log_text()
        return dict(json.loads((self.data / "serve.json").read_text()))

    def log_text(self) -> str:
        return (self.data.parent / "serve.log").read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        code = self.popen.wait(60)
        self.log.close()
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return code


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path / "data")
    yield found
    found.end(signal.SIGKILL)


def local(told: dict[str, Any]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession("http://local", connector=aiohttp.UnixConnector(told["socket"]))


async def test_the_local_socket_is_for_its_owner_and_makes_an_admin(process: Process) -> None:
    told = await asyncio.to_thread(process.ready)
    assert stat.S_IMODE(Path(told["socket"]).stat().st_mode) == 0o600
    assert stat.S_IMODE(process.data.stat().st_mode) == 0o700
    assert told["pid"] == process.popen.pid
    async with local(told) as session:
        async with session.post("/v1/tokens", json={"kind": "agent"}) as answer:
            assert answer.status == 201
        async with session.get("/v1/audit") as answer:
            who = [line["who"] for line in (await answer.json())["audit"]]
    assert who != []
    assert "" not in who


async def test_an_agent_joins_and_is_known_by_its_certificate(process: Process, tmp_path: Path) -> None:
    """On the event loop that `serve` uses, which is not the one of the other tests."""

    told = await asyncio.to_thread(process.ready)
    key, csr = key_and_csr(tmp_path, "web-1")
    async with local(told) as session, session.post("/v1/tokens", json={"kind": "agent"}) as answer:
        token = (await answer.json())["token"]
    tls = ssl.create_default_context(cafile=told["ca"])
    tls.verify_flags |= ssl.VERIFY_X509_STRICT
    async with aiohttp.ClientSession(told["url"], connector=aiohttp.TCPConnector(ssl=tls)) as session:
        bundle = "/v1/agent/bundles/sha256:" + "0" * 64
        async with session.get(bundle) as answer:
            assert answer.status == 401
        async with session.post("/v1/join", json={"token": token, "name": "web-1", "csr": csr}) as answer:
            assert answer.status == 200
            (tmp_path / "web-1.pem").write_text((await answer.json())["certificate"])
    tls = ssl.create_default_context(cafile=told["ca"])
    tls.load_cert_chain(tmp_path / "web-1.pem", key)
    async with aiohttp.ClientSession(told["url"], connector=aiohttp.TCPConnector(ssl=tls)) as session:
        async with session.get(bundle) as answer:
            assert answer.status == 404
        async with session.ws_connect("/v1/agent/link") as link:
            await link.send_str(encode(HELLO))
            assert "Welcome" in (await link.receive()).data
            started = time.monotonic()
            assert await asyncio.to_thread(process.end) == 0
            assert time.monotonic() - started < PROMPTLY
    assert "error" not in process.log_text().lower()


async def test_it_ends_promptly_and_comes_back_as_it_was(process: Process) -> None:
    told = await asyncio.to_thread(process.ready)
    ca = Path(told["ca"]).read_text()
    async with local(told) as session, session.post("/v1/tokens", json={"kind": "operator", "role": "viewer"}) as made:
        token = (await made.json())["token"]
    started = time.monotonic()
    assert await asyncio.to_thread(process.end) == 0
    assert time.monotonic() - started < PROMPTLY
    assert not (process.data / "serve.json").exists()
    again = Process(process.data)
    try:
        told = await asyncio.to_thread(again.ready)
        assert Path(told["ca"]).read_text() == ca

        tls = ssl.create_default_context(cafile=told["ca"])
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(told["url"], connector=aiohttp.TCPConnector(ssl=tls)) as session:
            answer = await session.get("/v1/instances", headers=headers)
            assert answer.status == 200
    finally:
        again.end()


async def test_a_data_directory_has_one_process_and_a_killed_one_leaves_it_usable(process: Process) -> None:
    await asyncio.to_thread(process.ready)
    (process.data / "bundles" / ".upload-cut").write_text("half")
    second = Process(process.data)
    assert await asyncio.to_thread(second.popen.wait, 60) == 2
    assert f"process {process.popen.pid} uses it" in second.log_text()
    second.end()
    await asyncio.to_thread(process.end, signal.SIGKILL)
    third = Process(process.data)
    try:
        await asyncio.to_thread(third.ready)
        assert list((process.data / "bundles").iterdir()) == []
    finally:
        assert await asyncio.to_thread(third.end) == 0


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        process = Process(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert listening.recv(100) == b"READY=1"
            assert listening.recv(100) == b"WATCHDOG=1"
        finally:
            process.end()
        assert listening.recv(100) in (b"WATCHDOG=1", b"STOPPING=1")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = Process(tmp_path / "data", "--listen", f"127.0.0.1:{port}")
        assert process.popen.wait(60) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in process.log_text()
    assert "Traceback" not in process.log_text()
    process.end()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"listen": "nowhere"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:65536"}, "HOST:PORT"),
        ({"database": "mysql://u:secret@h/d"}, "cannot use the database"),
        ({"config": Path("x.yml")}, "--config"),
        ({"data": Path("/tmp") / ("x" * 100)}, "the limit is 107"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: str
) -> None:
    monkeypatch.setattr(logs, "configure", lambda: None)  # it would change the logging of all tests after this one
    with pytest.raises(InvalidRequest, match=expected) as refused:
        serve(**{"data": tmp_path / "data", "listen": "127.0.0.1:0", **options})
    assert "secret" not in str(refused.value)


def test_every_address_is_in_the_certificate() -> None:
    names = main._names("192.0.2.7", ("deploy.example.org",))
    assert {"192.0.2.7", "deploy.example.org", "localhost", "127.0.0.1", "::1"} <= set(names)
    assert "0.0.0.0" not in main._names("0.0.0.0", ())
