"""Is anyone still talking to this port? The host's own view of its connections, from the kernel by sock_diag.

A connection is busy when it moved data within the window; idle pooled connections are not traffic. Health checkers are
excepted by their nature: their connections are gone within milliseconds, so only what is still there LOOK_AGAIN seconds
later counts. A silent WebSocket looks idle: this is evidence, not proof.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shiftwork_contract.messages import Quiet, QuietCheck

LOOK_AGAIN = 0.05

ESTABLISHED, LISTEN = 1, 10
_SOCK_DIAG, _BY_FAMILY, _DUMP = 4, 20, 0x301
_DONE, _ERROR = 3, 2
_INFO = 2  # INET_DIAG_INFO: the attribute that holds a tcp_info
_LAST_SENT, _LAST_RECEIVED = 44, 52  # offsets in tcp_info, milliseconds ago
_HEADER = struct.Struct("=IHHII")


@dataclass(frozen=True)
class Connection:
    """`idle_for` is seconds since data moved, either way."""

    cookie: bytes
    local: str
    peer: str
    idle_for: float


async def look(check: QuietCheck, address: str = "") -> Quiet:
    """Counts busy connections to `check.port`, on `address` only where one is given. Unknown is never quiet."""
    if not 0 < check.port < 1 << 16:
        return Quiet(False, 0, f"cannot look at port {check.port}: ports are 1 to 65535")
    try:
        if not _listens(check.port, address):
            return Quiet(False, 0, f"nothing listens on port {check.port} in the agent's network namespace")
        there = connections(check.port, address)
        first = _busy(check, there)
        if not first:
            return Quiet(True, established=len(there))
        await asyncio.sleep(LOOK_AGAIN)
        there = connections(check.port, address)
        second = _busy(check, there)
    except OSError as err:
        listens = "something" if _listens_by_proc(check.port) else "nothing"
        return Quiet(False, 0, f"cannot ask the kernel about connections: {err}; {listens} listens on {check.port}")
    both = [second[cookie] for cookie in first.keys() & second.keys()]
    return Quiet(True, len(both), ", ".join(sorted({c.peer for c in both})[:3]), len(there))


def _busy(check: QuietCheck, found: list[Connection]) -> dict[bytes, Connection]:
    return {connection.cookie: connection for connection in found if connection.idle_for <= check.window}


def connections(port: int, address: str = "") -> list[Connection]:
    """The established connections whose local end is `port`. Raises OSError where the kernel does not tell."""
    return [
        connection
        for family in (socket.AF_INET, socket.AF_INET6)
        for connection in map(_connection, _ask(family, ESTABLISHED, port))
        if not address or _same(connection.local, address)
    ]


def _listens(port: int, address: str) -> bool:
    return any(
        not address or _same(local, address) or ipaddress.ip_address(local).is_unspecified
        for family in (socket.AF_INET, socket.AF_INET6)
        for local in (_address(message, 8) for message in _ask(family, LISTEN, port))
    )


def _same(local: str, address: str) -> bool:
    return ipaddress.ip_address(local) == ipaddress.ip_address(address)


def _ask(family: int, state: int, port: int) -> list[bytes]:
    """One inet_diag_msg with its attributes per socket; the kernel filters by state and local port."""
    query = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, 1 << state)
    query += struct.pack("!H", port) + bytes(38) + b"\xff" * 8
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        link.settimeout(1.0)
        link.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _DUMP, 1, 0) + query)
        return [message for message in _answers(link) if struct.unpack_from("!H", message, 4)[0] == port]


def _answers(link: socket.socket) -> Iterator[bytes]:
    while True:
        data = link.recv(1 << 16)
        while data:
            length, kind = _HEADER.unpack_from(data)[:2]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", data, _HEADER.size)[0]
                raise OSError(number, "sock_diag refused")
            yield data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def _connection(message: bytes) -> Connection:
    info = _attribute(message[72:], _INFO)
    idle = min(struct.unpack_from("=I", info, offset)[0] for offset in (_LAST_SENT, _LAST_RECEIVED)) if info else 0
    return Connection(message[44:52], _address(message, 8), _address(message, 24), idle / 1000)


def _address(message: bytes, offset: int) -> str:
    if message[0] == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, message[offset : offset + 4])
    address = ipaddress.IPv6Address(message[offset : offset + 16])
    return str(address.ipv4_mapped or address)


def _attribute(data: bytes, wanted: int) -> bytes:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if kind == wanted:
            return data[4:length]
        data = data[max(4, (length + 3) & ~3) :]
    return b""


def _listens_by_proc(port: int) -> bool:
    ending = f":{port:04X}"
    tables = [path for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists()]
    rows = (line.split() for path in tables for line in path.read_text().splitlines()[1:])
    return any(row[1].endswith(ending) and row[3] == "0A" for row in rows)
