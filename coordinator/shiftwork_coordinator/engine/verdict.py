"""Failure budget: go on or halt. The arithmetic reproduces every example in CodeDeploy's documentation.

budget = total - floor. A deployment fails as soon as failures reach the budget while some target is still unattempted;
reaching it exactly with the last target still succeeds; more than the budget fails. At least one must succeed.
"""

from __future__ import annotations

import msgspec


class Tally(msgspec.Struct, frozen=True):
    """Counts of targets. `unattempted` are still to be started."""

    total: int
    floor: int
    failed: int
    succeeded: int
    skipped: int
    unattempted: int


HEALTH_CONSTRAINTS = "HEALTH_CONSTRAINTS"
HEALTH_CONSTRAINTS_INVALID = "HEALTH_CONSTRAINTS_INVALID"


def too_many_failed(tally: Tally, max_failed: int | None) -> str:
    """Why to halt, as a sentence; empty to go on."""
    if not tally.failed:
        return ""
    if max_failed is not None:
        over = tally.failed > max_failed
        limit = f"max_failed allows {max_failed}"
    else:
        budget = tally.total - tally.floor
        over = tally.failed > budget or (tally.failed >= budget and tally.unattempted > 0)
        limit = f"keeping {tally.floor} of {tally.total} healthy allows {budget - 1} while others are still to come"
        limit = limit if tally.unattempted else f"keeping {tally.floor} of {tally.total} healthy allows {budget}"
    return f"{tally.failed} of {tally.total} targets failed; {limit}" if over else ""


def nothing_succeeded(tally: Tally) -> str:
    """Why a deployment whose targets are all decided fails nevertheless; empty when it succeeds."""
    if not tally.succeeded:
        return f"{tally.failed} of {tally.total} targets failed and none succeeded"
    return ""


def invalid(total: int, floor: int) -> str:
    """Why this floor can never let anything proceed; empty when it can."""
    if total and floor >= total:
        return (
            f"cannot keep {floor} of {total} instances healthy and still deploy: at least one must be taken at a time;"
            " choose a config with a lower minimum of healthy hosts, or add instances"
        )
    return ""
