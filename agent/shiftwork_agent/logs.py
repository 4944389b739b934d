"""Logging to standard error: a constant sentence, then its context as key=value, or one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _context(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = (f"{key}={_quoted(value)}" for key, value in _context(record).items())
        text = " ".join([f"{record.levelname.lower()}: {record.getMessage()}", *pairs])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            about["exception"] = self.formatException(record.exc_info)
        return json.dumps(about | _context(record), default=str)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text


def _handler(format: str) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    return handler


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Warnings and worse are shown to the person at the terminal, while it lasts."""
    handler = _handler("text")
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def set_up(format: str, level: str) -> None:
    logging.basicConfig(level=level.upper(), handlers=[_handler(format)], force=True)
