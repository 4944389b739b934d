"""Statuses: what may follow what, and the diagrams drawn from that. Run as a script it writes docs/states.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from shiftwork_coordinator.model.status import (
    COMMAND_MOVES,
    DECIDED,
    DEPLOYMENT_MOVES,
    ENDED,
    OPEN,
    TARGET_MOVES,
    CommandStatus,
    DeploymentStatus,
    TargetStatus,
    move,
)

STATES = Path(__file__).parents[2] / "docs" / "states.md"
TABLES: dict[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "Deployment": DEPLOYMENT_MOVES,  # type: ignore[dict-item]
    "Target": TARGET_MOVES,  # type: ignore[dict-item]
    "Command": COMMAND_MOVES,  # type: ignore[dict-item]
}
INTRODUCTION = """# States

Generated from the tables in `model/status.py` (`python tests/coordinator/test_model_status.py` writes this file;
a test fails when it is not current). Statuses are spelled as in AWS CodeDeploy. *Unknown* is never entered by the
engine itself.
"""


def diagram(moves: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    first = next(iter(moves))
    lines = [f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}" for before, to in moves.items() for after in moves if after in to]
    lines += [f"    {status} --> [*]" for status, to in moves.items() if not to]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def page() -> str:
    return INTRODUCTION + "".join(f"\n## {name}\n\n{diagram(moves)}\n" for name, moves in TABLES.items())


def test_the_diagrams_are_current() -> None:
    assert STATES.read_text() == page(), "run: python tests/coordinator/test_model_status.py"


@pytest.mark.parametrize(
    ("statuses", "name"), [(DeploymentStatus, "Deployment"), (TargetStatus, "Target"), (CommandStatus, "Command")]
)
def test_every_status_has_a_row(statuses: type[StrEnum], name: str) -> None:
    assert set(TABLES[name]) == set(statuses)


@pytest.mark.parametrize("name", TABLES)
def test_from_every_status_an_end_can_be_reached(name: str) -> None:
    moves = TABLES[name]
    ends = {status for status, to in moves.items() if not to}
    reaching = set(ends)
    while more := {s for s, to in moves.items() if to & reaching} - reaching:
        reaching |= more
    assert ends and reaching == set(moves)


def test_what_is_over_stays_over() -> None:
    assert {"Succeeded", "Failed", "Stopped"} == ENDED
    assert {"Succeeded", "Failed", "Skipped"} == DECIDED
    assert {"Wanted", "Accepted"} == OPEN
    with pytest.raises(ValueError, match="cannot move from Succeeded to InProgress"):
        move(DEPLOYMENT_MOVES, DeploymentStatus.SUCCEEDED, DeploymentStatus.IN_PROGRESS)


def test_staying_is_no_move() -> None:
    assert move(DEPLOYMENT_MOVES, DeploymentStatus.FAILED, DeploymentStatus.FAILED) is DeploymentStatus.FAILED


if __name__ == "__main__":
    STATES.write_text(page())
