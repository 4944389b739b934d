"""Rows as the coordinator of 0.1.0 wrote them, each with the least and with all that it can hold: they are read today.
Bodies are not migrated, so this is all that an upgrade of the coordinator does to them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.contract.filled import plain, says

from shiftwork_coordinator.model import rows

LINES = (Path(__file__).parent / "data" / "rows-0.1.0.jsonl").read_text().splitlines()
STORED = [json.loads(line) for line in LINES]


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["row"])
def test_a_row_is_read_as_it_was_meant(stored: dict[str, object]) -> None:
    body = stored["body"]
    found = msgspec.json.decode(json.dumps(body), type=getattr(rows, str(stored["row"])))
    assert says(plain(found), body)
