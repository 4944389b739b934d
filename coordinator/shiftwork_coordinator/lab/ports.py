"""Ports and addresses on this machine for what a lab starts."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

from shiftwork_contract.errors import Unavailable


def free_ports(count: int) -> list[int]:
    """Free now on 127.0.0.1, all different. Fixed ports, because what is restarted must be found where it was."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def free_address(net: str, port: int) -> str:
    """In `net`, the first half of an address, where nobody listens on this port: so all may have the same."""
    for _ in range(1000):
        address = f"{net}.{random.randrange(256)}.{random.randrange(1, 255)}"
        with socket.socket() as one, suppress(OSError):
            one.bind((address, port))
            return address
    raise Unavailable(f"cannot find a free address for port {port} in {net}.0.0/16")
