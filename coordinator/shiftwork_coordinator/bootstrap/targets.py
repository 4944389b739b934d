"""Which hosts: as they stand on the command line and in an inventory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from shiftwork_contract.errors import InvalidRequest

_TARGET = re.compile(
    r"(?:(?P<user>[^\s@:]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[A-Za-z0-9_][\w.-]*))(?::(?P<port>\d{1,5}))?"
)
_BARE_SIX = re.compile(r"(?:(?P<user>[^\s@:]+)@)?(?P<host>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(?:%\w+)?)")


@dataclass(frozen=True)
class Target:
    """A host to dial. An empty user and port 0 leave it to the SSH configuration."""

    host: str
    user: str = ""
    port: int = 0
    tags: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return host + (f":{self.port}" if self.port else "")


def parse(text: str) -> Target:
    """[USER@]HOST[:PORT]; an IPv6 address with a port stands in brackets. Raises InvalidRequest."""
    if match := _BARE_SIX.fullmatch(text):
        return Target(match["host"], match["user"] or "")
    match = _TARGET.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65535 or (match["port"] and not port):
        raise InvalidRequest(f"cannot use {text[:100]!r} as a host: write [USER@]HOST[:PORT], like root@10.0.0.11:2222")
    return Target(match["host"] or match["six"], match["user"] or "", port)


def inventory(text: str, name: str) -> list[Target]:
    """A host a line, with tags behind it as KEY=VALUE; # begins a comment. Raises InvalidRequest with the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            found.append(replace(parse(words[0]), tags=dict(map(_tag, words[1:]))))
        except InvalidRequest as err:
            raise InvalidRequest(f"{name}:{number}: {err.message}") from err
    return found


def _tag(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise InvalidRequest(f"cannot use {word[:100]!r} as a tag: write KEY=VALUE, like Role=web")
    return key, value


def completed(targets: Iterable[Target], user: str, tags: dict[str, str]) -> tuple[Target, ...]:
    """With what was said for all hosts filled in where a host has no word of its own.

    Raises InvalidRequest for none at all, and for a host that stands there twice.
    """
    full = tuple(replace(each, user=each.user or user, tags={**tags, **each.tags}) for each in targets)
    if not full:
        raise InvalidRequest("cannot bootstrap without a host: write [USER@]HOST[:PORT], or --inventory FILE")
    seen: set[tuple[str, int]] = set()
    for each in full:
        if (each.host, each.port) in seen:
            raise InvalidRequest(f"cannot bootstrap {each} twice at once: it is named more than once")
        seen.add((each.host, each.port))
    return full
