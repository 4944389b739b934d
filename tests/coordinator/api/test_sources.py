"""Revisions that lie in S3: pinned once, shown to agents, fetched by them without the coordinator's credentials."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import tarfile
import uuid
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from shiftwork_agent.fetch import Fetcher
from shiftwork_agent.installer import Installer
from shiftwork_agent.store import Store as Host
from shiftwork_contract.archive import inspect
from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.messages import Command
from shiftwork_contract.place import S3Object
from shiftwork_contract.revision import BundleType, Revision
from shiftwork_coordinator.drafting import resolve
from shiftwork_coordinator.sources import Outside
from shiftwork_coordinator.sources.github import GitHub
from shiftwork_coordinator.sources.s3 import S3

_numbers = itertools.count()
KEY, SECRET = "AKIDSHIFTWORK", "s3cret/of+the+tests"


def bundle(text: str = "v1", top: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in (("appspec.yml", "version: 0.0\nos: linux\n"), ("page", text)):
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def identity_of(data: bytes) -> str:
    return inspect(io.BytesIO(data), BundleType.TGZ).identity


class Bucket:
    def __init__(self, endpoint: str, *, versioned: bool = True) -> None:
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self.name = f"bundles-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=self.name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def put(self, key: str, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return found


@pytest.fixture
def bucket(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return Bucket(aws.url)


class Counting(S3):
    """Counts how often objects are read."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def open(self, revision: Revision) -> Any:
        self.opened += 1
        return super().open(revision)


@pytest.fixture
def s3(site: Any) -> Counting:
    s3 = Counting()
    home = site.home
    home.sources = Outside(home.store, home.clock, s3, GitHub(), site.data)
    return s3


async def fetch(site: Any, revision: Revision, into: Path) -> Host:
    """As an agent does, with its certificate, into a store of its own."""
    context = await site.agent(f"web-{next(_numbers)}")
    fetcher = Fetcher(coordinator=lambda: site.url, tls=lambda: context, sleep=_at_once)
    installer = Installer(into / "state", into / "root", fetcher)
    await installer._bring(revision)
    return installer.store


async def _at_once(seconds: float) -> None: ...


async def test_an_object_is_pinned_by_version_etag_and_tree(site: Any, s3: Counting, bucket: Bucket) -> None:
    data = bundle()
    put = bucket.put("web/b 1.tgz", data)
    found = await resolve(site.home, "web", f"s3://{bucket.name}/web/b%201.tgz")
    assert found == Revision(
        identity_of(data), f"s3://{bucket.name}/web/b%201.tgz?versionId={put['VersionId']}", "tree",
        BundleType.TGZ, "", len(data), put["ETag"].strip('"'),
    )  # fmt: skip


async def test_it_is_read_once(site: Any, s3: Counting, bucket: Bucket) -> None:
    bucket.put("b.tgz", bundle())
    first = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")
    assert await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz") == first
    assert await resolve(site.home, "web", first.url) == first
    assert s3.opened == 1
    bucket.put("b.tgz", bundle("v2"))
    assert (await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")).identity != first.identity
    assert s3.opened == 2


async def test_two_at_once_want_it_in_different_ways(site: Any, s3: Counting, bucket: Bucket) -> None:
    bucket.put("b.tgz", bundle())
    url = f"s3://{bucket.name}/b.tgz"
    wanted = (f"{url}#sha256={'a' * 64}", url, f"{url}#sha256={'b' * 64}", url)
    found = await asyncio.gather(*(resolve(site.home, "web", one) for one in wanted))
    assert [one.digest_of for one in found] == ["archive", "tree", "archive", "tree"]
    assert s3.opened == 1


async def test_a_viewer_has_the_coordinator_read_nothing(site: Any, s3: Counting, bucket: Bucket) -> None:
    bucket.put("b.tgz", bundle())
    asked = {"application": "web", "group": "production", "revision": f"s3://{bucket.name}/b.tgz"}
    status, told = await site.json("POST", "/v1/plan", role="viewer", json=asked)
    assert (status, s3.opened) == (403, 0)
    assert "deployer or higher" in told["error"]["message"]
    status, _ = await site.json("POST", "/v1/plan", role="deployer", json=asked)
    assert status != 403


async def test_with_a_digest_nothing_is_read(site: Any, s3: Counting, bucket: Bucket) -> None:
    bucket.put("b.tgz", bundle())
    found = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz#sha256={'a' * 64}")
    assert (found.identity, found.digest_of, found.etag != "") == ("sha256:" + "a" * 64, "archive", True)
    assert s3.opened == 0


async def test_a_zip_and_a_type_that_the_name_does_not_tell(site: Any, s3: Counting, bucket: Bucket) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("appspec.yml", "version: 0.0\nos: linux\n")
    bucket.put("latest", out.getvalue())
    found = await resolve(site.home, "web", f"s3://{bucket.name}/latest?bundleType=zip")
    assert found.bundle_type is BundleType.ZIP
    assert (found.identity, found.url.count("bundleType")) == (
        inspect(out, BundleType.ZIP).identity, 0,
    )  # fmt: skip


async def test_the_pinned_version_comes_whatever_was_put_there_since(
    site: Any, s3: Counting, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("b.tgz", bundle("v1"))
    pinned = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")
    bucket.put("b.tgz", bundle("v2"))
    host = await fetch(site, pinned, tmp_path / "host")
    assert (host.tree(pinned.identity) / "page").read_text() == "v1"


async def test_what_was_replaced_is_refused_where_the_bucket_keeps_no_versions(
    site: Any, s3: Counting, aws: Any, tmp_path: Path
) -> None:
    bucket = Bucket(aws.url, versioned=False)
    bucket.put("b.tgz", bundle("v1"))
    pinned = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")
    bucket.put("b.tgz", bundle("v2"))
    with pytest.raises(InvalidRequest, match="replaced after the deployment was created") as err:
        await fetch(site, pinned, tmp_path / "host")
    assert err.value.code == "DigestMismatch"
    assert list((tmp_path / "host/state/revisions").iterdir()) == []


async def test_a_wrong_digest_leaves_nothing(site: Any, s3: Counting, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("b.tgz", bundle())
    pinned = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz#sha256={'a' * 64}")
    with pytest.raises(InvalidRequest, match="its digest is"):
        await fetch(site, pinned, tmp_path / "host")
    left = [*(tmp_path / "host/state/revisions").iterdir(), *(tmp_path / "host/state/staging").iterdir()]
    assert left == []


async def test_secrets_are_neither_logged_nor_kept(
    site: Any, s3: Counting, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("b.tgz", bundle())
    with capture_logs() as told, caplog.at_level(logging.DEBUG, "shiftwork_agent"):
        pinned = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")
        await fetch(site, pinned, tmp_path / "host")
    said = f"{told}{[vars(record) for record in caplog.records if record.name.startswith('shiftwork')]}"
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in ("X-Amz-Signature", SECRET):
        assert secret not in said and secret.encode() not in kept
    assert KEY.encode() not in kept


async def test_an_agent_is_shown_what_is_pinned_and_nothing_else(site: Any, s3: Counting, bucket: Bucket) -> None:
    bucket.put("b.tgz", bundle())
    pinned = await resolve(site.home, "web", f"s3://{bucket.name}/b.tgz")
    tls = await site.agent("web-x")
    path = f"/v1/agent/bundles/{pinned.identity}"
    asked = {"allow_redirects": False, "tls": tls}
    async with site.request("GET", path, params={"url": pinned.url}, **asked) as answer:
        assert answer.status == 307 and "X-Amz-Signature" in answer.headers["Location"]
        assert answer.headers["Cache-Control"] == "no-store"
    for other in (f"s3://{bucket.name}/secret", f"s3://{bucket.name}/b.tgz", "https://169.254.169.254/"):
        async with site.request("GET", path, params={"url": other}, **asked) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("reference", "code", "remedy"),
    [
        ("s3://{bucket}/none.tgz", "RevisionDoesNotExistException", "check bucket, key"),
        ("s3://no-such-bucket-here/b.tgz", "RevisionDoesNotExistException", "check bucket, key"),
        ("s3://{bucket}/b.tgz?versionId=nonsense", "", "cannot read"),
    ],
)
async def test_what_is_not_there_is_named(
    reference: str, code: str, remedy: str, site: Any, s3: Counting, bucket: Bucket
) -> None:
    bucket.put("b.tgz", bundle())
    with pytest.raises(InvalidRequest) as err:
        await resolve(site.home, "web", reference.format(bucket=bucket.name))
    assert remedy in err.value.message and code in ("", err.value.code)


def _answer(code: str, status: int = 400, **headers: str) -> Exception:
    from botocore.exceptions import ClientError

    about: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}
    return ClientError(about, "HeadObject")


def _lack() -> Exception:
    from botocore.exceptions import NoCredentialsError

    return NoCredentialsError()


@pytest.mark.parametrize(
    ("raised", "kind", "remedy"),
    [
        (_answer("403", 403), InvalidRequest, "allow the coordinator s3:GetObject"),
        (_answer("AccessDenied", 403), InvalidRequest, "s3:GetObjectVersion"),
        (_answer("InvalidAccessKeyId", 403), InvalidRequest, "InvalidAccessKeyId"),
        (_answer("301", 301, **{"x-amz-bucket-region": "us-west-2"}), InvalidRequest, "set AWS_REGION=us-west-2"),
        (_answer("SlowDown", 503), Unavailable, "try again"),
        (_answer("405", 405), InvalidRequest, "delete marker"),
        (_lack(), InvalidRequest, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_errors_name_the_remedy(raised: Exception, kind: type[ShiftworkError], remedy: str) -> None:
    class Client:
        def head_object(self, **named: str) -> None:
            raise raised

    s3 = S3()
    s3._made = Client()
    with pytest.raises(kind, match="cannot read s3://bucket/key") as err:
        s3.look_up(S3Object("bucket", "key"), BundleType.TGZ)
    assert remedy in err.value.message


async def test_an_endpoint_that_is_not_there_may_come(
    site: Any, s3: Counting, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await resolve(site.home, "web", "s3://bucket/b.tgz")


COMMIT = "0123456789" * 4


class Twin:
    """GitHub: an API that wants a token and leads to an archive, which is packed anew each time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.status, self.url = 302, ""
        self.packed = lambda top: bundle(top=top)

    async def api(self, request: web.Request) -> web.Response:
        self.asked.append(("api", request.headers.get("Authorization", "")))
        location = f"{self.url}/codeload?token=short-s3cret"
        return web.Response(status=self.status, headers={"Location": location})

    async def archive(self, request: web.Request) -> web.Response:
        self.asked.append(("archive", request.headers.get("Authorization", "")))
        assert request.query["token"] == "short-s3cret"
        return web.Response(body=self.packed(f"o-r-{COMMIT[:7]}/"), headers={"ETag": f'W/"{len(self.asked)}"'})


@pytest.fixture
async def github(site: Any) -> AsyncIterator[Twin]:
    twin, app = Twin(), web.Application()
    app.router.add_get(f"/repos/o/r/tarball/{COMMIT}", twin.api)
    app.router.add_get("/codeload", twin.archive)
    async with TestServer(app) as server:
        twin.url = str(server.make_url("")).rstrip("/")
        hub = GitHub(twin.url, "ghp_s3cret")
        site.home.sources = Outside(site.home.store, site.home.clock, S3(), hub, site.data)
        yield twin


async def test_a_commit_is_pinned_by_its_tree_and_fetched_without_the_token(
    site: Any, github: Twin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as told, caplog.at_level(logging.DEBUG, "shiftwork_agent"):
        pinned = await resolve(site.home, "web", f"github:o/r@{COMMIT}")
        assert pinned == Revision(identity_of(bundle()), f"github:o/r@{COMMIT}")
        assert await resolve(site.home, "web", f"github:o/r@{COMMIT}#{pinned.identity.replace(':', '=')}") == pinned
        host = await fetch(site, pinned, tmp_path / "host")
    assert (host.tree(pinned.identity) / "page").read_text() == "v1"
    assert github.asked == [("api", "Bearer ghp_s3cret"), ("archive", "")] * 2
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said = f"{told}{[vars(record) for record in caplog.records if record.name.startswith('shiftwork')]}"
    assert b"s3cret" not in kept and "s3cret" not in said


def named(appspec: str, top: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in ((appspec, "version: 0.0\nos: linux\n"), ("deploy/run.sh", "#!/bin/sh\n")):
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


@pytest.mark.usefixtures("web_app")
@pytest.mark.parametrize("appspec", ["prod-spec.yml", "deploy/prod.yml"])
async def test_a_named_appspec_makes_one_revision_wherever_it_comes_from(
    appspec: str, site: Any, github: Twin, bucket: Bucket, tmp_path: Path
) -> None:
    """The directory that GitHub packs around a tree is taken off by coordinator and host, by one rule."""
    github.packed = lambda top: named(appspec, top)
    data = named(appspec, "o-r-0123456/")
    bucket.put("b.tgz", data)
    path = f"/v1/revisions?application=web&appspec={appspec.replace('/', '%2F')}"
    status, pushed = await site.json("POST", path, role="deployer", data=data)
    assert status == 201, pushed
    places = (pushed["revision"], f"s3://{bucket.name}/b.tgz", f"github:o/r@{COMMIT}")
    found = [await resolve(site.home, "web", place) for place in places]
    assert {each.identity for each in found} == {pushed["revision"]}
    for number, each in enumerate(found):
        context = await site.agent(f"host-{number}")
        fetcher = Fetcher(coordinator=lambda: site.url, tls=lambda context=context: context, sleep=_at_once)
        installer = Installer(tmp_path / f"{number}/state", tmp_path / f"{number}/root", fetcher)
        command = Command("c", "d", "g", "web", "production", 1, each, appspec=appspec)
        await installer.prepare(command)
        assert (installer.bundle_dir(each.identity) / appspec).is_file()
    status, told = await site.json("POST", "/v1/revisions?application=web", role="deployer", data=data)
    assert status == 400 and "name another with --appspec" in told["error"]["message"]


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (404, InvalidRequest, "check owner, repository and commit, and that its token may read them"),
        (401, InvalidRequest, "give the coordinator another token"),
        (500, Unavailable, "try again"),
    ],
)
async def test_errors_of_github_name_the_remedy(
    status: int, kind: type[ShiftworkError], remedy: str, site: Any, github: Twin
) -> None:
    github.status = status
    with pytest.raises(kind) as err:
        await resolve(site.home, "web", f"github:o/r@{COMMIT}")
    assert remedy in err.value.message and "s3cret" not in err.value.message


def test_settings_of_github(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    made = GitHub.configured({"SHIFTWORK_GITHUB_TOKEN_FILE": str(tmp_path / "token")})
    assert made._token == "t"
    with pytest.raises(InvalidRequest, match="SHIFTWORK_GITHUB_TOKEN_FILE"):
        GitHub.configured({"SHIFTWORK_GITHUB_TOKEN_FILE": str(tmp_path / "none")})
    with pytest.raises(InvalidRequest, match="write https://"):
        GitHub.configured({"SHIFTWORK_GITHUB_API": "http://github.example.com"})
