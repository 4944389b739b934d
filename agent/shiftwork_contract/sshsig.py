"""SSH signatures as `ssh-keygen -Y sign` writes them (SSHSIG), taken apart. Whether one holds, the agent decides."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

import msgspec

from shiftwork_contract.errors import InvalidRequest

MAX_ARMOR = 16 << 10
"""Bytes of an armored signature; one by an RSA key of 16384 bits has 6 KiB."""
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
HASHES = ("sha256", "sha512")
_MAGIC = b"SSHSIG"


class Signature(msgspec.Struct, frozen=True):
    """`key` is the signer's public key in SSH's own form; `value` starts with the name of the algorithm."""

    key: bytes
    namespace: str
    hash: str
    value: bytes


class Fields:
    """Reads SSH's length-prefixed fields. Raises InvalidRequest where one is cut off."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise damaged("it is cut off")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def field(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            return self.field().decode("ascii")
        except UnicodeDecodeError as err:
            raise damaged("a name in it is not ASCII") from err

    def integer(self) -> int:
        """An SSH mpint that is not negative."""
        data = self.field()
        if not data or data[0] & 0x80:
            raise damaged("a number in it is zero or negative")
        return int.from_bytes(data, "big")

    def end(self) -> None:
        if self._rest:
            raise damaged("something follows it")


def damaged(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot read the signature: {why}; make it with `shiftwork sign` or `ssh-keygen -Y sign -n shiftwork`",
        code="InvalidSignature",
    )


def parse(armor: str) -> Signature:
    """Raises InvalidRequest for anything but one whole signature of version 1."""
    fields = Fields(_bare(armor))
    if fields.take(len(_MAGIC)) != _MAGIC or fields.number() != 1:
        raise damaged("it is no SSH signature of version 1")
    key, namespace, reserved, hash_name, value = (
        fields.field(), fields.text(), fields.field(), fields.text(), fields.field()
    )  # fmt: skip
    fields.end()
    if reserved or hash_name not in HASHES:
        raise damaged(f"it uses the hash {hash_name[:20]!r}, or something newer; {' and '.join(HASHES)} are known")
    return Signature(key, namespace, hash_name, value)


def signed_bytes(signature: Signature, message: bytes) -> bytes:
    """What the signer's key has signed when it signed `message`."""
    digest = hashlib.new(signature.hash, message).digest()
    parts = (signature.namespace.encode(), b"", signature.hash.encode(), digest)
    return _MAGIC + packed(parts)


def packed(parts: Iterable[bytes]) -> bytes:
    """The parts as SSH's length-prefixed fields."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _bare(armor: str) -> bytes:
    if len(armor) > MAX_ARMOR:
        raise damaged(f"it has {len(armor)} characters, at most {MAX_ARMOR} are read")
    lines = armor.strip().splitlines()
    if len(lines) < 3 or lines[0].rstrip() != BEGIN or lines[-1].rstrip() != END:
        raise damaged(f"it does not begin with {BEGIN} and end with {END}")
    try:
        return base64.b64decode("".join(line.strip() for line in lines[1:-1]).encode(), validate=True)
    except (binascii.Error, ValueError) as err:
        raise damaged("its text is not base64") from err
