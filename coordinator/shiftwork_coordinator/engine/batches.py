"""Which targets start next."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """A pending target. `in_service` None = cannot tell. `rank`: 0 unhealthy, 1 unknown revision, 2 old, 3 current."""

    instance: str
    in_service: bool | None
    rank: int


def next_targets(candidates: Sequence[Candidate], *, slots: int, spare: int) -> tuple[str, ...]:
    """At most `slots` targets of which at most `spare` are in service (capacity above the floor).

    Those out of service go first: they cost nothing and each success adds capacity (CodeDeploy's order: unhealthy,
    unknown, old, current). One whose state is not known is left for later.
    """
    chosen: list[str] = []
    for candidate in sorted(candidates, key=_order):
        if len(chosen) == max(slots, 0):
            break
        if candidate.in_service is None or (candidate.in_service and spare <= 0):
            continue
        spare -= bool(candidate.in_service)
        chosen.append(candidate.instance)
    return tuple(chosen)


def _order(candidate: Candidate) -> tuple[bool, int, list[tuple[int, str]]]:
    return (bool(candidate.in_service), candidate.rank, natural(candidate.instance))


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which web-2 comes before web-10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
