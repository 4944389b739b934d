"""Connections as the kernel shows them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shiftwork_agent.quiet import connections, look
from shiftwork_contract.messages import Quiet, QuietCheck


class Server:
    """A listening socket, and connections to it that are held open."""

    def __init__(self, family: socket.AddressFamily, address: str) -> None:
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        self._listener.bind((address, 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._family = family

    def connect(self, address: str) -> tuple[socket.socket, socket.socket]:
        client = self._stack.enter_context(socket.socket(self._family, socket.SOCK_STREAM))
        client.connect((address, self.port))
        served, _ = self._listener.accept()
        return client, self._stack.enter_context(served)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(socket.AF_INET, "127.0.0.1")
    yield made
    made.close()


async def test_a_busy_and_an_idle_connection_are_told_apart(server: Server) -> None:
    check = QuietCheck(server.port, window=0.3)
    assert await look(check) == Quiet(True)
    server.connect("127.0.0.1")
    client, served = server.connect("127.0.0.1")
    assert len(connections(server.port)) == 2
    while (await look(check)).busy:
        await asyncio.sleep(0.02)
    client.send(b"x")
    served.recv(1)
    assert await look(check) == Quiet(True, 1, "127.0.0.1", established=2)


async def test_a_connection_that_is_gone_at_once_is_not_traffic(server: Server) -> None:
    client, served = server.connect("127.0.0.1")
    client.send(b"GET / HTTP/1.0\r\n\r\n")

    async def answer() -> None:
        await asyncio.sleep(0.01)
        client.close()
        served.close()

    seen, _ = await asyncio.gather(look(QuietCheck(server.port)), answer())
    assert seen == Quiet(True)


async def test_nothing_listening_is_unknown_not_quiet(free_port: int) -> None:
    seen = await look(QuietCheck(free_port))
    assert not seen.known and f"nothing listens on port {free_port}" in seen.detail


async def test_an_agent_with_an_address_sees_only_its_own(server: Server) -> None:
    server.connect("127.0.0.1")
    check = QuietCheck(server.port, window=60)
    assert (await look(check, "127.0.0.1")).busy == 1
    assert not (await look(check, "127.77.0.9")).known


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_connections_to_a_dual_stack_listener_are_seen() -> None:
    try:
        server = Server(socket.AF_INET6, "::")
    except OSError:
        pytest.skip("no IPv6 here")
    server.connect("::ffff:127.0.0.1")
    assert (await look(QuietCheck(server.port, window=60), "127.0.0.1")).busy == 1
    server.close()
