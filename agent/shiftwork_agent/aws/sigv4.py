"""Signature Version 4. Pure: the time is passed in."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Keys:
    """`expires` in Unix time. What is secret stays out of `repr`."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires: float = float("inf")


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    keys: Keys,
    *,
    region: str,
    service: str,
    at: float,
) -> dict[str, str]:
    """The headers to send, `headers` and the signature over all of them included; names are in lower case.

    `url` is signed as it stands, so it must be encoded as it will be sent. Without a body (None) the payload is not
    signed, which only S3 takes.
    """
    stamp, parts = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)), urlsplit(url)
    digest = UNSIGNED if body is None else hashlib.sha256(body).hexdigest()
    sent = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    sent |= {"host": _host(parts.scheme, parts.netloc), "x-amz-date": stamp}
    if keys.session_token:
        sent["x-amz-security-token"] = keys.session_token
    if service == "s3":
        sent["x-amz-content-sha256"] = digest
    names = ";".join(sorted(sent))
    path = (parts.path or "/") if service == "s3" else quote(parts.path or "/", safe="/-_.~")
    lines = [f"{name}:{sent[name]}" for name in sorted(sent)]
    canonical = "\n".join([method, path, _query(parts.query), *lines, "", names, digest])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(_signing_key(keys.secret_key, scope), text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={keys.access_key}/{scope}"
    return sent | {"authorization": f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}


def _host(scheme: str, netloc: str) -> str:
    """As clients send it: without the port that the scheme implies."""
    host = netloc.rpartition("@")[2]
    return host.removesuffix({"https": ":443", "http": ":80"}.get(scheme, "\0"))


def _query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))


def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
