"""How drivers ask AWS: not too much at a time, and whatever changes something once only."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from shiftwork_coordinator.aws.clients import ATTEMPTS, READ_LIMIT, Where, call

AT_ONCE = 8
READS = ("describe_", "list_")


class Ask(Protocol):
    async def __call__(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """The answer of one operation. Raises what `call` raises."""


def of(at: Where) -> Ask:
    few = asyncio.Semaphore(AT_ONCE)

    async def ask(service: str, operation: str, /, **parameters: Any) -> Any:
        attempts = ATTEMPTS if operation.startswith(READS) else 1
        async with few:
            return await call(service, operation, at, READ_LIMIT, attempts, **parameters)

    return ask
