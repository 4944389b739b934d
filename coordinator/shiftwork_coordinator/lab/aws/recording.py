"""The order of calls to the stand-in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from shiftwork_coordinator.lab.aws.calls import told
from shiftwork_coordinator.lab.aws.exchange import Asked

KEPT = 50_000


class Recorded(msgspec.Struct, frozen=True, rename="camel"):
    """`at` and `answered` are Unix times; `status` 0 = it was never answered."""

    number: int
    at: float
    answered: float
    service: str
    operation: str
    parameters: Mapping[str, Any]
    status: int
    by_shiftwork: bool


class Recording:
    """All calls of the coordinator, and everybody else's but invocations, which are traffic."""

    def __init__(self) -> None:
        self._calls: deque[Recorded] = deque(maxlen=KEPT)
        self._number = 0

    def add(self, asked: Asked, at: float, answered: float, status: int) -> None:
        call = asked.call
        if call.operation == "Invoke" and not asked.by_shiftwork:
            return
        self._number += 1
        told_of = told(call.parameters)
        self._calls.append(
            Recorded(self._number, at, answered, call.service, call.operation, told_of, status, asked.by_shiftwork)
        )

    def clear(self) -> None:
        self._calls.clear()
        self._number = 0

    def calls(self, *, by_shiftwork: bool) -> list[Recorded]:
        """In the order in which they were answered."""
        return [call for call in self._calls if call.by_shiftwork or not by_shiftwork]
