"""Single questions to a coordinator over HTTPS, before there is a link: its CA, and answers that may be refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from dataclasses import dataclass

from shiftwork_contract.errors import Denied, Unavailable

LIMIT = 20.0


@dataclass(frozen=True)
class Answer:
    """`retry_after` in seconds, where the coordinator says when to ask again."""

    status: int
    text: str
    retry_after: float = 0.0

    @property
    def problem(self) -> str:
        """The message in an error answer, whatever wraps it."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return self.text.strip()[:300] or "no reason given"
        if isinstance(found, dict):
            found = found.get("message") or found.get("error") or found
        if isinstance(found, dict):
            found = found.get("message") or found
        return str(found)[:300]


async def trusted_ca(url: str, fingerprint: str) -> str:
    """The CA as the coordinator shows it, if it is the one that the fingerprint names."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    answer = await ask(f"{url}/v1/ca.pem", unverified)
    try:
        der = ssl.PEM_cert_to_DER_cert(answer.text) if answer.status == 200 else b""
    except ValueError:
        der = b""
    if not der:
        raise Unavailable(f"cannot join {url}: it shows no CA certificate (HTTP {answer.status}); is it a coordinator?")
    shown = hashlib.sha256(der).hexdigest()
    if not shown.startswith(fingerprint):
        raise Denied(
            f"cannot join {url}: its CA has the fingerprint sha256:{shown}, the one given begins with {fingerprint};"
            " somebody answers in its place, or the token or fingerprint is of another coordinator"
        )
    return answer.text


async def nonce(url: str, context: ssl.SSLContext) -> str:
    """A number of the coordinator at `url`, to sign something over."""
    answer = await ask(f"{url}/v1/join/nonces", context, {})
    try:
        return str(json.loads(answer.text)["nonce"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"cannot prove anything to {url}: HTTP {answer.status}: {answer.problem}") from None


async def ask(url: str, context: ssl.SSLContext, body: object = None) -> Answer:
    """GET, or POST where there is a body. Raises Unavailable when no answer comes."""
    import aiohttp

    method = "GET" if body is None else "POST"
    try:
        async with (
            asyncio.timeout(LIMIT),
            aiohttp.ClientSession(trust_env=True) as session,
            session.request(method, url, json=body, ssl=context, allow_redirects=False) as answer,
        ):
            after = answer.headers.get("Retry-After", "")
            return Answer(answer.status, await answer.text(), float(after) if after.isdigit() else 0.0)
    except TimeoutError as err:
        raise Unavailable(f"cannot reach {url}: no answer within {LIMIT:g} s") from err
    except (aiohttp.ClientError, OSError) as err:
        raise Unavailable(f"cannot reach {url}: {err}") from err
