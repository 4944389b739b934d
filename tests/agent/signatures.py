"""Keys and signatures by the real ssh-keygen, and an allowed_signers file to check them with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from shiftwork_contract.revision import Signed
from shiftwork_contract.statement import NAMESPACE, made, text

NOW = 1_800_000_000.0
DAY = 86400.0
TREE = "sha256:" + "a" * 64


@dataclass(frozen=True)
class Key:
    path: Path

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text().rsplit(" ", 1)[0]

    @property
    def fingerprint(self) -> str:
        told = subprocess.run(["ssh-keygen", "-lf", self.path], capture_output=True, text=True, check=True)
        return told.stdout.split()[1]


def key(directory: Path, kind: str = "ed25519", *more: str) -> Key:
    path = directory / f"key-{kind}{''.join(more)}"
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "test", "-f", str(path)]
        subprocess.run(command, check=True)
    return Key(path)


def armor(by: Key, statement: str, namespace: str = NAMESPACE) -> str:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(by.path)]
    return subprocess.run(command, input=statement, capture_output=True, text=True, check=True).stdout


def signed(
    by: Key,
    tree: str = TREE,
    *,
    application: str = "web",
    sequence: int = 1,
    at: float = NOW,
    expires: float = NOW + 30 * DAY,
    namespace: str = NAMESPACE,
) -> Signed:
    statement = text(made(application, tree, sequence=sequence, signed_at=at, expires=expires))
    return Signed(statement, armor(by, statement, namespace))


def allow(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)
    return path
