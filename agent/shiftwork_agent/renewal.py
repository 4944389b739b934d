"""Renewing the certificate over the live link.

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

LOOK_EVERY = 3600.0


class Renewal:
    """Asks for a new certificate from `renew_at` on, every hour until one comes."""

    def __init__(self, layout: Layout, about: Identity, link: Link, clock: Clock) -> None:
        self._layout, self._link, self._clock = layout, link, clock
        self.identity = about

    async def run(self) -> None:
        while True:
            about = self.identity
            if self._clock.wall() >= about.renew_at and self._link.connected:
                await self._ask()
            due = about.renew_at - self._clock.wall()
            await asyncio.sleep(LOOK_EVERY if due <= 0 else min(due, LOOK_EVERY))

    async def _ask(self) -> None:
        code, csr, problem = await self._child("request", b"")
        if code:
            log.error("cannot ask for a new certificate", extra={"problem": problem})
            return
        self._link.send(RenewCertificate(csr.decode()))

    async def install(self, message: Certificate) -> None:
        """Keeps the new certificate if it fits our key and name; connections from here on show it."""
        code, _, problem = await self._child("install", msgspec.json.encode(message))
        if code:
            log.error("cannot use the renewed certificate", extra={"problem": problem})
            return
        try:
            renewed = identity.credentials(self._layout)
        except InvalidRequest as err:
            log.error("cannot use the renewed certificate", extra={"problem": err.message})
            return
        self.identity = renewed.identity
        self._link.context = renewed.context
        log.info("certificate renewed", extra={"expires": renewed.identity.expires})

    async def _child(self, verb: str, data: bytes) -> tuple[int, bytes, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shiftwork_agent.keys", verb, str(self._layout.state),
            stdin=pipe, stdout=pipe, stderr=pipe,
        )  # fmt: skip
        out, err = await process.communicate(data)
        return process.returncode or 0, out, err.decode("utf-8", "replace").strip()
