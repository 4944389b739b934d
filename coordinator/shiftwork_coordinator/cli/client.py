"""The coordinator's API, spoken as docs/api.md has it. Every failure is one of the contract's errors."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from shiftwork_contract.errors import Conflict, ContractViolation, Denied, InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.cli.context import WHERE_CA, Where

CONNECT_WITHIN = 5.0
ANSWER_WITHIN = 60.0
"""Seconds without a byte after which an answer counts as lost. A stream may be silent for longer."""
T = TypeVar("T")
ERRORS: Mapping[int, type[ShiftworkError]] = {
    400: InvalidRequest,
    401: Denied,
    403: Denied,
    404: InvalidRequest,
    409: Conflict,
    413: InvalidRequest,
    429: Unavailable,
}
ADVICE: Mapping[int, str] = {
    401: "set SHIFTWORK_TOKEN to a token from `shiftwork token create --role …`",
}


@dataclass(frozen=True)
class Answer:
    """The body of a successful answer, as it came."""

    raw: bytes

    def read(self, kind: type[T]) -> T:
        """The body as `kind`. Raises ContractViolation when it is something else."""
        try:
            return msgspec.json.decode(self.raw or b"{}", type=kind)
        except msgspec.MsgspecError as err:
            raise nonsense(str(err)) from err

    def pretty(self) -> str:
        """The same JSON, for people to read. Raises ContractViolation when it is none."""
        return json.dumps(self.read(object), indent=2, ensure_ascii=False)


def nonsense(detail: str) -> ContractViolation:
    return ContractViolation(
        f"cannot understand the coordinator's answer ({detail}): check that SHIFTWORK_URL names a coordinator, and that"
        " it is not older than this command"
    )


class Api:
    """Requests to one coordinator. Raises InvalidRequest, Conflict, Denied, Unavailable or ContractViolation."""

    def __init__(self, where: Where, session: aiohttp.ClientSession) -> None:
        self.where, self._session = where, session

    async def ask(self, method: str, path: str, body: object = None, **query: object) -> Answer:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        async with self._request(method, path, query, data=data, headers=headers) as response:
            return Answer(await response.read())

    async def upload(self, path: str, content: AsyncIterator[bytes], size: int, **query: object) -> Answer:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        async with self._request("POST", path, query, data=content, headers=headers) as response:
            return Answer(await response.read())

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str] | None = None, *, query: Mapping[str, object]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The bytes of an answer that may go on for hours."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN)
        async with self._request("GET", path, query, headers=dict(headers or {}), timeout=timeout) as response:
            yield response.content

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Mapping[str, object], **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = URL(self.where.url or "http://localhost", encoded=True)
        text = urlencode({key: _query(value) for key, value in query.items() if value is not None}, quote_via=quote)
        url = URL(f"{url}{path}" + (f"?{text}" if text else ""), encoded=True)
        try:
            async with self._session.request(method, url, allow_redirects=False, **more) as response:
                if response.status >= 300:
                    raise _refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise unreachable(self.where, err) from err


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Api]:
    """An Api for the length of the block. Nothing is sent before the first request."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=ANSWER_WITHIN)
    headers = {"Authorization": f"Bearer {where.token}"} if where.token else {}
    async with aiohttp.ClientSession(connector=_connector(where), timeout=timeout, headers=headers) as session:
        yield Api(where, session)


def _connector(where: Where) -> aiohttp.BaseConnector:
    if where.socket is not None:
        return aiohttp.UnixConnector(path=str(where.socket))
    if where.ca is None:
        return aiohttp.TCPConnector()
    try:
        return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(where.ca)))
    except (ssl.SSLError, OSError) as err:
        raise InvalidRequest(f"cannot use the CA file {where.ca}: {err}") from err


def _query(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(status: int, body: bytes) -> ShiftworkError:
    kind = ERRORS.get(status, Unavailable)
    try:
        error = msgspec.json.decode(body, type=dict[str, dict[str, str]])["error"]
        message, code = error["message"], error.get("code")
    except (msgspec.MsgspecError, KeyError):
        if status < 500:
            return nonsense(f"HTTP {status} without an error in it")
        message, code = f"cannot be served: the coordinator answered HTTP {status}; try again", None
    advice = ADVICE.get(status)
    return kind(f"{message}; {advice}" if advice else message, code=code)


def unreachable(where: Where, err: BaseException) -> Unavailable:
    """Why no answer came, and what to do about it."""
    return Unavailable(f"cannot reach the coordinator at {where} ({where.source}): {_why(where, err)}")


def _why(where: Where, err: BaseException) -> str:
    if isinstance(err, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return (
            f"its certificate is not trusted ({_distrust(err)}); set SHIFTWORK_CA to the coordinator's CA certificate,"
            f" {WHERE_CA}"
        )
    if where.socket is not None and isinstance(err, aiohttp.ClientConnectorError):
        return _why_no_socket(where, err.os_error)
    if isinstance(err, aiohttp.ClientConnectorError):
        return f"{err.os_error.strerror or err.os_error}; check the address, and that `shiftwork serve` runs there"
    if isinstance(err, TimeoutError):
        return "no answer in time; check the address and the network, then try again"
    if isinstance(err, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection broke; try again"
    return f"the connection broke ({str(err) or type(err).__name__}); try again"


def _distrust(err: BaseException) -> str:
    """The sentence that OpenSSL has for it, out of what is wrapped around it."""
    inner = getattr(err, "certificate_error", None) or getattr(err, "os_error", None) or err
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or inner)


def _why_no_socket(where: Where, err: OSError) -> str:
    if isinstance(err, PermissionError):
        return "only root and the coordinator's own user may use it; use sudo, or set SHIFTWORK_URL and SHIFTWORK_TOKEN"
    what = "nothing listens there" if isinstance(err, ConnectionRefusedError) else err.strerror or str(err)
    return f"{what}; start it with `shiftwork serve`, or set SHIFTWORK_URL and SHIFTWORK_TOKEN for one elsewhere"
