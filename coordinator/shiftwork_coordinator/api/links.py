"""Requests that stay open without end: the agents' links by instance, and what people watch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WATCHED = ""
"""Who people's streams belong to: no instance has this name."""


class Links:
    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}

    @contextmanager
    def held(self, whose: str) -> Iterator[None]:
        """The calling task serves such a request meanwhile. A link is held from before its hello."""
        task = asyncio.current_task()
        assert task is not None
        held = self._tasks.setdefault(whose, set())
        held.add(task)
        try:
            yield
        finally:
            held.discard(task)
            if not held:
                self._tasks.pop(whose, None)

    def end(self, whose: str) -> None:
        """Cuts them at once."""
        for task in tuple(self._tasks.get(whose, ())):
            task.cancel()

    def end_all(self) -> None:
        for whose in tuple(self._tasks):
            self.end(whose)
