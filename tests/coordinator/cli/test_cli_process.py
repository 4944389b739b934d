"""The command as a process of its own: pipes, locales, terminals, TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import pty
import ssl
import sys

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ID = "d-4K7Q2M9XA"
COMMAND = (sys.executable, "-m", "shiftwork_coordinator.cli")
DEPLOY = ("deploy", "web/production", "--revision", "sha256:" + "a" * 64)


async def start(*args, stdout=asyncio.subprocess.PIPE, **environment):
    return await asyncio.create_subprocess_exec(
        *COMMAND, *args, stdout=stdout, stderr=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )


async def test_a_reader_that_leaves_is_no_traceback_and_no_success(fake):
    fake.on("GET", f"/v1/deployments/{ID}/logs", b"web-1 Install | line\n" * 200_000)
    process = await start("logs", ID)
    async with asyncio.timeout(60):
        await process.stdout.readline()
        process._transport.get_pipe_transport(1).close()
        err = await process.stderr.read()
        assert (await process.wait(), err) == (141, b"")


async def test_a_locale_without_the_characters_is_no_traceback(fake, view):
    fake.on("GET", "/v1/deployments", {"deployments": [view(description="größer", createdBy="日本")]})
    process = await start("list", PYTHONIOENCODING="latin-1")
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.rstrip().endswith(b"??")


async def test_on_a_terminal_the_picture_is_drawn_and_hooks_cannot_draw(fake, view, make_target):
    fake.on("POST", "/v1/deployments", view("Created"), 201)
    told = {"errorCode": "ScriptFailed", "scriptName": "s", "message": "m", "logTail": "\x1b]0;owned\x07\x1b[2Jgone"}
    event = {"lifecycleEventName": "Install", "status": "Failed", "diagnostics": told}
    ended = view("Failed", completeTime=1002.0, targets=[make_target("web-1", "Failed", 1, [event])])
    fake.film(ID, ("view", view()), ("view", ended))
    ours, theirs = pty.openpty()
    process = await start(*DEPLOY, stdout=theirs, TERM="xterm", COLUMNS="80", LINES="24", CI="")
    os.close(theirs)
    async with asyncio.timeout(60):
        seen = await asyncio.to_thread(read_all, ours)
        assert await process.wait() == 1
    assert b"\xe2\x9c\x98" in seen
    assert b"    | gone" in seen
    assert b"owned" not in seen
    assert b"[2J" not in seen


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


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, which is its own CA, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coordinator")])
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251  TLS reads the machine's clock
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "both.pem").write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return tmp_path


async def test_tls_needs_the_ca_and_says_so(fake, cli, certificate, monkeypatch):
    fake.on("GET", "/v1/deployments", {"deployments": []})
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "both.pem")
    runner = web.AppRunner(fake.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    monkeypatch.setenv("SHIFTWORK_URL", f"https://127.0.0.1:{port}")
    refused = await cli("list")
    monkeypatch.setenv("SHIFTWORK_CA", str(certificate / "ca.pem"))
    trusted = await cli("list")
    monkeypatch.setenv("SHIFTWORK_CA", str(certificate / "none.pem"))
    nowhere = await cli("list")
    await runner.cleanup()
    assert (refused.code, trusted.code, nowhere.code) == (3, 0, 2)
    assert "its certificate is not trusted (self-signed certificate); set SHIFTWORK_CA" in refused.err
    assert "none.pem from SHIFTWORK_CA: there is no such file; " in nowhere.err
    assert all("ca/ca.pem in the coordinator's data directory" in one.err for one in (refused, nowhere))
