"""The two small languages inside an AppSpec's permissions: ACL entries and SELinux ranges."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

AclType = Literal["user", "group", "mask", "other"]
_TYPES: dict[str, AclType] = {
    "u": "user", "g": "group", "m": "mask", "o": "other",
    "user": "user", "group": "group", "mask": "mask", "other": "other",
}  # fmt: skip
_LEVEL = re.compile(r"s(?P<low>\d{1,2})(-s(?P<high>\d{1,2}))?(:(?P<categories>[c0-9.,]+))?")
MAX_CATEGORY = 1023


class AclEntry(msgspec.Struct, frozen=True):
    """One entry of an access control list; `permissions` is three characters of rwx-."""

    type: AclType
    name: str = ""
    permissions: str = "---"
    default: bool = False

    def __str__(self) -> str:
        return f"{'default:' if self.default else ''}{self.type}:{self.name}:{self.permissions}"


def acl_entry(text: str) -> AclEntry:
    """The entry written as `[d:]type:[name:]permissions`. Raises ValueError that says what is wrong with it."""
    parts = text.split(":")
    default = len(parts) > 2 and parts[0] in ("d", "default")
    rest = parts[1:] if default else parts
    if len(rest) not in (2, 3) or rest[0] not in _TYPES:
        raise ValueError(f"cannot read the ACL entry {text!r}: write it as [default:]user|group|mask|other:name:rwx")
    entry = AclEntry(_TYPES[rest[0]], rest[1] if len(rest) == 3 else "", _permissions(rest[-1], text), default)
    if entry.name and entry.type in ("mask", "other"):
        raise ValueError(f"cannot use the ACL entry {text!r}: {entry.type} takes no name")
    if not entry.name and not default and entry.type != "mask":
        raise ValueError(f"cannot use the ACL entry {text!r}: without a name, `mode` says the same; use that")
    return entry


def context_range(text: str) -> str:
    """`text`, checked as `s0[-s15][:c0[.c3],…]`. Raises ValueError that says what is wrong with it."""
    match = _LEVEL.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read the SELinux range {text!r}: write it as s0, s0-s3 or s0:c0.c3,c7")
    if match["high"] and int(match["high"]) < int(match["low"]):
        raise ValueError(f"cannot use the SELinux range {text!r}: s{match['high']} is below s{match['low']}")
    seen: set[int] = set()
    for part in match["categories"].split(",") if match["categories"] else ():
        _add_categories(part, text, seen)
    return text


def _add_categories(part: str, text: str, seen: set[int]) -> None:
    match = re.fullmatch(r"c(\d{1,4})(?:\.c(\d{1,4}))?", part)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    categories = set(range(low, high + 1))
    if not categories or high > MAX_CATEGORY or categories & seen:
        raise ValueError(
            f"cannot use the SELinux range {text!r}: {part!r} is malformed, above c{MAX_CATEGORY} or repeated"
        )
    seen |= categories


def _permissions(written: str, text: str) -> str:
    if re.fullmatch(r"[0-7]", written):
        return "".join(letter if int(written) & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
    if re.fullmatch(r"[rwx-]{1,3}", written) and all(written.count(letter) < 2 for letter in "rwx"):
        return "".join(letter if letter in written else "-" for letter in "rwx")
    raise ValueError(f"cannot read the ACL entry {text!r}: its permissions must be one digit 0-7 or letters of rwx")
