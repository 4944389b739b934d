"""Text that came from elsewhere, made harmless for a terminal."""

from __future__ import annotations

import re

_OBEYED = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|\x9b[0-?]*[ -/]*[@-~]?"  # the same in one character
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x1b\\|\x07|\x9c)?"  # titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # what turns the direction of writing
    r"|[\u2028\u2029\ufeff]"
)


def clean(text: str) -> str:
    """`text` without anything that a terminal would obey: only printable characters, tabs and line ends are left.

    A sequence that is never ended is taken to end with its line, so that it hides no more than that.
    """
    return _OBEYED.sub("", text)
