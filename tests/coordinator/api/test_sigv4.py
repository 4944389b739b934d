"""Signatures as AWS's own SDK makes them, over requests of every shape, and what must not pass."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftwork_contract.errors import Denied
from shiftwork_coordinator import sigv4
from shiftwork_coordinator.sigv4 import Request, parsed, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NAMES = st.sampled_from(["X-Amz-Target", "Content-Type", "X-Amz-Security-Token", "X-Custom"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def signed(body: bytes, query: dict[str, str], headers: dict[str, str], token: str | None = None) -> Request:
    """The request as an SDK would send it."""
    prepared = AWSRequest("POST", "https://shiftwork.example:7070/", data=body, params=query, headers=headers)
    SigV4Auth(Credentials("SWKIA", SECRET, token), "codedeploy", "eu-west-1").add_auth(prepared)
    sent = prepared.prepare()
    target = "/" + sent.url.split("7070/")[1]
    pairs = [(name, value.decode() if isinstance(value, bytes) else str(value)) for name, value in sent.headers.items()]
    return Request("POST", target, [*pairs, ("Host", "shiftwork.example:7070"), ("Accept", "*/*")], body)


def check(request: Request, secret: str = SECRET, later: float = 0.0) -> None:
    headers = {name.lower(): value for name, value in request.headers}
    at = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%S%z").timestamp()
    verify(request, parsed(headers["authorization"], "codedeploy"), secret, at + later)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64), st.dictionaries(TEXT, TEXT, max_size=3), st.dictionaries(NAMES, VALUES), st.booleans())
def test_what_botocore_signs_is_verified(body: bytes, query: Any, headers: Any, token: bool) -> None:
    check(signed(body, query, headers, "session" if token else None))


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.integers(0, 63))
def test_one_bit_of_the_body_matters(body: bytes, at: int) -> None:
    request = signed(body, {}, {})
    other = bytearray(body)
    other[at % len(body)] ^= 1
    with pytest.raises(Denied, match="does not fit"):
        check(Request(request.method, request.target, request.headers, bytes(other)))


def changed(request: Request, name: str, value: str) -> Request:
    headers = [(key, value if key.lower() == name else old) for key, old in request.headers]
    return Request(request.method, request.target, headers, request.body)


REQUEST = signed(b"{}", {"a": "b"}, {"X-Amz-Target": "CodeDeploy_20141006.GetDeployment"})
AUTHORIZATION = dict(REQUEST.headers)["Authorization"]


@pytest.mark.parametrize(
    "forged",
    [
        changed(REQUEST, "x-amz-target", "CodeDeploy_20141006.StopDeployment"),
        changed(REQUEST, "host", "elsewhere.example"),
        Request("GET", REQUEST.target, REQUEST.headers, REQUEST.body),
        Request("POST", "/?a=c", REQUEST.headers, REQUEST.body),
        Request("POST", "/x?a=b", REQUEST.headers, REQUEST.body),
        changed(REQUEST, "authorization", AUTHORIZATION.replace("eu-west-1", "us-east-1")),
        changed(REQUEST, "authorization", AUTHORIZATION[:-64] + "0" * 64),
    ],
)
def test_what_was_changed_on_the_way_is_refused(forged: Request) -> None:
    with pytest.raises(Denied) as refused:
        check(forged)
    assert refused.value.code == sigv4.WRONG


def test_a_header_about_the_body_is_not_believed() -> None:
    request = signed(b"{}", {}, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    with pytest.raises(Denied, match="does not fit"):
        check(Request(request.method, request.target, request.headers, b"other"))


def test_another_secret_is_refused() -> None:
    with pytest.raises(Denied, match="does not fit"):
        check(REQUEST, secret=SECRET + "x")


@pytest.mark.parametrize(("later", "good"), [(299, True), (-299, True), (301, False), (-301, False)])
def test_five_minutes_either_way(later: float, good: bool) -> None:
    if good:
        check(REQUEST, later=later)
    else:
        with pytest.raises(Denied, match="check the clock"):
            check(REQUEST, later=later)


def test_the_scopes_date_must_be_the_headers() -> None:
    day = dict(REQUEST.headers)["X-Amz-Date"][:8]
    with pytest.raises(Denied, match="check the clock"):
        check(changed(REQUEST, "authorization", AUTHORIZATION.replace(f"/{day}/", "/20200101/")))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "MissingAuthenticationTokenException"),
        ("Bearer swt_1", sigv4.INCOMPLETE),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=0", sigv4.INCOMPLETE),
        (AUTHORIZATION[:-64] + "é", sigv4.INCOMPLETE),
        (AUTHORIZATION.replace("host;", ""), sigv4.INCOMPLETE),
        (AUTHORIZATION.replace("x-amz-date;", ""), sigv4.INCOMPLETE),
        (AUTHORIZATION.replace("/codedeploy/", "/s3/"), sigv4.WRONG),
    ],
)
def test_what_is_no_such_signature_is_refused(text: str, code: str) -> None:
    with pytest.raises(Denied) as refused:
        parsed(text, "codedeploy")
    assert refused.value.code == code


@pytest.mark.parametrize("stamp", ["20260102", "20261399T000000Z", ""])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    day = dict(REQUEST.headers)["X-Amz-Date"][:8]
    forged = changed(REQUEST, "x-amz-date", stamp)
    with pytest.raises(Denied):
        verify(forged, parsed(AUTHORIZATION.replace(day, stamp[:8] or day), "codedeploy"), SECRET, 0.0)


def test_a_header_of_awss_own_that_is_not_signed_is_refused() -> None:
    """Whoever relays a request could make another operation of it."""
    request = signed(b"{}", {}, {})
    target = ("X-Amz-Target", "CodeDeploy_20141006.StopDeployment")
    with pytest.raises(Denied, match="must cover the header x-amz-target"):
        check(Request(request.method, request.target, [*request.headers, target], request.body))


def test_bytes_that_are_no_text_are_refused_like_any_other() -> None:
    request = signed(b"{}", {}, {"X-Custom": "a"})
    with pytest.raises(Denied, match="does not fit"):
        check(changed(request, "x-custom", "\udcff"))
    with pytest.raises(Denied, match="ASCII"):
        check(changed(request, "authorization", "AWS4-HMAC-SHA256 \udcff"))
