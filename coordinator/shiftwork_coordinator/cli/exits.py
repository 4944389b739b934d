"""Exit codes: the part of the command line that scripts rely on."""

from __future__ import annotations

from typing import Final

from shiftwork_contract.errors import Conflict, InvalidRequest, ShiftworkError

DONE: Final = 0
FAILED: Final = 1
"""The deployment failed, was stopped or rolled back."""
INVALID: Final = 2
"""Invalid input or usage, or the state does not allow it now."""
UNREACHABLE: Final = 3
"""The coordinator cannot be reached, refuses, or answers nonsense."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells report it."""
READER_GONE: Final = 141
"""The reader of a pipe has gone, as shells report it: what came after is unknown, so it is not DONE."""


def exit_code(error: ShiftworkError) -> int:
    """INVALID where the caller must change something, else UNREACHABLE."""
    return INVALID if isinstance(error, InvalidRequest | Conflict) else UNREACHABLE
