"""Protocol 1 as release 0.1.0 wrote and reads it: agents of one version work with coordinators of the next and of the
one before. `data/protocol-1` holds every kind as it was written then, with the least and with all that it can hold.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.contract import release_0_1_0 as before
from tests.contract.filled import full, plain, says

from shiftwork_contract import messages as m

HERE = Path(__file__).parent / "data" / "protocol-1"
NEWER = {"Upgrade", "Upgraded"}
"""Kinds that 0.1.0 does not know: they go to those only who announced the feature, or asked."""


def lines(name: str) -> list[bytes]:
    return (HERE / f"{name}.jsonl").read_bytes().splitlines()


def kinds(union: object) -> set[str]:
    return {kind.__name__ for kind in union.__args__}  # type: ignore[attr-defined]


def known(union: object) -> list[type[m.Message]]:
    return [kind for kind in union.__args__ if kind.__name__ not in NEWER]  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", lines("from-agent"), ids=lambda line: json.loads(line)["kind"])
def test_what_its_agent_says_is_understood(line: bytes) -> None:
    found = m.from_agent(line)
    assert says(plain(found), json.loads(line))


@pytest.mark.parametrize("line", lines("from-coordinator"), ids=lambda line: json.loads(line)["kind"])
def test_what_its_coordinator_says_is_understood(line: bytes) -> None:
    found = m.from_coordinator(line)
    assert says(plain(found), json.loads(line))


@pytest.mark.parametrize("kind", known(m.FromCoordinator), ids=lambda kind: kind.__name__)
def test_its_agent_understands_all_that_is_said_today(kind: type[m.Message]) -> None:
    told = full(kind)
    found = msgspec.json.decode(m.encode(told), type=before.FromCoordinator)
    assert says(plain(told), plain(found))


@pytest.mark.parametrize("kind", known(m.FromAgent), ids=lambda kind: kind.__name__)
def test_its_coordinator_understands_all_that_is_said_today(kind: type[m.Message]) -> None:
    told = full(kind)
    found = msgspec.json.decode(m.encode(told), type=before.FromAgent)
    assert says(plain(told), plain(found))


def test_every_kind_of_then_is_here_and_still_there() -> None:
    for name, then, now in (
        ("from-agent", before.FromAgent, m.FromAgent),
        ("from-coordinator", before.FromCoordinator, m.FromCoordinator),
    ):
        assert {json.loads(line)["kind"] for line in lines(name)} == kinds(then)
        assert kinds(now) - NEWER == kinds(then)


def test_what_is_full_has_nothing_by_default() -> None:
    """Else the tests here would not see a field."""
    command = full(m.RunCommand).command
    required = {f.name for f in msgspec.structs.fields(m.Command) if f.required}
    unset = [f.name for f in msgspec.structs.fields(m.Command) if getattr(command, f.name) == f.default]
    assert required and unset == [] and command.revision.signed is not None
