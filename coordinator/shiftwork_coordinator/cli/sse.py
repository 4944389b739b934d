"""Server-sent events, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    kind: str
    data: str
    id: str = ""


class Parser:
    """Feed it bytes as they come; it gives back the messages that are complete. Lines end in LF or CRLF."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def feed(self, piece: bytes) -> Iterator[Message]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").removesuffix("\r")
            if text:
                self._field(text)
            elif message := self._complete():
                yield message

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name:
            self._fields.setdefault(name, []).append(value.removeprefix(" "))

    def _complete(self) -> Message | None:
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        last = {name: values[-1] for name, values in fields.items()}
        return Message(last.get("event", "message"), "\n".join(fields["data"]), last.get("id", ""))
