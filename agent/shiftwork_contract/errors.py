"""The root of the exception tree, branching by who can act.

    ShiftworkError
    ├── InvalidRequest       the caller: change the input (CLI exit code 2, HTTP 400)
    │   ├── AppSpecError       the author of an AppSpec file; carries file, line, column
    │   └── HostileBundle      an archive that tries to leave its folder, or to flood the disk
    ├── Conflict             the caller, later or elsewhere: the state does not allow it now (HTTP 409)
    ├── Denied               the caller's rights (HTTP 401, 403)
    ├── Unavailable          time: try again (HTTP 503)
    └── ContractViolation    the peer broke the protocol: its operator must act

`code` is stable and meant for programs; nobody matches the text. Where CodeDeploy has a word for
the error, that word is the code. The text says what cannot be done, to which named thing, for which
value against which limit, and what to do next.
"""

from __future__ import annotations


class ShiftworkError(Exception):
    """Anything Shiftwork refuses or cannot do."""

    code = "INTERNAL_ERROR"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(ShiftworkError):
    """The caller's input cannot be used as it is."""

    code = "InvalidRequest"


class AppSpecError(InvalidRequest):
    """An AppSpec file that cannot be used; `where` is file:line:column, counted from 1."""

    code = "InvalidAppSpec"

    def __init__(self, message: str, *, file: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{file}:{line}:{column}: {message}")
        self.file, self.line, self.column, self.problem = file, line, column, message


class HostileBundle(InvalidRequest):
    """A bundle that is refused because unpacking it would not be safe."""

    code = "HostileBundle"


class Conflict(ShiftworkError):
    """Not possible in the present state."""

    code = "Conflict"


class Denied(ShiftworkError):
    """The caller has not shown the right to do this."""

    code = "Denied"


class Unavailable(ShiftworkError):
    """Not possible now; the same request may succeed later."""

    code = "Unavailable"


class ContractViolation(ShiftworkError):
    """The peer sent what the protocol does not allow."""

    code = "ContractViolation"
