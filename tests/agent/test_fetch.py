"""Downloads: cut, resumed, redirected, too large, refused."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shiftwork_agent.fetch import Fetcher
from shiftwork_agent.fetch.http import PART
from shiftwork_contract.errors import Denied, InvalidRequest, Unavailable
from shiftwork_contract.revision import Revision

BODY = bytes(range(256)) * 4000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Origin:
    """A server that does what a test tells it, one answer after the other; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[Handler] = []
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@pytest.fixture
async def origin() -> AsyncIterator[tuple[Origin, str]]:
    origin = Origin()
    app = web.Application()
    app.router.add_get("/{path:.*}", origin.handle)
    async with TestServer(app) as server:
        yield origin, str(server.make_url(""))


def whole(tag: str = '"one"', body: bytes = BODY) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if wanted and request.headers.get("If-Range", tag) == tag:
            start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
            headers = {"ETag": tag, "Content-Range": f"bytes {start}-{end}/{len(body)}"}
            return web.Response(status=206, body=body[start : end + 1], headers=headers)
        return web.Response(body=body, headers={"ETag": tag})

    return answer


def cut(after: int, tag: str = '"one"') -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": tag, "Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[:after])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def status(code: int) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code)

    return answer


class Kept:
    """A sink that is a file."""

    def __init__(self, path: Path) -> None:
        self._path, self.begun = path, 0

    async def begin(self) -> None:
        self._path.write_bytes(b"")
        self.begun += 1

    async def write(self, piece: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(piece)


class Pauses(list[float]):
    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetcher(base: str, pauses: Pauses | None = None, **given: int) -> Fetcher:
    return Fetcher(coordinator=lambda: base, sleep=pauses if pauses is not None else Pauses(), **given)  # type: ignore[arg-type]


IDENTITY = "sha256:" + "a" * 64
PUSHED = Revision(IDENTITY, "coordinator:")


async def test_a_bundle_is_asked_for_by_its_identity(origin: tuple[Origin, str], tmp_path: Path) -> None:
    server, base = origin
    server.answers = [whole()]
    await fetcher(base).fetch(PUSHED, Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.asked[0].path == f"/v1/agent/bundles/{IDENTITY}"


async def test_a_cut_download_goes_on_where_it_was(origin: tuple[Origin, str], tmp_path: Path) -> None:
    server, base = origin
    server.answers, pauses = [cut(300_000), whole()], Pauses()
    await fetcher(base, pauses).fetch(PUSHED, Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == BODY
    begin = int(server.asked[1].headers["Range"].removeprefix("bytes=").partition("-")[0])
    assert 0 < begin <= 300_000 and len(pauses) == 1
    assert server.asked[1].headers["If-Range"] == '"one"'


async def test_what_changed_in_between_is_fetched_anew(origin: tuple[Origin, str], tmp_path: Path) -> None:
    server, base = origin
    server.answers = [cut(300_000), whole('"two"', b"other")]
    await fetcher(base).fetch(PUSHED, Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"other"


async def test_tries_end_when_nothing_comes(origin: tuple[Origin, str], tmp_path: Path) -> None:
    server, base = origin
    server.answers, pauses = [status(503)], Pauses()
    with pytest.raises(Unavailable, match="503"):
        await fetcher(base, pauses).fetch(PUSHED, Kept(tmp_path / "a"))
    assert pauses == [1.0, 2.0, 4.0, 8.0] and len(server.asked) == 5


@pytest.mark.parametrize(
    ("code", "error"), [(404, InvalidRequest), (403, Denied), (401, Denied), (400, InvalidRequest)]
)
async def test_what_will_not_change_is_not_tried_again(
    code: int, error: type[Exception], origin: tuple[Origin, str], tmp_path: Path
) -> None:
    server, base = origin
    server.answers = [status(code)]
    with pytest.raises(error, match=str(code)):
        await fetcher(base).fetch(PUSHED, Kept(tmp_path / "a"))
    assert len(server.asked) == 1


async def test_more_bytes_than_expected_are_refused(origin: tuple[Origin, str], tmp_path: Path) -> None:
    server, base = origin
    server.answers = [whole()]
    with pytest.raises(InvalidRequest, match="larger than the 1000 bytes"):
        await fetcher(base, max_bytes=1000).fetch(PUSHED, Kept(tmp_path / "a"))
    with pytest.raises(InvalidRequest, match="larger than the 10 bytes"):
        await fetcher(base).fetch(Revision(IDENTITY, "coordinator:", size=10), Kept(tmp_path / "a"))


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Origin, str, Path]]:
    origin, app, key = Origin(), web.Application(), tmp_path / "key.pem"
    app.router.add_get("/{path:.*}", origin.handle)
    _self_signed(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key)
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=context)
    yield origin, str(server.make_url("/b.tgz")), key
    await server.close()


async def test_a_stranger_s_certificate_is_refused_at_once(secure: tuple[Origin, str, Path], tmp_path: Path) -> None:
    _, url, _ = secure
    pauses = Pauses()
    with pytest.raises(Unavailable, match=r"(?i)certificate"):
        await fetcher("", pauses).fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))
    assert pauses == []


async def test_a_redirect_to_http_is_refused(
    secure: tuple[Origin, str, Path], origin: tuple[Origin, str], tmp_path: Path
) -> None:
    server, url, key = secure
    plain, base = origin
    plain.answers = [whole()]

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(base)

    trust = ssl.create_default_context(cafile=str(key))
    server.answers = [whole(), away]
    await Fetcher(public_tls=trust).fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == BODY
    with pytest.raises(InvalidRequest, match="redirects to http"):
        await Fetcher(public_tls=trust).fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))


def _self_signed(path: Path) -> None:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2099, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("url", [
    "http://example.test/b.tgz", "ftp://example.test/b", "file://elsewhere/b", "b.tgz", "https://[", "https://h:99999/b",
    "s3://[/k",
])  # fmt: skip
async def test_other_ways_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot fetch"):
        await fetcher("").fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))


async def test_a_file_on_the_host_is_copied(tmp_path: Path) -> None:
    (tmp_path / "b c.tgz").write_bytes(b"x")
    revision = Revision(IDENTITY, f"file://{tmp_path}/b%20c.tgz")
    await fetcher("").fetch(revision, Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"x"
    with pytest.raises(InvalidRequest, match="No such file"):
        await fetcher("").fetch(Revision(IDENTITY, f"file://{tmp_path}/none.tgz"), Kept(tmp_path / "a"))
    with pytest.raises(InvalidRequest, match="not a file"):
        await fetcher("").fetch(Revision(IDENTITY, f"file://{tmp_path}"), Kept(tmp_path / "a"))


async def test_an_agent_without_coordinator_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="joined none"):
        await Fetcher().fetch(PUSHED, Kept(tmp_path / "a"))


LARGE = bytes(range(256)) * (9 * PART // 512)
"""Four parts and a half."""


async def test_a_large_file_is_read_in_ranges_and_comes_in_order(
    secure: tuple[Origin, str, Path], tmp_path: Path
) -> None:
    """Also when ranges are cut: each goes on where it was, and nothing is asked for twice."""
    server, url, key = secure
    sent, third = 0, asyncio.Event()
    cuts = {PART: 3_000_000, 3 * PART: 10}

    async def ranged(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert wanted and request.headers.get("If-Range", '"one"') == '"one"'
        start, end = int(wanted[1]), min(int(wanted[2]), len(LARGE) - 1)
        headers = {"ETag": '"one"', "Content-Range": f"bytes {start}-{end}/{len(LARGE)}"}
        if start == 2 * PART:
            third.set()
        elif start == PART:  # comes only if the next ones are asked for meanwhile
            await asyncio.wait_for(third.wait(), 60)
        response = web.StreamResponse(status=206, headers=headers | {"Content-Length": str(end + 1 - start)})
        await response.prepare(request)
        stop = start + cuts.pop(start) if start in cuts else end + 1
        await response.write(LARGE[start:stop])
        sent += stop - start
        if stop <= end:
            assert request.transport is not None
            request.transport.close()
        return response

    server.answers, sink = [ranged], Kept(tmp_path / "a")
    trust = ssl.create_default_context(cafile=str(key))
    await Fetcher(public_tls=trust, sleep=Pauses()).fetch(Revision(IDENTITY, url, size=len(LARGE)), sink)
    assert (tmp_path / "a").read_bytes() == LARGE
    assert sink.begun == 1 and cuts == {}
    assert len(LARGE) <= sent < len(LARGE) + PART  # what lay in buffers when a connection was cut


async def test_a_file_that_changes_between_two_ranges_is_begun_anew(
    secure: tuple[Origin, str, Path], tmp_path: Path
) -> None:
    server, url, key = secure
    other = LARGE[::-1]
    server.answers, sink = [whole(body=LARGE), whole('"two"', other)], Kept(tmp_path / "a")
    trust = ssl.create_default_context(cafile=str(key))
    await Fetcher(public_tls=trust, sleep=Pauses()).fetch(Revision(IDENTITY, url), sink)
    assert (tmp_path / "a").read_bytes() == other and sink.begun == 2


async def test_without_a_strong_validator_one_request_brings_all(
    secure: tuple[Origin, str, Path], tmp_path: Path
) -> None:
    server, url, key = secure
    server.answers = [whole('W/"one"', LARGE)]
    trust = ssl.create_default_context(cafile=str(key))
    await Fetcher(public_tls=trust, sleep=Pauses()).fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == LARGE
    assert [request.headers.get("Range", "") for request in server.asked] == [f"bytes=0-{PART - 1}", ""]


async def test_what_the_sink_refuses_ends_the_download(secure: tuple[Origin, str, Path], tmp_path: Path) -> None:
    server, url, key = secure
    server.answers = [whole(body=LARGE)]

    class Refusing(Kept):
        async def write(self, piece: bytes) -> None:
            await super().write(piece)
            if self._path.stat().st_size > 2 * PART:
                raise InvalidRequest("hostile")

    trust = ssl.create_default_context(cafile=str(key))
    with pytest.raises(InvalidRequest, match="hostile"):
        await Fetcher(public_tls=trust, sleep=Pauses()).fetch(Revision(IDENTITY, url), Refusing(tmp_path / "a"))


async def test_what_is_secret_in_an_address_is_not_told(secure: tuple[Origin, str, Path], tmp_path: Path) -> None:
    server, url, key = secure
    trust = ssl.create_default_context(cafile=str(key))
    for answer in (status(404), status(503)):
        server.answers = [answer]
        with pytest.raises((InvalidRequest, Unavailable)) as err:
            await Fetcher(public_tls=trust, sleep=Pauses()).fetch(
                Revision(IDENTITY, f"{url}?X-Amz-Signature=s3cret"), Kept(tmp_path / "a")
            )
        assert "s3cret" not in err.value.message


@pytest.mark.parametrize("location", ["https://[", "https://h:99999/b", "//[::1"])
async def test_a_redirect_to_what_is_no_address_is_refused(
    location: str, secure: tuple[Origin, str, Path], tmp_path: Path
) -> None:
    server, url, key = secure

    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    server.answers = [away]
    with pytest.raises(InvalidRequest, match="cannot fetch"):
        trust = ssl.create_default_context(cafile=str(key))
        await Fetcher(public_tls=trust).fetch(Revision(IDENTITY, url), Kept(tmp_path / "a"))
