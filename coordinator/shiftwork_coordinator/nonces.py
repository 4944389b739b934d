"""Numbers used once: what was signed over one was signed just now, and for this coordinator."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from shiftwork_contract.errors import Denied

GOOD_FOR = 300.0
REFUSED = "the nonce is not of this coordinator, older than 5 minutes, or used; ask for a new one"


class Nonces:
    """Nothing is kept of one that was given out, only of those that were used while they were good."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._used: dict[str, float] = {}

    def new(self, now: float) -> str:
        body = f"{int(now * 1000):x}-{secrets.token_hex(16)}"
        return f"{body}-{self._seal(body)}"

    def check(self, nonce: str, now: float) -> None:
        """Raises Denied unless it could be spent."""
        body, _, seal = nonce.rpartition("-")
        if not hmac.compare_digest(seal.encode(), self._seal(body).encode()) or nonce in self._used:
            raise Denied(REFUSED)
        if now - int(body.partition("-")[0], 16) / 1000 > GOOD_FOR:
            raise Denied(REFUSED)

    def spend(self, nonce: str, now: float) -> None:
        """To be called when all else is proven, so that strangers fill nothing."""
        self.check(nonce, now)
        self._used = {used: end for used, end in self._used.items() if now <= end} | {nonce: now + GOOD_FOR}

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()
