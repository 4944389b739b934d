"""Why a lifecycle event ended as it did, in CodeDeploy's words."""

from __future__ import annotations

from enum import StrEnum

import msgspec

LOG_TAIL_LIMIT = 2048
"""Characters of log tail carried in diagnostics, as in CodeDeploy. The whole output is streamed apart."""


class ErrorCode(StrEnum):
    """CodeDeploy's LifecycleErrorCode."""

    SUCCESS = "Success"
    SCRIPT_MISSING = "ScriptMissing"
    SCRIPT_NOT_EXECUTABLE = "ScriptNotExecutable"
    SCRIPT_TIMED_OUT = "ScriptTimedOut"
    SCRIPT_FAILED = "ScriptFailed"
    UNKNOWN_ERROR = "UnknownError"


class Diagnostics(msgspec.Struct, frozen=True, rename="camel", omit_defaults=False):
    """The outcome of one lifecycle event; `log_tail` holds whole last lines, at most LOG_TAIL_LIMIT characters."""

    error_code: ErrorCode = ErrorCode.SUCCESS
    script_name: str = ""
    message: str = ""
    log_tail: str = ""


def tail(output: bytes, limit: int = LOG_TAIL_LIMIT) -> str:
    """The last whole lines of `output` within `limit` characters; a longer last line keeps its end.

    Bytes that are not UTF-8 are shown as the replacement character, never dropped with the rest.
    """
    text = output[-4 * limit :].decode("utf-8", "replace")
    if len(text) <= limit and len(output) <= 4 * limit:
        return text
    text = text[-limit:]
    _, newline, rest = text.partition("\n")
    return rest if newline and rest.strip() else text
