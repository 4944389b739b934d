"""Every path of the agent on disk.

The state directory is 0711, so that a script which runs as another user can reach its bundle in the store; what lies
beside the store is 0700 and 0600.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from shiftwork_contract.errors import InvalidRequest

DEFAULT_STATE = Path("/var/lib/shiftwork-agent")
DEFAULT_CONFIG = Path("/etc/shiftwork-agent/agent.yml")
DEFAULT_SIGNERS = "/etc/shiftwork-agent/allowed_signers"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}")


@dataclass(frozen=True)
class Layout:
    state: Path = DEFAULT_STATE

    @property
    def identity(self) -> Path:
        return self.state / "identity"

    @property
    def key(self) -> Path:
        return self.identity / "key.pem"

    @property
    def waiting_key(self) -> Path:
        """Of a request to join on which nobody has decided yet."""
        return self.identity / "waiting-key.pem"

    @property
    def certificate(self) -> Path:
        return self.identity / "cert.pem"

    @property
    def ca(self) -> Path:
        return self.identity / "ca.pem"

    @property
    def about(self) -> Path:
        """Name, instance id and validity, for programs that should not parse certificates."""
        return self.identity / "identity.json"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.jsonl"

    @property
    def contact(self) -> Path:
        """When the coordinator was heard last: boot id and seconds since boot."""
        return self.state / "contact"

    @property
    def accepted(self) -> Path:
        """The signed statements that this host has accepted."""
        return self.state / "accepted.json"

    @property
    def gates(self) -> Path:
        return self.state / "gates.json"

    @property
    def upgrade(self) -> Path:
        """All about this agent's own upgrade; made when there is one."""
        return self.state / "upgrade"

    @property
    def status(self) -> Path:
        return self.state / "status.json"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def commands(self) -> Path:
        return self.state / "commands"

    def command(self, command_id: str) -> Path:
        return self.commands / safe_name(command_id)

    def event(self, command_id: str, event: str) -> Path:
        return self.command(command_id) / safe_name(event)

    def create(self) -> None:
        """Makes the directories, with their modes even where they existed with others."""
        for path, mode in ((self.state, 0o711), (self.identity, 0o700), (self.commands, 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)


def safe_name(name: str) -> str:
    """`name`, if it can be the name of one file. Raises InvalidRequest otherwise."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"cannot use {name[:140]!r} as a name: letters, digits and ._:- only, at most 128 of them")
    return name


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Afterwards, and after a crash at any point, `path` holds either its former content or all of `data`.

    If it raises, nothing is left beside `path`; a crash may leave one file, which the next write takes over.
    """
    temporary = unfinished(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def unfinished(path: Path) -> Path:
    """Where a new content of `path` is written before it takes the name."""
    return path.with_name(f".{path.name}.new")


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
