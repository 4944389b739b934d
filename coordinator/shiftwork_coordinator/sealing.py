"""Secrets that must be read again: encrypted in the database, with a key that lies beside it in a file."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shiftwork_contract.errors import Unavailable

NONCE = 12


class Sealer:
    """AES-256-GCM with the key in `path`, which is made when something is sealed for the first time. Without a path
    the key lasts as long as the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._key = path, b""

    def seal(self, secret: str, whose: str) -> str:
        """What only `open` with the same `whose` turns back."""
        nonce = secrets.token_bytes(NONCE)
        sealed = AESGCM(self._read(make=True)).encrypt(nonce, secret.encode(), whose.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, whose: str) -> str:
        """Raises Unavailable when the key file is gone or another one."""
        data = base64.b64decode(sealed)
        try:
            return AESGCM(self._read(make=False)).decrypt(data[:NONCE], data[NONCE:], whose.encode()).decode()
        except (InvalidTag, FileNotFoundError, ValueError) as err:
            raise Unavailable(
                f"cannot read the secret of {whose}: {self._path} is not the key that sealed it; put the right file"
                " back, or make a new key with `shiftwork token create --aws`"
            ) from err

    def _read(self, *, make: bool) -> bytes:
        if not self._key and self._path is None:
            self._key = AESGCM.generate_key(256)
        if not self._key and self._path is not None:
            if make and not self._path.exists():
                _write(self._path, AESGCM.generate_key(256))
            self._key = self._path.read_bytes()
        return self._key


def _write(path: Path, key: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    made.rename(path)
