"""A host's own credentials: signatures as botocore makes them, where they are found, and what they are shown to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs
from hypothesis import given
from hypothesis import strategies as st

from shiftwork_agent.aws.sigv4 import Keys, signed
from shiftwork_agent.fetch import Fetcher, own
from shiftwork_agent.fetch.credentials import Chain
from shiftwork_agent.fetch.s3 import address
from shiftwork_agent.sources import GitHubSettings, S3Settings
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.place import S3Object
from shiftwork_contract.revision import Revision

NOW = 1_800_000_000.0
ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(key=ANY, version=st.one_of(st.just(""), ANY), secret=VISIBLE, token=st.one_of(st.just(""), VISIBLE))
def test_signatures_are_botocore_s(key: str, version: str, secret: str, token: str) -> None:
    url = address(S3Settings(), "eu-west-1", S3Object("bucket", key, version))
    request = AWSRequest("GET", url)
    request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": True})
    S3SigV4Auth(Theirs("AKID", secret, token or None), "s3", "eu-west-1").add_auth(request)
    at = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    keys = Keys("AKID", secret, token)
    ours = signed("GET", url, {}, b"", keys, region="eu-west-1", service="s3", at=at.timestamp())
    assert ours["authorization"] == request.headers["Authorization"]


def test_addresses() -> None:
    place = S3Object("bucket", "a b/c", "v")
    assert address(S3Settings(), "eu-west-1", place) == (
        "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c?versionId=v"
    )
    assert address(S3Settings(), "cn-north-1", S3Object("b.x", "k")) == ("https://s3.cn-north-1.amazonaws.com.cn/b.x/k")
    minio = S3Settings(endpoint="https://minio:9000/")
    assert address(minio, "x", S3Object("bucket", "k")) == "https://minio:9000/bucket/k"
    hosts = S3Settings(endpoint="https://minio:9000", path_style=False)
    assert address(hosts, "x", S3Object("bucket", "k")) == "https://bucket.minio:9000/k"


def test_secrets_do_not_show() -> None:
    shown = repr(Keys("AKID", "s3cret", "t0ken"))
    assert "s3cret" not in shown and "t0ken" not in shown


class Metadata:
    """IMDSv2 as an instance sees it. `silent`: the answer to PUT does not get through one more hop."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.role, self.status, self.lifetime = "web", 200, 3600.0
        self.silent = False
        self.now = NOW
        self.url = ""

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("token")
        if self.silent:
            assert request.transport is not None
            request.transport.close()
        assert int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
        return web.Response(text="t0ken", status=self.status)

    async def roles(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(text=self.role) if self.role else web.Response(status=404)

    async def credentials(self, request: web.Request) -> web.Response:
        self._check(request)
        self.asked.append("credentials")
        until = datetime.fromtimestamp(self.now, UTC) + timedelta(seconds=self.lifetime)
        found = {"Code": "Success", "AccessKeyId": f"AK{len(self.asked)}", "SecretAccessKey": "s", "Token": "t",
                 "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ")}  # fmt: skip
        return web.Response(text=json.dumps(found))

    def _check(self, request: web.Request) -> None:
        if request.headers.get("X-aws-ec2-metadata-token") != "t0ken":
            raise web.HTTPUnauthorized

    def chain(self, **environment: str) -> Chain:
        home = {"HOME": "/nonexistent", "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url}
        return Chain(home | environment, lambda: self.now)


@pytest.fixture
async def metadata() -> AsyncIterator[Metadata]:
    twin, app = Metadata(), web.Application()
    app.router.add_put("/latest/api/token", twin.token)
    app.router.add_get("/latest/meta-data/iam/security-credentials/", twin.roles)
    app.router.add_get("/latest/meta-data/iam/security-credentials/web", twin.credentials)
    async with TestServer(app) as server:
        twin.url = str(server.make_url("")).rstrip("/")
        yield twin


async def test_the_instance_profile_is_asked_once_until_shortly_before_it_expires(metadata: Metadata) -> None:
    chain = metadata.chain()
    first = await chain.current()
    assert await chain.current() is first and first.session_token == "t"
    metadata.now += metadata.lifetime - 200
    second = await chain.current()
    assert second.access_key != first.access_key and metadata.asked.count("credentials") == 2


async def test_credentials_that_still_hold_are_kept_while_no_new_ones_come(metadata: Metadata) -> None:
    chain = metadata.chain()
    first = await chain.current()
    metadata.status, metadata.now = 500, metadata.now + metadata.lifetime - 100
    assert await chain.current() is first
    metadata.now += 101
    with pytest.raises(Unavailable, match="answered 500"):
        await chain.current()


async def test_refused_credentials_are_fetched_anew(metadata: Metadata) -> None:
    chain = metadata.chain()
    first = await chain.current()
    assert (await chain.current(fresh=True)).access_key != first.access_key


async def test_what_is_wrong_with_an_instance_is_named(metadata: Metadata) -> None:
    metadata.silent = True
    with pytest.raises(Unavailable, match="hop-limit must be 2"):
        await metadata.chain().current()
    metadata.silent, metadata.status = False, 403
    with pytest.raises(InvalidRequest, match="switched off"):
        await metadata.chain().current()
    metadata.status, metadata.role = 200, ""
    with pytest.raises(InvalidRequest, match="no instance profile"):
        await metadata.chain().current()
    assert "credentials" not in metadata.asked


async def test_environment_then_file_then_instance(metadata: Metadata, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n[ci]\naws_access_key_id=CI\n"
                    "aws_secret_access_key=s%\naws_session_token=t\n")  # fmt: skip
    both = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    assert (await metadata.chain(**both).current()).access_key == "ENV"
    del both["AWS_ACCESS_KEY_ID"]
    assert (await metadata.chain(**both).current()).access_key == "FILE"
    assert (await Chain(both, lambda: NOW, "ci").current()).session_token == "t"
    with pytest.raises(InvalidRequest, match="profile 'none'"):
        await Chain(both, lambda: NOW, "none").current()
    assert metadata.asked == []
    assert (await metadata.chain().current()).access_key.startswith("AK")


class Kept:
    def __init__(self) -> None:
        self.body = b""

    async def begin(self) -> None:
        self.body = b""

    async def write(self, piece: bytes) -> None:
        self.body += piece


async def test_an_object_comes_with_the_host_s_own_credentials(aws: Any) -> None:
    client = boto3.client("s3", endpoint_url=aws.url)
    client.create_bucket(Bucket="own")
    client.put_bucket_versioning(Bucket="own", VersioningConfiguration={"Status": "Enabled"})
    key, data = "a b/+ä~.tgz", bytes(range(256)) * 40_000
    put = client.put_object(Bucket="own", Key=key, Body=data)
    client.put_object(Bucket="own", Key=key, Body=b"other")
    etag = put["ETag"].strip('"')
    here = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    settings = S3Settings("own", endpoint=aws.url)
    fetcher = Fetcher(**own(settings, GitHubSettings(), here, lambda: NOW))
    url = S3Object("own", key, put["VersionId"]).url
    sink = Kept()
    await fetcher.fetch(Revision("sha256:" + "1" * 64, url, size=len(data), etag=etag), sink)
    assert sink.body == data
    with pytest.raises(InvalidRequest, match="replaced"):
        await fetcher.fetch(Revision("", S3Object("own", key).url, etag=etag), Kept())
    with pytest.raises(InvalidRequest, match="NoSuchKey"):
        await fetcher.fetch(Revision("", "s3://own/none"), Kept())
    with pytest.raises(InvalidRequest, match=r"set s3\.region"):
        nowhere = {name: value for name, value in here.items() if name != "AWS_REGION"}
        await Fetcher(**own(settings, GitHubSettings(), nowhere, lambda: NOW)).fetch(Revision("", url), Kept())


COMMIT = "0123456789" * 4


@pytest.fixture
async def github() -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """An API that sends on to another server, as GitHub does. Yields its address, and (path, token) as asked."""
    asked: list[tuple[str, str]] = []
    archive, api = web.Application(), web.Application()

    async def show(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization", "")))
        return web.Response(body=b"archive") if request.query.get("token") == "short" else web.Response(status=403)

    async def send_on(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization", "")))
        if request.headers.get("Authorization") != "Bearer ghp_s3cret":
            return web.Response(status=404)
        return web.Response(status=302, headers={"Location": f"{where}legacy.tar.gz?token=short"})

    archive.router.add_get("/legacy.tar.gz", show)
    api.router.add_get("/repos/o/r/tarball/{commit}", send_on)
    async with TestServer(archive) as codeload, TestServer(api) as server:
        where = str(codeload.make_url("/"))
        yield str(server.make_url("")).rstrip("/"), asked


async def test_github_s_token_goes_to_its_api_alone(github: tuple[str, list[tuple[str, str]]], tmp_path: Path) -> None:
    api, asked = github
    (tmp_path / "token").write_text("ghp_s3cret\n")
    settings = GitHubSettings(str(tmp_path / "token"), api)
    fetcher = Fetcher(**own(S3Settings(), settings, {}, lambda: NOW))
    sink = Kept()
    await fetcher.fetch(Revision("", f"github:o/r@{COMMIT}"), sink)
    assert sink.body == b"archive"
    assert asked == [(f"/repos/o/r/tarball/{COMMIT}", "Bearer ghp_s3cret"), ("/legacy.tar.gz", "")]
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(InvalidRequest, match=f"github:o/r@{COMMIT}: the server answered 404"):
        await fetcher.fetch(Revision("", f"github:o/r@{COMMIT}"), Kept())
    (tmp_path / "token").unlink()
    with pytest.raises(InvalidRequest, match="token_file"):
        await fetcher.fetch(Revision("", f"github:o/r@{COMMIT}"), Kept())


async def test_another_etag_is_refused_also_where_the_server_knows_no_conditions() -> None:
    async def show(request: web.Request) -> web.Response:
        return web.Response(body=b"other", headers={"ETag": '"two"'})

    app = web.Application()
    app.router.add_get("/bucket/b.tgz", show)
    async with TestServer(app) as server:
        settings = S3Settings("own", "eu-west-1", str(server.make_url("")))
        here = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s"}
        fetcher = Fetcher(**own(settings, GitHubSettings(), here, lambda: NOW))
        with pytest.raises(InvalidRequest, match="ETag is two instead of one"):
            await fetcher.fetch(Revision("", "s3://bucket/b.tgz", etag="one"), Kept())
