"""Renewing the certificate: over the live link, or, once it has expired, with the key that it was for.

The key and everything that needs `cryptography` is handled by a short-lived child: importing that library would cost
the daemon a third of its memory for ten milliseconds of work a month.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from shiftwork_agent import identity
from shiftwork_agent.clock import Clock
from shiftwork_agent.identity import Identity
from shiftwork_agent.layout import Layout
from shiftwork_agent.link import Link
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import Certificate, RenewCertificate

log = logging.getLogger(__name__)

LOOK_EVERY, TRY_EVERY = 3600.0, 120.0
"""Seconds; the second once the certificate has expired."""
SLOW_CLOCK = 3600.0
"""By so many seconds this host's clock may be behind: a coordinator that refuses the link does not say why."""


class Renewal:
    """Asks for a new certificate from `renew_at` on, every hour until one comes; from its end on it asks without the
    link, which no expired certificate opens."""

    def __init__(
        self, layout: Layout, about: Identity, link: Link, clock: Clock, coordinators: tuple[str, ...] = ()
    ) -> None:
        self._layout, self._link, self._clock, self._coordinators = layout, link, clock, coordinators
        self.identity = about
        self._problem = ""

    async def run(self) -> None:
        while True:
            now, about = self._clock.wall(), self.identity
            if self._link.connected and now >= about.renew_at:
                await self._ask()
            elif not self._link.connected and now >= about.expires - SLOW_CLOCK:
                await self._ask_expired()
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Until there is something to do, an hour at most: clocks jump."""
        now, about = self._clock.wall(), self.identity
        if now < about.renew_at:
            return min(about.renew_at - now, LOOK_EVERY)
        left = about.expires - SLOW_CLOCK - now
        return TRY_EVERY if left <= 0 else min(left, LOOK_EVERY)

    async def _ask_expired(self) -> None:
        code, _, problem = await self._child("expired", "renew", *self._coordinators)
        if code and problem != self._problem:
            log.error("cannot renew the expired certificate", extra={"problem": problem})
        self._problem = problem
        if not code:
            self._show()

    async def _ask(self) -> None:
        code, csr, problem = await self._child("keys", "request")
        if code:
            log.error("cannot ask for a new certificate", extra={"problem": problem})
            return
        self._link.send(RenewCertificate(csr.decode()))

    async def install(self, message: Certificate) -> None:
        """Keeps the new certificate if it fits our key and name; connections from here on show it."""
        code, _, problem = await self._child("keys", "install", data=msgspec.json.encode(message))
        if code:
            log.error("cannot use the renewed certificate", extra={"problem": problem})
        else:
            self._show()

    def _show(self) -> None:
        try:
            renewed = identity.credentials(self._layout)
        except InvalidRequest as err:
            log.error("cannot use the renewed certificate", extra={"problem": err.message})
            return
        self.identity = renewed.identity
        self._link.context = renewed.context
        self._link.hurry()
        log.info("certificate renewed", extra={"expires": renewed.identity.expires})

    async def _child(self, module: str, verb: str, *more: str, data: bytes = b"") -> tuple[int, bytes, str]:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"shiftwork_agent.{module}", verb, str(self._layout.state), *more,
                stdin=pipe, stdout=pipe, stderr=pipe,
            )  # fmt: skip
        except OSError as err:  # no process, no memory: the next try is an hour away at most
            return 1, b"", f"cannot start a process: {err}"
        out, said = await process.communicate(data)
        return process.returncode or 0, out, said.decode("utf-8", "replace").strip()
