"""Keys for AWS's SDKs: issued by this coordinator, for requests to it that are signed as for CodeDeploy."""

from __future__ import annotations

import base64
import secrets

from msgspec.structs import replace

from shiftwork_contract.errors import Denied
from shiftwork_coordinator import sigv4
from shiftwork_coordinator.model.rows import Token
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.sealing import Sealer
from shiftwork_coordinator.store import Audit, Put, Store
from shiftwork_coordinator.tokens import NewToken, alive, check

SERVICE = "codedeploy"
PREFIX = "SWKI"
"""Of an access key id: as long as AWS's, and never mistaken for one."""
ROLE = "deployer"
"""Of a key that names no other."""


async def create(store: Store, clock: Clock, sealer: Sealer, asked: NewToken, who: str) -> tuple[Token, str]:
    """The row, whose id is the access key id, and the secret access key, which is shown this once."""
    asked = replace(asked, role=asked.role or ROLE)
    check(asked)
    id = PREFIX + base64.b32encode(secrets.token_bytes(10)).decode()
    secret, now = secrets.token_urlsafe(30), clock.now()
    row = Token(
        id=id,
        kind="aws",
        secret_hash="",
        sealed=sealer.seal(secret, id),
        created_at=now,
        created_by=who,
        role=asked.role,
        name=asked.name,
        expires_at=None if asked.ttl is None else now + asked.ttl,
    )
    await store.write(Put(row), Audit(who, "token.create", f"{id} aws {row.role}", now))
    return row, secret


async def signer(store: Store, clock: Clock, sealer: Sealer, request: sigv4.Request) -> Token:
    """The key that signed the request. Raises Denied, the same for every key that does not count."""
    headers = {name.lower(): value for name, value in request.headers}
    signed = sigv4.parsed(headers.get("authorization", ""), SERVICE)
    row = await store.token(signed.key_id)
    if row is None or row.kind != "aws" or not alive(row, clock.now()):
        raise Denied("the access key is unknown, expired or revoked", code=sigv4.UNKNOWN)
    sigv4.verify(request, signed, sealer.open(row.sealed, row.id), clock.now())
    return row
