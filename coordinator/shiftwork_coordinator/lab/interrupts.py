"""Ctrl-C, SIGTERM and SIGHUP while something stands that must not be left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """Somebody wants this to end; `number` is the signal that said so."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Inside, each of these signals raises Interrupted in the main thread, so that every cleanup runs."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(interrupt):
        yield


@contextmanager
def ignored() -> Iterator[None]:
    """Inside, for cleaning up: a second Ctrl-C does not stop it halfway, here or in a command it runs."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: signal._HANDLER) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
