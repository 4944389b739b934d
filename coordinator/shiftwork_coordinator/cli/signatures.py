"""Statements and signatures as files: FILE is the statement, FILE.sig the signature, as ssh-keygen leaves them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

from shiftwork_contract.archive import inspect
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType, Signed
from shiftwork_contract.statement import NAMESPACE, facts, made, text
from shiftwork_coordinator.clock import SystemClock

EXPIRES = 90 * 86400.0


def read(statement: Path) -> Signed:
    """Raises InvalidRequest unless both files are there and can be understood."""
    signature = signature_file(statement)
    try:
        signed = Signed(statement.read_text("ascii"), signature.read_text("ascii"))
    except (OSError, UnicodeError) as err:
        raise InvalidRequest(
            f"cannot read the signature of {statement}: {err}; it lies in {signature.name} next to it, as `ssh-keygen"
            f" -Y sign -n {NAMESPACE}` leaves it"
        ) from err
    facts(signed)
    return signed


def signature_file(statement: Path) -> Path:
    return statement.with_name(f"{statement.name}.sig")


def statement_for(
    archive: BinaryIO, kind: str, application: str, *, expires: float | None, sequence: int | None
) -> str:
    """The text to sign for an archive: its tree, as of now. The default sequence counts milliseconds, so it rises."""
    archive.seek(0)
    tree = inspect(archive, BundleType(kind)).identity
    now = SystemClock().now()
    until = now + (EXPIRES if expires is None else expires)
    return text(made(application, tree, sequence=sequence or int(now * 1000), signed_at=now, expires=until))


def sign(statement: str, key: Path) -> Signed:
    """By OpenSSH itself, so that agents, passphrases and security keys work as their owner knows them."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise InvalidRequest(
            "cannot sign: there is no ssh-keygen here; install OpenSSH's client, or sign elsewhere what `shiftwork sign"
            " --statement-only` prints"
        )
    command = [program, "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    ended = subprocess.run(command, input=statement.encode(), stdout=subprocess.PIPE)
    if ended.returncode:
        raise InvalidRequest(f"cannot sign with {key}: ssh-keygen says why above; name another key with --key")
    signed = Signed(statement, ended.stdout.decode("ascii", "replace"))
    facts(signed)
    return signed
