"""Joining by a role of AWS: which roles are trusted, and what an instance that holds one becomes."""

from __future__ import annotations

import re
import secrets
from fnmatch import fnmatchcase

import msgspec

from shiftwork_contract.errors import Denied, InvalidRequest
from shiftwork_coordinator.joining import admit, check_free, check_name
from shiftwork_coordinator.model.rows import Instance, TrustedRole
from shiftwork_coordinator.nonces import Nonces
from shiftwork_coordinator.pki import Authority, key_fingerprint
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Audit, Delete, Put, Store
from shiftwork_coordinator.sts import RoleSession, Sts

REFUSED = "no role of AWS that this host could show is trusted here"


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`role` is a name or a pattern with * and ?. Without `any_name` an instance is named as the role's session, which
    is the id of an EC2 instance."""

    account: str
    role: str
    tags: dict[str, str] = {}
    any_name: bool = False


class Proof(msgspec.Struct, frozen=True):
    """`headers` of a signed request to STS; see sts.py."""

    csr: str
    nonce: str
    headers: dict[str, str]
    name: str = ""
    address: str = ""


async def trust(store: Store, clock: Clock, asked: Trust, who: str) -> TrustedRole:
    if not re.fullmatch(r"[0-9]{12}", asked.account):
        raise InvalidRequest(f"cannot trust the account {asked.account[:80]!r}: an AWS account has 12 digits")
    if not re.fullmatch(r"[\w+=,.@*?-]{1,64}", asked.role, re.ASCII):
        raise InvalidRequest(f"cannot trust the role {asked.role[:80]!r}: give its name without path, or a pattern")
    now = clock.now()
    row = TrustedRole(secrets.token_hex(4), asked.account, asked.role, asked.tags, asked.any_name, now, who)
    await store.write(Put(row), Audit(who, "trust.add", f"{row.id} {row.account} {row.role} {row.tags}", now))
    return row


async def distrust(store: Store, clock: Clock, id: str, who: str) -> TrustedRole:
    row = next((each for each in await store.trusted_roles() if each.id == id), None)
    if row is None:
        raise InvalidRequest(
            f"cannot find a trusted role {id[:80]!r}; `shiftwork trust list` shows them", code="NotFound"
        )
    await store.write(Delete(row), Audit(who, "trust.remove", f"{id} {row.account} {row.role}", clock.now()))
    return row


async def identify(store: Store, clock: Clock, nonces: Nonces, sts: Sts, asked: Proof) -> RoleSession:
    """Asks STS, unless it is clear already that nobody can join like this."""
    nonces.check(asked.nonce, clock.monotonic())
    if not await store.trusted_roles():
        raise Denied(REFUSED)
    found = await sts.identify(asked.headers, asked.nonce, f"sha256:{key_fingerprint(asked.csr)}")
    nonces.spend(asked.nonce, clock.monotonic())
    return found


async def join(
    store: Store, clock: Clock, authority: Authority, asked: Proof, shown: RoleSession
) -> tuple[Instance, str]:
    """The new instance and its certificate in PEM. `shown` is what `identify` found."""
    rules = [row for row in await store.trusted_roles() if _trusts(row, shown)]
    if not rules:
        raise Denied(REFUSED)
    name = asked.name or shown.session
    row = next((each for each in rules if each.any_name or name == shown.session), None)
    if row is None:
        raise Denied(f"{REFUSED} under the name {name[:80]!r}: join without --name to be {shown.session}")
    check_name(name)
    await check_free(store, name)
    who = f"role {shown.account}/{shown.role}/{shown.session} (trust {row.id})"
    return await admit(store, clock, authority, Instance(name, asked.address, row.tags), asked.csr, who)


def _trusts(row: TrustedRole, shown: RoleSession) -> bool:
    return row.account == shown.account and fnmatchcase(shown.role, row.role)
