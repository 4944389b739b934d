"""The allowed_signers file: who may sign for which application. OpenSSH's format, see ssh-keygen(1)."""

from __future__ import annotations

import base64
import os
import re
import shlex
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shiftwork_contract.errors import InvalidRequest

MAX_BYTES = 1 << 20
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk|rsa)-[a-z0-9@.-]+")
_DATE = re.compile(r"(\d{8})(\d{4}(\d{2})?)?(Z?)")


class Signer(msgspec.Struct, frozen=True):
    """One line. `principals` are patterns of application names; times are Unix seconds, None is no limit."""

    principals: tuple[str, ...]
    key: bytes
    namespaces: tuple[str, ...] = ("*",)
    valid_after: float | None = None
    valid_before: float | None = None
    authority: bool = False
    line: int = 0


class Question(msgspec.Struct, frozen=True):
    """Did somebody whom `signers` (a path) allows sign `statement` for `application`? `now` is Unix time."""

    statement: str
    signature: str
    application: str
    signers: str
    now: float


class Answer(msgspec.Struct, frozen=True):
    """`signer` is the key's fingerprint; with a `problem`, nobody allowed has signed."""

    signer: str = ""
    problem: str = ""


def load(path: Path) -> list[Signer]:
    """Raises InvalidRequest unless nobody but root (or the agent's own user) could have written the file."""
    _refuse_loose_parents(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise _unusable(path, f"{err.strerror}; put the signers' keys there, as root, and not as a link") from err
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or _is_loose(found):
            raise _unusable(path, "others could change it; `chown root` and `chmod 644` the file")
        if found.st_size > MAX_BYTES:
            raise _unusable(path, f"it has {found.st_size} bytes, at most {MAX_BYTES} are read")
        text = file.read().decode("utf-8", "replace")
    return parse(text, path)


def parse(text: str, path: Path) -> list[Signer]:
    """Every line counts: one that cannot be read makes the whole file unusable, so that no limit is overlooked."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(_signer(line, number))
            except ValueError as err:
                raise _unusable(path, f"line {number}: {err}; correct the line") from err
    return found


def matches(patterns: Iterable[str], name: str) -> bool:
    """OpenSSH's lists: `*` and `?` stand for anything, and a pattern that begins with `!` shuts out what it matches."""
    found = False
    for pattern in patterns:
        expression = re.escape(pattern.lstrip("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name, re.DOTALL):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _signer(line: str, number: int) -> Signer:
    """principals [options] keytype key [comment]. Raises ValueError."""
    words = _words(line)
    principals, rest = words[0], words[1:]
    options = [] if rest and _KEY_TYPE.fullmatch(rest[0]) else _split(rest.pop(0) if rest else "")
    if len(rest) < 2 or not _KEY_TYPE.fullmatch(rest[0]):
        raise ValueError("it is not `principals [options] keytype key`")
    key = base64.b64decode(rest[1], validate=True)
    if key[4 : 4 + int.from_bytes(key[:4], "big")] != rest[0].encode():
        raise ValueError("the key is not of the type that stands before it")
    limits = dict(_option(option) for option in options)
    return Signer(tuple(principals.split(",")), key, line=number, **limits)  # type: ignore[arg-type]


def _words(line: str) -> list[str]:
    """Blanks part words, but not within quotes, which stay in place in options: `namespaces="a b"` is one word."""
    words = re.findall(r'(?:[^\s"]|"[^"]*")+', line)
    if line.count('"') % 2:
        raise ValueError("a quote is not closed")
    return [word.strip('"') if word.startswith('"') else word for word in words]


def _split(options: str) -> list[str]:
    lexer = shlex.shlex(options, posix=True, punctuation_chars=False)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    return list(lexer)


def _option(option: str) -> tuple[str, object]:
    name, _, value = option.partition("=")
    match name.lower():
        case "cert-authority":
            return "authority", True
        case "namespaces" if value:
            return "namespaces", tuple(value.split(","))
        case "valid-after" if value:
            return "valid_after", _time(value)
        case "valid-before" if value:
            return "valid_before", _time(value)
    raise ValueError(f"the option {option[:40]!r} is not known")


def _time(text: str) -> float:
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is no time; write YYYYMMDD or YYYYMMDDHHMM[SS], with Z for UTC")
    digits = (match[1] + (match[2] or "")).ljust(14, "0")
    parsed = time.strptime(digits, "%Y%m%d%H%M%S")
    if match[4]:
        import calendar

        return float(calendar.timegm(parsed))
    return time.mktime((*parsed[:8], -1))


def _refuse_loose_parents(path: Path) -> None:
    if not path.is_absolute() or ".." in path.parts:
        raise _unusable(path, "write an absolute path without `..`")
    for parent in reversed(path.parents):
        try:
            found = parent.lstat()
        except OSError as err:
            raise _unusable(path, f"{parent}: {err.strerror}; put the signers' keys there, as root") from err
        sticky = bool(found.st_mode & stat.S_ISVTX)
        if not stat.S_ISDIR(found.st_mode) or (_is_loose(found) and not (sticky and found.st_uid == 0)):
            raise _unusable(path, f"{parent} is a link, or others may write there; name a directory that is root's")


def _is_loose(found: os.stat_result) -> bool:
    return found.st_uid not in {0, os.geteuid()} or bool(found.st_mode & 0o022)


def _unusable(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use the allowed signers in {path}: {why}", code="InvalidSigners")
