"""One HTTP exchange with the stand-in: what was asked, what is answered, and who answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from shiftwork_coordinator.lab.aws.calls import Call


class Asked(NamedTuple):
    """`by_shiftwork`: the coordinator says its name in each of its calls; everybody else is somebody else."""

    call: Call
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    by_shiftwork: bool


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}

    @property
    def fine(self) -> bool:
        return self.status < 300

    def read(self) -> Any:
        return json.loads(self.body or b"{}")


Pass = Callable[[Asked], Awaitable[Answer]]
"""What moto says to it."""
Handler = Callable[[Asked, Pass], Awaitable[Answer]]
"""Answers instead of moto, or after having asked it."""
Handlers = Mapping[tuple[str, str], Handler]
"""By (service, operation)."""


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


def refusal(code: str, message: str, status: int = 400) -> Answer:
    """An error as JSON services tell it."""
    told = {"__type": code, "Type": "User", "message": message, "Message": message}
    return answer(told, status, {"x-amzn-ErrorType": code})


def query_refusal(code: str, message: str, status: int = 400) -> Answer:
    """An error as query services tell it."""
    text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, f"{text}<RequestId>lab</RequestId></ErrorResponse>".encode(), {"Content-Type": "text/xml"})
