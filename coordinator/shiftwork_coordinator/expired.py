"""The one thing that an expired certificate is still good for: a new one for the same key.

TLS lets it open nothing, so the host shows it in a body and signs, with its key, a nonce of this coordinator.
"""

from __future__ import annotations

import msgspec

from shiftwork_contract.errors import Conflict, Denied
from shiftwork_contract.messages import Certificate
from shiftwork_coordinator import joining
from shiftwork_coordinator.nonces import Nonces
from shiftwork_coordinator.pki import Authority
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Store

RENEWABLE_FOR = 90 * 86400.0
REFUSED = "the certificate or its signature is not right; join again with a new token and --force"


class Renewal(msgspec.Struct, frozen=True):
    """`signature`: of the key in `certificate`, over `pki.renewal_proof(nonce, csr)`, in base64."""

    nonce: str
    certificate: str
    csr: str
    signature: str


async def renew(store: Store, clock: Clock, authority: Authority, nonces: Nonces, asked: Renewal) -> Certificate:
    """Raises Denied, the same for every reason, to who does not hold the key of a certificate of this CA; whoever does
    is told what is wrong."""
    nonces.check(asked.nonce, clock.monotonic())
    shown = authority.held(asked.certificate, asked.csr, asked.nonce, asked.signature)
    if shown is None:
        raise Denied(REFUSED)
    nonces.spend(asked.nonce, clock.monotonic())
    over = clock.now() - shown.expires
    if over < 0:
        raise Conflict(f"cannot renew the certificate of {shown.name} here: it is good still, so the link takes it")
    row = await store.instance(shown.name)
    if row is None or not joining.holds(row, shown.serial) or over > RENEWABLE_FOR:
        raise Denied(
            f"cannot renew the certificate of {shown.name}: it is revoked, was replaced, or expired more than"
            f" {RENEWABLE_FOR / 86400:.0f} days ago; join again with a new token and --force"
        )
    return await joining.renew(store, clock, authority, shown.name, asked.csr, " after its end")
