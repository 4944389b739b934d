"""The decision tables: rows in, decision out."""

from __future__ import annotations

from typing import Any

import pytest
from engine_tables import NEW, NOW, STAGES, config, decided, outcome, snapshot, table

from shiftwork_coordinator.engine import verdict
from shiftwork_coordinator.engine.batches import Candidate, natural, next_targets
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.engine.verdict import Tally

DECISIONS = ("block", "allow", "service", "stop", "commands", "deployment", "rollback", "alarms", "gone")
ROWS = [(name, row) for name in DECISIONS for row in table(name)]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}: {r['case']}" for n, r in ROWS])
def test_decision(name: str, row: dict[str, Any]) -> None:
    before, decision = decided(row.get("given", {}))
    assert outcome(before, decision, row["then"]) == row["then"]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}: {r['case']}" for n, r in ROWS])
def test_deciding_twice_decides_the_same(name: str, row: dict[str, Any]) -> None:
    before = snapshot(row.get("given", {}))
    assert decide(before, NOW) == decide(before, NOW)


@pytest.mark.parametrize("row", table("floor"), ids=lambda r: f"{r['minimum']} of {r['total']}")
def test_floor(row: dict[str, Any]) -> None:
    floor = config(row["minimum"]).minimum_healthy_hosts.of(row["total"])
    assert floor == row["floor"]
    assert bool(verdict.invalid(row["total"], floor)) == row.get("refused", False)


@pytest.mark.parametrize("row", table("verdict"), ids=lambda r: r["case"])
def test_verdict(row: dict[str, Any]) -> None:
    """`ok`, `bad` and `left` count targets that succeeded, failed and were not attempted."""
    floor = config(row["minimum"]).minimum_healthy_hosts.of(row["total"])
    tally = Tally(row["total"], floor, row["bad"], row["ok"], 0, row["left"])
    halts = bool(verdict.too_many_failed(tally, row.get("max_failed")))
    fails = halts or (not row["left"] and bool(verdict.nothing_succeeded(tally)))
    assert ("fails" if fails else "goes on") == row["says"]


@pytest.mark.parametrize("row", table("batches"), ids=lambda r: r["case"])
def test_next_targets(row: dict[str, Any]) -> None:
    states = {"in": True, "out": False, "unknown": None}
    candidates = [Candidate(name, states[state], rank) for name, state, rank in row["pending"]]
    assert list(next_targets(candidates, slots=row["slots"], spare=row["spare"])) == row["next"]


@pytest.mark.parametrize("row", table("plan"), ids=lambda r: r["case"])
def test_plan(row: dict[str, Any]) -> None:
    given = {"web-1": False, "fleet": ["Pending"] * row["total"], "minimum": row["minimum"]}
    given |= {"deployment": {"status": "Created", "started_at": None, "batch": 0, "floor": 0}}
    plan = foresee(snapshot(given | row.get("given", {})), NOW)
    assert [len(batch.targets) for batch in plan.batches] == row["sizes"]
    assert plan.ends == row["ends"]
    assert all(batch.in_service >= batch.minimum for batch in plan.batches)


def test_natural_order() -> None:
    assert sorted(["web-10", "web-2", "db-1", "web"], key=natural) == ["db-1", "web", "web-2", "web-10"]


def test_stages_are_named_in_order() -> None:
    assert list(STAGES.values()) == list(range(7))
    assert NEW.identity == "sha256:new"
