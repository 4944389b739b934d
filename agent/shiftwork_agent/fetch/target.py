"""What a download asks, and whom it gives the bytes to."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Tls = ssl.SSLContext | bool


class Sink(Protocol):
    """Takes a bundle piece by piece, in order."""

    async def begin(self) -> None:
        """The first byte comes next. Whatever came before counts no more."""

    async def write(self, piece: bytes) -> None:
        """Waits while enough is unread. Raises what is wrong with the bundle as soon as that is known."""


@dataclass(frozen=True)
class Target:
    """One place to ask. `headers` go to this server alone, never to where it redirects; `etag` is what it must answer
    with, empty for anything. `loopback` allows plain http on this very host, `onward` is whom to trust where it
    redirects. `name` is for people."""

    url: str
    name: str
    tls: Tls = True
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    loopback: bool = False
    onward: Tls = True


class Origin(Protocol):
    def __call__(self, fresh: bool) -> Awaitable[Target]:
        """Where to ask now; `fresh` after a failure: what was good before may have run out."""
