"""How CodeDeploy's agent reads four values of an AppSpec, for `compat: strict`.

It takes what YAML 1.1 makes of them and turns that into text: 0644 is an octal number there, so it becomes `420`.
"""

from __future__ import annotations

import re

from shiftwork_contract.yamlmarks import Marked


def text(marked: Marked) -> str:
    """The value as YAML understands it, as text; empty for nothing."""
    value = marked.scalar()
    return "" if value is None else str(value)


def mode(marked: Marked) -> str:
    written = text(marked)
    if not re.fullmatch(r"[0-7]{0,4}", written):
        raise marked.fail(f"`{marked.path}` must be at most four octal digits, and YAML reads it as {written!r}")
    return written.rjust(3, "0")


def timeout(marked: Marked) -> int:
    """The number that the text begins with: `60s` is 60, `1e3` is 1."""
    begins = re.match(r"\s*(\d{1,9})", text(marked))
    if begins is None or int(begins[1]) == 0:
        raise marked.fail(f"`{marked.path}`, a timeout, must begin with a number of seconds above 0: {marked.shown}")
    return int(begins[1])


def truth(marked: Marked) -> bool:
    """Everything but false and nothing is true, the text "false" included."""
    return marked.scalar() not in (False, None)
