"""Who this agent is: its key, its certificate, and the CA it trusts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import msgspec

from shiftwork_agent.layout import Layout, write_atomically
from shiftwork_contract.errors import InvalidRequest


class Identity(msgspec.Struct, frozen=True):
    """`renew_at` and `expires` are Unix time; the private key never leaves its file."""

    instance: str
    name: str
    renew_at: float
    expires: float


@dataclass(frozen=True)
class Credentials:
    """What a link needs: the identity and a TLS context that shows it; None for a coordinator without TLS."""

    identity: Identity
    context: ssl.SSLContext | None


def load(layout: Layout) -> Identity:
    """Raises InvalidRequest when this state directory has not joined."""
    try:
        return msgspec.json.decode(layout.about.read_bytes(), type=Identity)
    except (OSError, msgspec.MsgspecError) as err:
        raise InvalidRequest(
            f"cannot find an identity in {layout.identity}: {err}; run `shiftwork-agent join URL --token T` first"
        ) from err


def credentials(layout: Layout) -> Credentials:
    """Verifies the coordinator by the CA of the join, and its host name; shows our certificate."""
    identity = load(layout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=str(layout.ca))
        context.load_cert_chain(str(layout.certificate), str(layout.key))
    except (OSError, ssl.SSLError) as err:
        raise InvalidRequest(f"cannot use the identity in {layout.identity}: {err}; join again with --force") from err
    return Credentials(identity, context)


def save(layout: Layout, identity: Identity, *, certificate: bytes, ca: bytes, key: bytes | None = None) -> None:
    """The key first and the description last: a crash midway leaves an identity that is refused, not a wrong one."""
    layout.create()
    if key is not None:
        layout.about.unlink(missing_ok=True)
        write_atomically(layout.key, key)
    write_atomically(layout.ca, ca)
    write_atomically(layout.certificate, certificate)
    write_atomically(layout.about, msgspec.json.encode(identity))
