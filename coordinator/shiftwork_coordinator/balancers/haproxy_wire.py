"""How to talk to HAProxy's runtime socket: one connection, one line, and an answer that ends with the connection.

Three addresses are understood: `unix:///path`, `tcp://host:port` for loopback only, because that socket has no
authentication at all, and `tls://host:port` with a client certificate.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from shiftwork_contract.errors import InvalidRequest, Unavailable

LINE_LIMIT = 8000
"""Bytes of one line sent; HAProxy's own limit is tune.bufsize, 16384 unless configured smaller."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a runtime socket listens. `text` is what the person wrote, for messages."""

    text: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False


class TlsFiles(msgspec.Struct, frozen=True):
    ca: str = ""
    cert: str = ""
    key: str = ""


def endpoint(text: str) -> Endpoint:
    """Raises InvalidRequest for an address that is not understood, and for plain TCP beyond this host."""
    try:
        parts = urlsplit(text)
        port = parts.port or 0
    except ValueError as err:
        raise _refused(text, f"{err}; write unix:///path, tcp://127.0.0.1:PORT or tls://HOST:PORT") from err
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Endpoint(text, path=parts.path)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not port or parts.path:
        raise _refused(text, "write unix:///path, tcp://127.0.0.1:PORT or tls://HOST:PORT")
    if parts.scheme == "tcp" and not _loopback(parts.hostname):
        raise _refused(
            text, "plain TCP has no authentication and is used on loopback only; use tls:// or a unix socket"
        )
    return Endpoint(text, host=parts.hostname, port=port, tls=parts.scheme == "tls")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use HAProxy endpoint {text!r}: {why}", code="INVALID_LOAD_BALANCER")


class Wire:
    """One runtime socket. Holds no connection between calls."""

    def __init__(self, where: Endpoint, tls: TlsFiles, timeout: float) -> None:
        self.where, self._tls, self._timeout = where, tls, timeout
        self._context: ssl.SSLContext | None = None

    async def ask(self, line: str) -> str:
        """The whole answer. Raises Unavailable when there is none within the time limit."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(line)
        except TimeoutError as err:
            raise Unavailable(
                f"cannot get an answer from HAProxy at {self.where.text} within {self._timeout:g} s; "
                "check that the process runs and is not stopped"
            ) from err
        except (OSError, asyncio.IncompleteReadError) as err:
            raise Unavailable(
                f"cannot reach HAProxy at {self.where.text}: {err.strerror if isinstance(err, OSError) else err}; "
                "check that it runs, and the socket's path and rights"
            ) from err
        if not answer:
            raise Unavailable(f"cannot read HAProxy's answer at {self.where.text}: it closed without one")
        return answer

    async def tell(self, commands: Sequence[str]) -> None:
        """Changes something. Each member of `commands` may hold several joined by `;` and is never split over lines.

        Only an empty answer means done; any other text is HAProxy's refusal and is raised as InvalidRequest.
        """
        for line in _lines(commands):
            answer = (await self.ask(line)).strip()
            if answer:
                raise InvalidRequest(
                    f"cannot change servers of HAProxy at {self.where.text}: it answered {answer[:300]!r}; "
                    "check backend and server names, and that the socket has `level admin`",
                    code="LOAD_BALANCER_REFUSED",
                )

    async def _exchange(self, line: str) -> str:
        reader, writer = await self._open()
        try:
            writer.write(line.encode() + b"\n")
            await writer.drain()
            # The master socket answers only after the client has closed its half.
            if writer.can_write_eof():
                writer.write_eof()
            return (await reader.read(-1)).decode("utf-8", "replace")
        finally:
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.where.path:
            return await asyncio.open_unix_connection(self.where.path)
        if not self.where.tls:
            return await asyncio.open_connection(self.where.host, self.where.port)
        if self._context is None:
            self._context = await asyncio.to_thread(_context, self._tls, self.where.text)
        return await asyncio.open_connection(self.where.host, self.where.port, ssl=self._context)


def _lines(commands: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for command in commands:
        if lines and len(lines[-1]) + len(command) + 2 <= LINE_LIMIT:
            lines[-1] += "; " + command
        else:
            lines.append(command)
    return lines


def _context(files: TlsFiles, where: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca or None)
        if files.cert:
            context.load_cert_chain(files.cert, files.key or None)
    except (OSError, ssl.SSLError) as err:
        raise InvalidRequest(
            f"cannot use the TLS files for HAProxy at {where}: {err}; check `ca`, `cert` and `key`",
            code="INVALID_LOAD_BALANCER",
        ) from err
    return context
