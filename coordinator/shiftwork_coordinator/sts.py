"""Who signed a request to AWS's security token service: the coordinator sends it there and believes only the answer.

The host gives headers, and nothing else: the body is always GetCallerIdentity, and the address is the signed host name,
if it is one of AWS's own or the one that was configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit
from xml.etree import ElementTree

import aiohttp
import msgspec

from shiftwork_contract.errors import Denied, InvalidRequest, Unavailable

BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
HOSTS = re.compile(r"sts(-fips)?(\.[a-z]{2}(-[a-z]+)+-\d)?\.amazonaws\.com(\.cn)?")
SIGNED = frozenset({"host", "x-amz-date", "x-shiftwork-nonce", "x-shiftwork-key"})
TAKEN = SIGNED | {"authorization", "content-type", "x-amz-security-token"}
LIMIT, HEADER_LIMIT = 10.0, 8192
_SIGNED_HEADERS = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^,\s]+/sts/aws4_request, *SignedHeaders=([a-z0-9;-]+), *Signature=[0-9a-f]{64}"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:sts::(\d{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})", re.ASCII)


class RoleSession(msgspec.Struct, frozen=True):
    """`session` is the instance's id where the role came with an instance profile."""

    account: str
    role: str
    session: str


class Sts:
    """`endpoint` replaces AWS's own."""

    def __init__(self, endpoint: str = "") -> None:
        self._endpoint = endpoint.rstrip("/")

    async def identify(self, headers: Mapping[str, str], nonce: str, key: str) -> RoleSession:
        """The role's session that signed `headers`, `nonce` and the fingerprint `key` among them.

        Raises InvalidRequest for what is not such a request, Denied when STS does not take the signature or it is not
        of a role, Unavailable when STS cannot be asked.
        """
        sent = _checked(headers, {"x-shiftwork-nonce": nonce, "x-shiftwork-key": key})
        status, text = await self._post(self._url(sent["host"]), sent)
        if status >= 500:
            raise Unavailable(f"cannot ask {sent['host']} who signed: it answers HTTP {status}; try again")
        if status != 200:
            raise Denied(f"{sent['host']} does not take the signature: {_field(text, 'Code') or f'HTTP {status}'}")
        found = _ROLE.fullmatch(_field(text, "Arn"))
        if found is None or found[1] != _field(text, "Account"):
            raise Denied("the signature is not of a role: a host joins with the role of its instance profile")
        return RoleSession(*found.groups())

    def _url(self, host: str) -> str:
        if self._endpoint and host == urlsplit(self._endpoint).netloc:
            return f"{self._endpoint}/"
        if self._endpoint or not HOSTS.fullmatch(host):
            raise InvalidRequest(f"cannot ask {host[:100]!r} who signed: it is not an address of AWS's STS")
        return f"https://{host}/"

    async def _post(self, url: str, headers: Mapping[str, str]) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=LIMIT)
        try:
            async with (
                aiohttp.ClientSession(trust_env=True, timeout=timeout) as session,
                session.post(url, data=BODY, headers=headers, allow_redirects=False) as answer,
            ):
                return answer.status, await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise Unavailable(f"cannot ask {url} who signed: {str(err) or 'no answer in time'}; try again") from err


def _checked(headers: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, str]:
    """Headers that are sent on: those of a signed request, no others, and what must be signed is."""
    sent = {name.lower(): value for name, value in headers.items()}
    if unknown := sent.keys() - TAKEN:
        raise InvalidRequest(f"cannot send on the header {min(unknown)[:60]!r}: none of {', '.join(sorted(TAKEN))}")
    if any(len(value) > HEADER_LIMIT or not value.isprintable() for value in sent.values()):
        raise InvalidRequest(f"cannot send on a header that is not printable, or of over {HEADER_LIMIT} characters")
    found = _SIGNED_HEADERS.fullmatch(sent.get("authorization", ""))
    signed = set(found[1].split(";")) if found else set()
    if missing := SIGNED - signed | {name for name in signed if name not in sent}:
        raise InvalidRequest(f"cannot use a signature for STS that leaves out {', '.join(sorted(missing))}")
    if any(sent[name] != value for name, value in expected.items()):
        raise InvalidRequest("cannot use a signature for another nonce or another key")
    return sent


def _field(text: str, name: str) -> str:
    """The text of the first element of this name; empty in what is no XML."""
    try:
        return ElementTree.fromstring(text).findtext(f".//{{*}}{name}") or ""
    except ElementTree.ParseError:
        return ""
