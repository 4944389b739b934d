"""How a host becomes an instance, and how its row and certificate change afterwards."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest
from shiftwork_contract.messages import Certificate
from shiftwork_coordinator import tokens
from shiftwork_coordinator.membership import check_lands, group_named
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.pki import NAME, Authority
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Audit, Change, Put, Store, Unchanged

TRIES = 10
BUSY = "cannot change the instance now: somebody else is changing it; try again"


class Join(msgspec.Struct, frozen=True):
    token: str
    name: str
    csr: str
    address: str = ""


async def join(store: Store, clock: Clock, authority: Authority, asked: Join) -> tuple[Instance, str]:
    """The new instance and its certificate in PEM; the use of the token and the instance become durable together.

    Without a right token nothing is told, not even whether the name is taken. One at a time, or two tokens could
    join the same name.
    """
    check_name(asked.name)
    token = await tokens.to_join(store, clock, asked.token, asked.name)
    await check_free(store, asked.name)
    if token.group:
        check_lands(await group_named(store, token.group), asked.name, token.tags)
    spent = tokens.spend(token)
    instance = Instance(asked.name, asked.address, token.tags)
    return await admit(store, clock, authority, instance, asked.csr, f"token {token.id}", *spent)


async def admit(
    store: Store, clock: Clock, authority: Authority, instance: Instance, csr: str, who: str, *also: Change
) -> tuple[Instance, str]:
    """The row of the instance, which `who` has proven may join, and its certificate in PEM; `also` commits with it."""
    issued = authority.issue(csr, instance.name)
    row = replace(instance, joined_at=clock.now(), certificate_serial=issued.serial)
    await store.write(*also, Put(row), Audit(who, "instance.join", row.name, clock.now()))
    return row, issued.certificate


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"cannot join as {name[:80]!r}: use 1 to 63 letters, digits, dots, _ and -")


async def check_free(store: Store, name: str) -> None:
    """Raises Conflict when an instance of this name is there. Only for who has shown the right to join it."""
    known = await store.instance(name)
    if known is not None and known.revoked_at is None:
        raise Conflict(
            f"cannot join as {name!r}: an instance of that name has joined already;"
            f" choose another --name, or run `shiftwork revoke {name}` first"
        )


async def renew(
    store: Store, clock: Clock, authority: Authority, instance: str, csr: str, how: str = ""
) -> Certificate:
    """A new certificate for who has proven to be the instance; the one in use is good until a newer one was used
    (`settle`)."""
    issued = authority.issue(csr, instance)

    def renewed(row: Instance) -> Instance:
        if row.revoked_at is not None:
            raise Denied(f"cannot renew the certificate of {instance}: it is revoked")
        # While `previous_serial` stands, the certificate after it never arrived.
        used = row.previous_serial or row.certificate_serial
        return replace(row, certificate_serial=issued.serial, previous_serial=used)

    audit = Audit(f"agent {instance}", "instance.renew", f"serial {issued.serial}{how}", clock.now())
    await amend(store, instance, renewed, audit)
    return Certificate(issued.certificate, authority.pem)


def holds(row: Instance, serial: str) -> bool:
    """Whether the certificate with this serial speaks for the instance."""
    return row.revoked_at is None and serial != "" and serial in (row.certificate_serial, row.previous_serial)


async def settle(store: Store, instance: str, serial: str) -> None:
    """Ends the certificate before this one, now that this one was used. Raises Denied when it does not count."""

    def settled(row: Instance) -> Instance:
        if not holds(row, serial):
            raise Denied(f"cannot link {instance}: its certificate is revoked or was replaced")
        return replace(row, previous_serial="") if serial == row.certificate_serial else row

    await amend(store, instance, settled)


async def amend(store: Store, name: str, edit: Callable[[Instance], Instance], *also: Change) -> Instance:
    """Writes the edited row if nobody wrote it since it was read, else reads and edits it again."""
    for _ in range(TRIES):
        row = await store.instance(name)
        if row is None:
            raise InvalidRequest(
                f"cannot find the instance {name[:80]!r}; `shiftwork instances` shows them", code="NotFound"
            )
        wanted = edit(row)
        if wanted == row and not also:
            return row
        try:
            await store.write(Unchanged(row, BUSY), Put(wanted), *also)
        except Conflict:
            continue
        return wanted
    raise Conflict(BUSY)
