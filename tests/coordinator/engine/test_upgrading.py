"""Upgrades of agents: the decision table, and what must hold whatever agents do."""

from __future__ import annotations

from typing import Any

import pytest
from engine_tables import NOW, table
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shiftwork_contract.messages import HostFacts, Upgraded
from shiftwork_coordinator.engine.upgrading import AWAY_FOR, FETCH_WITHIN, UpgradeDecision, decide
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus, TargetStatus
from shiftwork_coordinator.model.upgrades import (
    AgentPackage,
    AgentUpgrade,
    AgentUpgradeTarget,
    HostSeen,
    UpgradeSnapshot,
)

PACKAGES = {p.key: p for p in (AgentPackage(v, "deb", "x86_64", v * 64, 1) for v in "12")}
ROWS = table("upgrading")


def snapshot(given: dict[str, Any]) -> UpgradeSnapshot:
    options = {name: value for name, value in given.items() if name in ("at_once", "max_failed", "batch", "no_return")}
    upgrade = AgentUpgrade(
        "u-1",
        "2",
        **{"at_once": 1, **options},
        created_at=NOW - given.get("created", 0),
        stop_by=given.get("stop_by", ""),
        status=DeploymentStatus(given.get("status", "InProgress")),
    )
    agents = {name: (row[0], row[1] if len(row) > 1 else {}) for name, row in given["agents"].items()}
    targets = {name: _target(name, status, known) for name, (status, known) in agents.items()}
    hosts = {name: _host(known) for name, (_, known) in agents.items()}
    return UpgradeSnapshot(upgrade, targets, hosts, PACKAGES, epoch=7)


def _target(name: str, status: str, known: dict[str, Any]) -> AgentUpgradeTarget:
    began = None if status == "Pending" else NOW - known.get("began", 30)
    return AgentUpgradeTarget("u-1", name, TargetStatus(status), from_version="1", started_at=began)


def _host(known: dict[str, Any]) -> HostSeen:
    connected = known.get("connected", 500)
    return HostSeen(
        joined=known.get("joined", True),
        connected=connected is not None,
        connected_at=NOW - (connected or 0),
        silent_since=NOW - known.get("silent", 0),
        version=known.get("version", "1"),
        able=known.get("able", True),
        host=HostFacts(known.get("machine", "x86_64"), "debian", "12", "deb"),
        busy=known.get("busy", ""),
        told=Upgraded("u-1", known["told"], known.get("why", "")) if "told" in known else None,
    )


def outcome(before: UpgradeSnapshot, decision: UpgradeDecision, then: dict[str, Any]) -> dict[str, Any]:
    targets = {**before.targets, **{t.instance: t for t in decision.targets}}
    found: dict[str, Any] = {name: str(target.status) for name, target in targets.items()}
    reasons = [t.reason for t in decision.targets if then.get("reason", "") in t.reason]
    found["reason"] = then.get("reason") if reasons else decision.targets
    found["code"] = next((t.code for t in targets.values() if t.code == then.get("code")), [*targets.values()])
    found["wanted"] = sorted(decision.wanted)
    found["batch"] = decision.upgrade.batch
    found["status"] = str(decision.upgrade.status)
    found["error"] = decision.upgrade.error_code
    found["reasons"] = sorted(reason.code for reason in decision.reasons)
    found["wake_in"] = None if decision.wake_at is None else decision.wake_at - NOW
    return {name: found[name] for name in then}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_decision(row: dict[str, Any]) -> None:
    before = snapshot(row["given"])
    assert outcome(before, decide(before, NOW), row["then"]) == row["then"]


def test_what_an_agent_is_told() -> None:
    before = snapshot({"agents": {"a-1": ["Pending"]}})
    message = decide(before, NOW).wanted["a-1"]
    assert (message.epoch, message.id, message.connect_within) == (7, "u-1", 60.0)
    assert (message.package.version, message.package.path) == ("2", "/v1/agent/packages/sha256:" + "2" * 64)
    assert message.previous is not None and message.previous.version == "1"
    alone = replace(before, upgrade=replace(before.upgrade, no_return=True))
    assert decide(alone, NOW).wanted["a-1"].previous is None


class Fleet:
    """Agents that do anything at all, and a coordinator that forgets everything but its rows at each look."""

    def __init__(self, count: int, at_once: int, max_failed: int) -> None:
        self.names = [f"a-{n}" for n in range(count)]
        self.upgrade = AgentUpgrade("u-1", "2", at_once, max_failed, created_at=0.0)
        self.targets = {name: AgentUpgradeTarget("u-1", name) for name in self.names}
        self.hosts = {name: _host({"connected": 1000}) for name in self.names}
        self.now = 1.0
        self.halted = False

    def look(self) -> None:
        before = UpgradeSnapshot(self.upgrade, self.targets, self.hosts, PACKAGES, 1)
        decision = decide(before, self.now)
        assert set(decision.wanted) <= set(self.under_way(decision))
        started = [t for t in decision.targets if t.status is TargetStatus.IN_PROGRESS]
        assert not (self.halted and started), "a halted upgrade has started one more"
        self.upgrade = decision.upgrade
        self.targets = {**self.targets, **{t.instance: t for t in decision.targets}}
        assert len(self.under_way(decision)) <= (1 if self.upgrade.batch == 1 else self.upgrade.at_once)
        failed = sum(t.status is TargetStatus.FAILED for t in self.targets.values())
        self.halted = self.halted or failed > self.upgrade.max_failed or bool(self.upgrade.stop_by)

    def under_way(self, decision: UpgradeDecision) -> list[str]:
        targets = {**self.targets, **{t.instance: t for t in decision.targets}}
        return [name for name, t in targets.items() if t.status is TargetStatus.IN_PROGRESS]

    def happens(self, what: str, name: str) -> None:
        seen = self.hosts[name]
        told = {state: Upgraded("u-1", state) for state in ("fetching", "installing", "done", "returned", "refused")}
        if what == "gone":
            self.hosts[name] = replace(seen, connected=False, told=None, silent_since=self.now)
        elif what in ("back", "new"):
            version = "2" if what == "new" else seen.version
            self.hosts[name] = replace(seen, connected=True, connected_at=self.now, told=None, version=version)
        elif what == "stop":
            self.upgrade = replace(self.upgrade, stop_by="root")
            self.halted = True
        elif what == "busy":
            self.hosts[name] = replace(seen, busy="" if seen.busy else "d-1")
        elif seen.connected:
            self.hosts[name] = replace(seen, told=told[what])


HAPPENINGS = ("gone", "back", "new", "busy", "fetching", "installing", "done", "done", "returned", "refused", "stop")
EVENTS = st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 5), st.sampled_from((0.0, 1.0, 11.0, 90.0, 400.0)))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2), st.lists(EVENTS, max_size=40))
def test_never_too_many_at_once_none_after_a_halt_and_always_an_end(
    count: int, at_once: int, max_failed: int, events: list[tuple[str, int, float]]
) -> None:
    fleet = Fleet(count, at_once, max_failed)
    fleet.look()
    for what, number, passes in events:
        fleet.happens(what, fleet.names[number % count])
        fleet.now += passes
        fleet.look()
    for name in fleet.names:  # deployments end; nothing else has to happen
        fleet.hosts[name] = replace(fleet.hosts[name], busy="")
    for _ in range(2 * count + 2):
        fleet.now += AWAY_FOR + FETCH_WITHIN + 130 + 1
        fleet.look()
    assert fleet.upgrade.status in ENDED
    unfinished = fleet.under_way(UpgradeDecision(fleet.upgrade))
    assert not unfinished
