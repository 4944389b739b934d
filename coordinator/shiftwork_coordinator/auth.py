"""Who is asking, and whether that is enough for the route. What no class lets in is refused."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from enum import StrEnum

import msgspec
from aiohttp import web

from shiftwork_contract.errors import Denied
from shiftwork_coordinator import aws_keys, sigv4, tokens
from shiftwork_coordinator.joining import holds
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.sealing import Sealer
from shiftwork_coordinator.store import Store


class Auth(StrEnum):
    """A route's class. PUBLIC: anybody. JOIN: the handler checks what the body holds. AGENT: an instance's
    certificate. AWS: the signature of a key that was issued here; each operation says which role it takes. The rest
    are operators' roles, each including the ones before it."""

    PUBLIC = "public"
    JOIN = "join"
    AGENT = "agent"
    AWS = "aws"
    VIEWER = "viewer"
    DEPLOYER = "deployer"
    APPROVER = "approver"
    ADMIN = "admin"


class Caller(msgspec.Struct, frozen=True):
    """`who` names a person in the audit log; `role` is an operator's, `instance` and `serial` are of an agent's
    certificate."""

    who: str
    role: str = ""
    instance: str = ""
    serial: str = ""


class NotAllowed(Denied):
    """Known, but the role is too low (HTTP 403 instead of 401)."""


CALLER = web.RequestKey("caller", Caller)


async def admit(request: web.Request, auth: Auth, store: Store, clock: Clock, sealer: Sealer) -> Caller:
    """The caller. Raises Denied without valid credentials, NotAllowed when they are not enough."""
    if auth in (Auth.PUBLIC, Auth.JOIN):
        return Caller(request.remote or "local")
    if auth is Auth.AGENT:
        return await _agent(request, store)
    if auth is Auth.AWS:
        return await _signer(request, store, clock, sealer)
    caller = await _operator(request, store, clock)
    if tokens.ROLES.index(caller.role) < tokens.ROLES.index(auth):
        raise NotAllowed(f"cannot do this as {caller.role}: it takes the role {auth} or higher")
    return caller


async def _agent(request: web.Request, store: Store) -> Caller:
    name, serial = _certificate(request)
    row = await store.instance(name) if name else None
    if row is None or not holds(row, serial):
        raise Denied("this takes the certificate of a joined instance; `shiftwork-agent join` gets one")
    return Caller(f"agent {name}", instance=name, serial=serial)


async def _signer(request: web.Request, store: Store, clock: Clock, sealer: Sealer) -> Caller:
    asked = sigv4.Request(request.method, request.raw_path, tuple(request.headers.items()), await request.read())
    row = await aws_keys.signer(store, clock, sealer, asked)
    return Caller(f"key {row.id}" + (f" ({row.name})" if row.name else ""), role=row.role)


def _certificate(request: web.Request) -> tuple[str, str]:
    """Common name and serial of the client's certificate, which TLS has verified; empty where there is none."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    found = tls.getpeercert() if tls else None
    if not found:
        return "", ""
    names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    return (names[0] if names else ""), f"{int(str(found.get('serialNumber', '0')), 16):x}"


async def _operator(request: web.Request, store: Store, clock: Clock) -> Caller:
    local = _local(request)
    if local is not None:
        return local
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Denied("this takes an operator's token: set SHIFTWORK_TOKEN; an admin makes one with `token create`")
    row = await tokens.operator(store, clock, text.strip())
    return Caller(f"token {row.id}" + (f" ({row.name})" if row.name else ""), role=row.role)


def _local(request: web.Request) -> Caller | None:
    """The caller on the unix socket, by the kernel's word: root and the coordinator's own user are admins."""
    peer = request.transport.get_extra_info("socket") if request.transport else None
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid not in (0, os.geteuid()):
        raise NotAllowed(f"cannot use the local socket as uid {uid}: it is for root and the coordinator's own user")
    try:
        return Caller(pwd.getpwuid(uid).pw_name, role="admin")
    except KeyError:
        return Caller(f"uid {uid}", role="admin")
