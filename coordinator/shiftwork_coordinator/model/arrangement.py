"""How a resource's original and replacement stand to each other."""

from __future__ import annotations

from enum import StrEnum


class Arrangement(StrEnum):
    """PROVISIONED: the replacement exists and is steady, and nothing else scales the resource. TESTED: the test
    listener sends to it. PROMOTED: it is the primary. RETIRED: the original is gone, or left as the group wants it, and
    all else is as before. ABANDONED: the original is the primary, the replacement is gone, and all else is as before.
    """

    PROVISIONED = "provisioned"
    TESTED = "tested"
    PROMOTED = "promoted"
    RETIRED = "retired"
    ABANDONED = "abandoned"
