"""Tokens: one-time ones for agents to join, lasting ones for operators. Only hashes of secrets are kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Literal

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Denied, InvalidRequest
from shiftwork_coordinator.membership import group_named, tags_into
from shiftwork_coordinator.model.rows import Token
from shiftwork_coordinator.pki import NAME
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.store import Audit, Change, Put, Store, Unchanged

ROLES = ("viewer", "deployer", "approver", "admin")
"""Each may do what the ones before it may."""
JOIN_TTL = 15 * 60.0
_TOKEN = re.compile(r"(swj|swt)_([0-9a-f]{12})_([0-9a-f]{40})(?:_[0-9a-f]{32})?")
REFUSED = "the token is unknown, used up, expired or revoked"


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ttl` in seconds; by default 15 minutes to join with, no end for an operator. `uses` counts joins. `group`:
    APPLICATION/GROUP that instances must land in; the tags which it takes are added. Keys for AWS's SDKs are made of it
    in aws_keys.py."""

    kind: Literal["agent", "operator", "aws"]
    role: str = ""
    name: str = ""
    group: str = ""
    tags: dict[str, str] = {}
    ttl: float | None = None
    uses: int | None = None


async def create(store: Store, clock: Clock, asked: NewToken, who: str, ca_fingerprint: str) -> tuple[Token, str]:
    """The row and the token's text, which is shown this once."""
    check(asked)
    tags = asked.tags
    if asked.group:
        tags = tags_into(await group_named(store, asked.group), tags, asked.name)
    secret, now = secrets.token_hex(20), clock.now()
    agent = asked.kind == "agent"
    ttl = asked.ttl if asked.ttl is not None else (JOIN_TTL if agent else None)
    row = Token(
        id=secrets.token_hex(6),
        kind=asked.kind,
        secret_hash=_hash(secret),
        created_at=now,
        created_by=who,
        role="" if agent else asked.role,
        name=asked.name,
        group=asked.group,
        tags=tags,
        expires_at=None if ttl is None else now + ttl,
        uses_left=(asked.uses or 1) if agent else None,
    )
    await store.write(Put(row), Audit(who, "token.create", f"{row.id} {asked.kind} {asked.role}", now))
    text = f"swj_{row.id}_{secret}_{ca_fingerprint[:32]}" if agent else f"swt_{row.id}_{secret}"
    return row, text


def check(asked: NewToken) -> None:
    if asked.kind != "agent" and asked.role not in ROLES:
        raise InvalidRequest(f"cannot make a token with role {asked.role!r}: a role is one of {', '.join(ROLES)}")
    if asked.kind == "agent" and asked.role:
        raise InvalidRequest("cannot give a join token a role: agents have none")
    if asked.kind == "agent" and asked.name and not NAME.fullmatch(asked.name):
        raise InvalidRequest(f"cannot bind a token to the instance name {asked.name!r}: use letters, digits, . _ -")
    if asked.kind != "agent" and asked.group:
        raise InvalidRequest("cannot bind an operator's token to a group: roles are for all of them")
    if asked.ttl is not None and asked.ttl <= 0:
        raise InvalidRequest(f"cannot make a token that lasts {asked.ttl:g} s: give more than 0")
    if asked.uses is not None and asked.uses < 1:
        raise InvalidRequest(f"cannot make a token with {asked.uses} uses: give 1 or more")


async def operator(store: Store, clock: Clock, text: str) -> Token:
    """The operator's token row. Raises Denied, the same for every reason."""
    return await _known(store, clock, text, "swt", "operator")


async def to_join(store: Store, clock: Clock, text: str, name: str) -> Token:
    """The row of a join token that `name` may know, used up or not. Raises Denied, the same for every reason; only to
    who holds the token itself it says which name it is for."""
    row = await _known(store, clock, text, "swj", "agent")
    if row.name and row.name != name:
        raise Denied(f"the token is for the instance {row.name}, not for {name}: join with --name {row.name}")
    return row


def spend(row: Token) -> tuple[Change, ...]:
    """What counts one use, in the unit of the join itself. Raises Denied when there is none left."""
    left = row.uses_left or 0
    if left < 1:
        raise Denied(REFUSED)
    return Unchanged(row, REFUSED), Put(replace(row, uses_left=left - 1))


async def _known(store: Store, clock: Clock, text: str, prefix: str, kind: str) -> Token:
    match = _TOKEN.fullmatch(text)
    row = await store.token(match[2]) if match and match[1] == prefix else None
    right = hmac.compare_digest(row.secret_hash if row else "", _hash(match[3] if match else ""))
    if row is None or not right or row.kind != kind or not alive(row, clock.now()):
        raise Denied(REFUSED)
    return row


def alive(row: Token, now: float) -> bool:
    return row.revoked_at is None and (row.expires_at is None or now < row.expires_at)


async def revoke(store: Store, clock: Clock, id: str, who: str) -> Token:
    row = await store.token(id)
    if row is None:
        raise InvalidRequest(f"cannot find token {id!r}; `shiftwork token list` shows them", code="NotFound")
    revoked = replace(row, revoked_at=row.revoked_at or clock.now())
    await store.write(Put(revoked), Audit(who, "token.revoke", id, clock.now()))
    return revoked


def _hash(secret: str) -> str:
    """The secret has 160 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()
