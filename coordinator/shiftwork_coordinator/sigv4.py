"""AWS's signature, version 4, as whoever is called sees it. Pure: the time and the secret come in."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote, unquote_plus

import msgspec

from shiftwork_contract.errors import Denied

ALGORITHM = "AWS4-HMAC-SHA256"
WINDOW = 300.0
"""Seconds that a request's time may be away from ours, as at AWS."""
_FIELD = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")
_TIME = re.compile(r"\d{8}T\d{6}Z")
INCOMPLETE, WRONG, UNKNOWN = "IncompleteSignatureException", "InvalidSignatureException", "UnrecognizedClientException"


class Signed(msgspec.Struct, frozen=True):
    """An Authorization header, taken apart. `scope` is date/region/service/aws4_request."""

    key_id: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Request(msgspec.Struct, frozen=True):
    """As it came: `target` is path and query, not decoded; `headers` with names as sent, in their order."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes


def parsed(authorization: str, service: str) -> Signed:
    """Raises Denied for what is no signature for `service` over at least host and x-amz-date."""
    if not authorization:
        raise Denied("the request is not signed", code="MissingAuthenticationTokenException")
    if not authorization.isascii():
        raise Denied("the Authorization header has characters outside ASCII", code=INCOMPLETE)
    fields = dict(_FIELD.findall(authorization))
    parts = fields.get("Credential", "").split("/")
    headers = tuple(fields.get("SignedHeaders", "").split(";"))
    if not authorization.startswith(ALGORITHM + " ") or len(parts) != 5 or "Signature" not in fields:
        raise Denied(f"the Authorization header is no complete {ALGORITHM} signature", code=INCOMPLETE)
    if not {"host", "x-amz-date"} <= set(headers):
        raise Denied("the signature must cover the headers host and x-amz-date", code=INCOMPLETE)
    key_id, date, region, named, end = parts
    if named != service or end != "aws4_request":
        raise Denied(f"the credential must be scoped to {service}/aws4_request", code=WRONG)
    return Signed(key_id, date, region, service, headers, fields["Signature"])


def verify(request: Request, signed: Signed, secret: str, now: float) -> None:
    """Raises Denied unless `secret` has signed this very request, within WINDOW seconds of `now`."""
    if left := {name for key, _ in request.headers if (name := key.lower()).startswith("x-amz-")} - {*signed.headers}:
        raise Denied(f"the signature must cover the header {min(left)[:60]}", code=WRONG)
    stamp = _value(request, "x-amz-date")
    if not stamp.startswith(signed.date) or abs(_seconds(stamp) - now) > WINDOW:
        raise Denied(f"the request was signed at {stamp[:20]!r}: check the clock", code=WRONG)
    canonical = hashlib.sha256(_canonical(request, signed.headers).encode(errors="surrogateescape")).hexdigest()
    text = "\n".join((ALGORITHM, stamp, signed.scope, canonical))
    right = _hmac(_key(secret, signed.date, signed.region, signed.service), text).hex()
    if not hmac.compare_digest(right.encode(), signed.signature.encode()):
        raise Denied("the signature does not fit: check the secret key, and what is between", code=WRONG)


def _seconds(stamp: str) -> float:
    if not _TIME.fullmatch(stamp):
        raise Denied("the header x-amz-date must be like 20260102T030405Z", code=INCOMPLETE)
    try:
        return datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S%z").timestamp()
    except ValueError as err:
        raise Denied(f"the header x-amz-date is no time: {stamp}", code=INCOMPLETE) from err


def _canonical(request: Request, names: Sequence[str]) -> str:
    """The body is hashed here, whatever a header says of it."""
    path, _, query = request.target.partition("?")
    pairs = sorted((_encoded(key), _encoded(value)) for key, _, value in _pairs(query))
    lines = [f"{name}:{_value(request, name)}" for name in names]
    digest = hashlib.sha256(request.body).hexdigest()
    asked = [request.method, quote(path or "/", "/~%"), "&".join(f"{key}={value}" for key, value in pairs)]
    return "\n".join((*asked, *lines, "", ";".join(names), digest))


def _pairs(query: str) -> list[tuple[str, str, str]]:
    return [part.partition("=") for part in query.split("&") if part]


def _encoded(text: str) -> str:
    return quote(unquote_plus(text), "~")


def _value(request: Request, name: str) -> str:
    """All values of a header, spaces made one."""
    return ",".join(" ".join(value.split()) for key, value in request.headers if key.lower() == name)


@lru_cache(maxsize=64)
def _key(secret: str, *scope: str) -> bytes:
    """The signing key of a day, region and service."""
    key = ("AWS4" + secret).encode()
    for part in (*scope, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
