"""Signatures against botocore's, and credentials where AWS's own tools look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from shiftwork_agent.aws import credentials
from shiftwork_agent.aws import metadata as metadata_module
from shiftwork_agent.aws.sigv4 import Keys, signed
from shiftwork_contract.errors import InvalidRequest

AT = datetime(2026, 11, 28, 9, 26, 0, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
Bench = Any


def by_botocore(kind: Any, request: AWSRequest, keys: Keys, service: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(auth, "get_current_datetime", lambda *given, **named: AT.replace(tzinfo=None))
    signer = kind(Credentials(keys.access_key, keys.secret_key, keys.session_token or None), service, "eu-west-1")
    signer.add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("token", ["", "IQoJb3JpZ2luX2VjE//+="])
@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "service"),
    [
        ("POST", "https://sts.eu-west-1.amazonaws.com/", {"X-Shiftwork-Nonce": " a  b "}, b"Action=X", "sts"),
        ("GET", "https://example.com:8443/a%20b/c", {}, b"", "execute-api"),
        ("GET", "http://127.0.0.1:5000/bucket/a%20b/%C3%BC%2B?versionId=x%2Fy&a=", {"Range": "bytes=0-9"}, b"", "s3"),
        ("GET", "https://bucket.s3.eu-west-1.amazonaws.com/k?b=2&a=1&a=0", {}, None, "s3"),
    ],
)
def test_a_signature_is_botocores(
    method: str, url: str, headers: Any, body: Any, service: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys("AKIDEXAMPLE", SECRET, token)
    kind = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    request = AWSRequest(method, url, headers=headers, data=body)
    if body is None:
        request.context["client_config"] = None
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        monkeypatch.setattr(auth.S3SigV4Auth, "payload", lambda self, request: "UNSIGNED-PAYLOAD")
    ours = signed(method, url, headers, body, keys, region="eu-west-1", service=service, at=AT.timestamp())
    assert ours["authorization"] == by_botocore(kind, request, keys, service, monkeypatch)


def test_no_secret_shows() -> None:
    assert SECRET not in repr(Keys("AKID", SECRET, SECRET))
    assert SECRET not in str(signed("GET", "https://x/", {}, b"", Keys("A", SECRET), region="r", service="s", at=0.0))


class Metadata:
    """IMDSv2: nothing without a session token. `role` empty = no instance profile; with `answers` cleared it hangs."""

    def __init__(self) -> None:
        self.role, self.url, self.asked = "web", "", 0
        self.instance, self.answers = "i-0123456789abcdef0", asyncio.Event()
        self.answers.set()

    async def token(self, request: web.Request) -> web.Response:
        assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        return web.Response(text="session")

    async def data(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("X-aws-ec2-metadata-token") != "session":
            raise web.HTTPUnauthorized
        await self.answers.wait()
        path = request.match_info["path"]
        told = {"placement/region": "eu-west-1", "placement/availability-zone": "eu-west-1b"}
        if path in told or path == "instance-id":
            return web.Response(text=told.get(path, self.instance))
        if not self.role or path not in ("iam/security-credentials/", "iam/security-credentials/web"):
            raise web.HTTPNotFound
        if path.endswith("/"):
            return web.Response(text=self.role)
        told = {"AccessKeyId": "ASIA1", "SecretAccessKey": SECRET, "Token": "t", "Expiration": "2026-11-28T15:00:00Z"}
        return web.json_response(told)


@pytest_asyncio.fixture
async def metadata() -> AsyncIterator[Metadata]:
    service, app = Metadata(), web.Application()
    app.router.add_put("/latest/api/token", service.token)
    app.router.add_get("/latest/meta-data/{path:.*}", service.data)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


async def test_the_nearest_credentials_are_taken(metadata: Metadata, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = AKFILE\naws_secret_access_key = {SECRET}%\n[other]\nregion = x\n"
    )
    own = {"HOME": str(tmp_path), "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
    given = {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "t"}
    assert await credentials.find(own | given) == Keys("AKENV", SECRET, "t")
    assert await credentials.find(own) == Keys("AKFILE", SECRET + "%")
    assert metadata.asked == 0
    expires = datetime(2026, 11, 28, 15, tzinfo=UTC).timestamp()
    assert await credentials.find(own | {"AWS_PROFILE": "other"}) == Keys("ASIA1", SECRET, "t", expires)
    assert await credentials.region(own) == "eu-west-1"
    assert await credentials.region(own | {"AWS_REGION": "eu-north-1"}) == "eu-north-1"


async def test_without_any_it_says_where_it_looked(metadata: Metadata, tmp_path: Path, free_port: int) -> None:
    metadata.role = ""
    for more in (
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port}"},
        {"AWS_EC2_METADATA_DISABLED": "true"},
    ):
        with pytest.raises(InvalidRequest, match="no role that an instance profile gives"):
            await credentials.find({"HOME": str(tmp_path), **more})


async def test_an_instance_of_ec2_tells_which_it_is(
    bench: Bench, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
    async with bench.agent():
        host = bench.coordinator.hellos[-1].host
        assert (host.instance_id, host.region, host.zone) == (metadata.instance, "eu-west-1", "eu-west-1b")
        asked = metadata.asked
        await bench.coordinator.hang_up()
        assert (await bench.coordinator.linked(2)).host == host and metadata.asked == asked


async def test_a_metadata_service_that_hangs_is_asked_again_with_the_next_link(
    bench: Bench, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_module, "IDENTITY_LIMIT", 0.2)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
    metadata.answers.clear()
    async with bench.agent():
        assert bench.coordinator.hellos[-1].host.instance_id == ""
        metadata.answers.set()
        await bench.coordinator.hang_up()
        assert (await bench.coordinator.linked(2)).host.instance_id == metadata.instance


async def test_no_proxy_is_asked_and_what_is_no_id_is_not_told(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    here = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
    assert (await metadata_module.identity(here))[0] == metadata.instance
    metadata.instance = "<html>sign in"
    assert await metadata_module.identity(here) == ("", "", "")


@pytest.mark.parametrize(
    ("files", "environ", "asks"),
    [
        ({}, {}, False),
        ({"class/dmi/id/sys_vendor": "Amazon EC2\n"}, {}, True),
        ({"class/dmi/id/sys_vendor": "QEMU\n"}, {}, False),
        ({"class/dmi/id/sys_vendor": "Xen\n", "hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef"}, {}, True),
        ({"class/dmi/id/sys_vendor": "Xen\n", "hypervisor/uuid": "0"}, {}, False),
        ({"class/dmi/id/sys_vendor": "Amazon EC2\n"}, {"AWS_EC2_METADATA_DISABLED": "True"}, False),
        ({}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, True),
    ],
)
def test_only_where_it_belongs_the_metadata_service_is_asked(
    files: dict[str, str], environ: dict[str, str], asks: bool, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert metadata_module.expected(environ, tmp_path) is asks


async def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "c").write_text(f"aws_secret_access_key = {SECRET}\n")
    with pytest.raises(InvalidRequest, match="MissingSection") as refused:
        await credentials.find({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "c")})
    assert SECRET not in str(refused.value)
