"""The proof of which AWS role this host holds: a signed request to STS, which the coordinator sends there."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from shiftwork_agent.aws import credentials
from shiftwork_agent.aws.sigv4 import signed
from shiftwork_agent.https import nonce

BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


async def proof(url: str, ca: str, key: str, environ: Mapping[str, str], at: float) -> dict[str, object]:
    """Good once, for a few minutes, at this coordinator, and for the key with this fingerprint alone."""
    keys, region = await credentials.find(environ), await credentials.region(environ)
    given = await nonce(url, ssl.create_default_context(cadata=ca))
    headers = {"content-type": FORM, "x-shiftwork-nonce": given, "x-shiftwork-key": f"sha256:{key}"}
    endpoint = environ.get("AWS_ENDPOINT_URL_STS") or _endpoint(region)
    headers = signed(
        "POST", f"{endpoint.rstrip('/')}/", headers, BODY, keys, region=region or "us-east-1", service="sts", at=at
    )
    return {"nonce": given, "headers": headers}


def _endpoint(region: str) -> str:
    """Of the region; without one, the global address, whose region is us-east-1."""
    if not region:
        return "https://sts.amazonaws.com"
    return f"https://sts.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
