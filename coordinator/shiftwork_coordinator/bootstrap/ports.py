"""What bootstrapping needs of the outside. Each has an in-memory twin in `testing.py`, accepted by the same tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.bootstrap.steps import Known
from shiftwork_coordinator.bootstrap.targets import Target

Progress = Callable[[int], None]


class HostProblem(ShiftworkError):
    """One host cannot be brought in. The others go on."""

    code = "HostProblem"

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Ran:
    """How a command on a host ended. `output` holds both streams, cut after OUTPUT_LIMIT bytes."""

    code: int
    output: str


OUTPUT_LIMIT = 256 * 1024


class Session(Protocol):
    """A host that has let us in. Raises HostProblem when the connection is lost."""

    async def run(self, command: str, stdin: bytes = b"") -> Ran:
        """Runs a line in the user's shell; `stdin` is all that it can read."""

    async def copy(self, source: Path, to: str, progress: Progress) -> None:
        """Copies a file; when this returns it is there whole. `progress` hears the bytes done so far."""


class Dialer(Protocol):
    def session(self, target: Target) -> AbstractAsyncContextManager[Session]:
        """Lets nobody be talked to whose host key is not known. Raises HostProblem with what to do."""


@dataclass(frozen=True)
class Ticket:
    """A join token: its id, to revoke it, and its text, which is a secret."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"Ticket({self.id!r})"


class Coordinator(Protocol):
    """Where the hosts shall belong. Raises the contract's errors."""

    async def known(self, name: str) -> Known:
        """As of a moment ago: many hosts share one answer, and asking again and again waits for the next one."""

    async def admit(self, name: str, tags: dict[str, str]) -> Ticket:
        """A token for one join by that name, for a few minutes."""

    async def withdraw(self, ticket: Ticket) -> None:
        """Ends a token that was not used."""
