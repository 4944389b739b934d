"""systemd's notification protocol."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tells the service manager, where there is one. Never fails: a manager that does not listen is its own problem."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return


def watchdog_seconds() -> float:
    """How often the service manager wants to hear from us, halved; 0 when it does not."""
    return int(os.environ.get("WATCHDOG_USEC", "0") or 0) / 2_000_000
