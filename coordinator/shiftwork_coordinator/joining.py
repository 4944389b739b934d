"""How a host becomes an instance, and how its certificate is renewed."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest
from shiftwork_contract.messages import Certificate
from shiftwork_coordinator import tokens
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.pki import NAME, Authority
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Audit, Put, Store


class Join(msgspec.Struct, frozen=True):
    token: str
    name: str
    csr: str
    address: str = ""


async def join(store: Store, clock: Clock, authority: Authority, asked: Join) -> tuple[Instance, str]:
    """The new instance and its certificate in PEM. A name that is taken is refused before the token is used up."""
    if not NAME.fullmatch(asked.name):
        raise InvalidRequest(f"cannot join as {asked.name[:80]!r}: use 1 to 63 letters, digits, dots, _ and -")
    known = await store.instance(asked.name)
    if known is not None and known.revoked_at is None:
        raise Conflict(
            f"cannot join as {asked.name!r}: an instance of that name has joined already;"
            f" choose another --name, or run `shiftwork revoke {asked.name}` first"
        )
    issued = authority.issue(asked.csr, asked.name)
    token = await tokens.use_to_join(store, clock, asked.token, asked.name)
    row = Instance(
        name=asked.name,
        address=asked.address,
        tags=token.tags,
        joined_at=clock.now(),
        certificate_serial=issued.serial,
    )
    await store.write(Put(row), Audit(f"token {token.id}", "instance.join", asked.name, clock.now()))
    return row, issued.certificate


async def renew(store: Store, clock: Clock, authority: Authority, instance: str, csr: str) -> Certificate:
    """A new certificate over the live link; the one before it is good until the new one was used."""
    row = await store.instance(instance)
    if row is None or row.revoked_at is not None:
        raise Denied(f"cannot renew the certificate of {instance}: it is not a joined instance")
    issued = authority.issue(csr, instance)
    await store.write(Put(replace(row, certificate_serial=issued.serial, previous_serial=row.certificate_serial)))
    return Certificate(issued.certificate, authority.pem)
