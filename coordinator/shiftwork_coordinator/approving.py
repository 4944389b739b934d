"""Hosts without a token: what they ask, and what an operator who compared fingerprints decides.

Whoever can reach the port may ask, so what is kept of it is small and ends by itself, and the answer tells nothing
but that it waits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest, Unavailable
from shiftwork_coordinator.joining import check_free, check_name, holds
from shiftwork_coordinator.model.rows import Instance, JoinRequest
from shiftwork_coordinator.pki import Authority, key_fingerprint
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Audit, Change, Delete, Put, Store, Unchanged

PENDING_FOR = 3600.0
"""Seconds without a word from the host after which its request is forgotten."""
DECIDED_FOR = 24 * 3600.0
"""For so long the host can fetch what was decided."""
TOUCH_EVERY = 300.0
"""Seconds between two notes that the host still asks."""
PENDING, PENDING_EACH = 200, 20
"""Requests that wait at once: in all, and from one address."""
CSR_LIMIT = 4096
CHANGED = "cannot decide on this request: it has just changed; look at the list again"


class Ask(msgspec.Struct, frozen=True):
    name: str
    csr: str
    address: str = ""


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name` as the operator saw it: a host may ask again under another one with the same key."""

    name: str
    tags: dict[str, str] = {}


async def ask(store: Store, clock: Clock, asked: Ask, remote: str) -> JoinRequest:
    """The request as it stands now; asked again with the same key, it is the same one.

    Raises Denied when it was denied, or when the instance that it became is revoked.
    """
    fingerprint = _checked(asked)
    rows, now = await store.join_requests(), clock.now()
    alive = {row.fingerprint: row for row in rows if now < _end(row)}
    known = alive.get(fingerprint)
    if known is not None and known.state != "pending":
        return await _decided(store, known)
    if known is None:
        _check_room(alive.values(), remote)
    row = JoinRequest(fingerprint, asked.name, asked.csr, asked.address, remote, known.asked_at if known else now, now)
    if known is None or replace(known, csr=row.csr, heard_at=now) != row or now - known.heard_at > TOUCH_EVERY:
        over: list[Change] = [Delete(each) for each in rows if each.fingerprint not in alive]
        await store.write(*over, Put(row))
    return row


async def _decided(store: Store, row: JoinRequest) -> JoinRequest:
    became = await store.instance(row.name) if row.state == "approved" else None
    if became is None or not holds(became, row.serial):
        raise Denied("an operator has denied this request; `join` makes a new key, and asks anew")
    return row


def _checked(asked: Ask) -> str:
    """The fingerprint of the key."""
    check_name(asked.name)
    if len(asked.csr) > CSR_LIMIT:
        raise InvalidRequest(
            f"cannot keep a certificate request of {len(asked.csr)} characters: the limit is {CSR_LIMIT}"
        )
    if asked.address:
        try:
            ipaddress.ip_address(asked.address)
        except ValueError as err:
            raise InvalidRequest(f"cannot use the address {asked.address[:80]!r}: give an IP address") from err
    return key_fingerprint(asked.csr)


def _check_room(alive: Iterable[JoinRequest], remote: str) -> None:
    waiting = [row for row in alive if row.state == "pending"]
    if len(waiting) >= PENDING or sum(row.remote == remote for row in waiting) >= PENDING_EACH:
        raise Unavailable(
            "cannot keep one more request to join: too many wait; let an operator decide on those of"
            " `shiftwork approve`, or join with a token"
        )


def _end(row: JoinRequest) -> float:
    return row.heard_at + PENDING_FOR if row.decided_at is None else row.decided_at + DECIDED_FOR


async def pending(store: Store, clock: Clock) -> list[JoinRequest]:
    """Those that wait, oldest first."""
    now = clock.now()
    found = [row for row in await store.join_requests() if row.state == "pending" and now < _end(row)]
    return sorted(found, key=lambda row: row.asked_at)


async def approve(
    store: Store, clock: Clock, authority: Authority, fingerprint: str, approval: Approval, who: str
) -> Instance:
    """The new instance; its certificate waits for the host to ask again."""
    row = await _waiting(store, clock, fingerprint)
    if row.name != approval.name:
        raise Conflict(f"cannot approve this key as {approval.name[:80]!r}: its host now asks to be {row.name!r}")
    await check_free(store, row.name)
    issued = authority.issue(row.csr, row.name)
    now = clock.now()
    instance = Instance(
        name=row.name, address=row.address, tags=approval.tags, joined_at=now, certificate_serial=issued.serial
    )
    decided = replace(row, state="approved", decided_at=now, certificate=issued.certificate, serial=issued.serial)
    what = f"{row.name} sha256:{fingerprint} from {row.remote}"
    await store.write(Unchanged(row, CHANGED), Put(decided), Put(instance), Audit(who, "instance.approve", what, now))
    return instance


async def deny(store: Store, clock: Clock, fingerprint: str, who: str) -> JoinRequest:
    row = await _waiting(store, clock, fingerprint)
    decided = replace(row, state="denied", decided_at=clock.now())
    audit = Audit(who, "instance.deny", f"{row.name} sha256:{fingerprint} from {row.remote}", clock.now())
    await store.write(Unchanged(row, CHANGED), Put(decided), audit)
    return decided


async def _waiting(store: Store, clock: Clock, fingerprint: str) -> JoinRequest:
    found = next((row for row in await pending(store, clock) if row.fingerprint == fingerprint), None)
    if found is None:
        raise InvalidRequest(
            f"cannot find a request to join with the key sha256:{fingerprint[:80]}; `shiftwork approve` shows those"
            " that wait",
            code="NotFound",
        )
    return found
