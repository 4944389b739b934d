"""The open links of each instance, from before they say hello, so that revoking ends all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Links:
    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}

    @contextmanager
    def held(self, instance: str) -> Iterator[None]:
        """The calling task serves a link of this instance meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        held = self._tasks.setdefault(instance, set())
        held.add(task)
        try:
            yield
        finally:
            held.discard(task)
            if not held:
                self._tasks.pop(instance, None)

    def end(self, instance: str) -> None:
        """Cuts them all at once: there is nobody left to say goodbye to."""
        for task in tuple(self._tasks.get(instance, ())):
            task.cancel()
