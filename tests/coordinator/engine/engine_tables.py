"""Reads the tables: a row is a compact snapshot, and what is decided on it. Times are seconds ago; now is 1000."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.messages import Command, Probe, Quiet
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.itinerary import itinerary
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, Installed, Request, Target
from shiftwork_coordinator.model.settings import Alarms, GroupSettings, Health, Instances, Limits
from shiftwork_coordinator.model.settings import Quiet as QuietSettings
from shiftwork_coordinator.model.snapshot import AgentSeen, AlarmSeen, QuietSeen, Snapshot, TimedReading, TrafficSeen
from shiftwork_coordinator.model.status import CommandStatus, DeploymentStatus, TargetStatus

NOW = 1000.0
NEW, OLD = Revision("sha256:new", "coordinator:"), Revision("sha256:old", "coordinator:")
STAGES = {"prepare": 0, "before": 1, "block": 2, "scripts": 3, "allow": 4, "after": 5, "done": 6}
DATA = Path(__file__).parent / "data"


def table(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load((DATA / f"{name}.yml").read_text())
    return rows


def config(text: str = "50%", **more: Any) -> DeploymentConfig:
    """`50%`, `3` instances, or `2 at a time`."""
    number, _, rest = text.replace("%", " %").partition(" ")
    kind = {"%": "FLEET_PERCENT", "": "HOST_COUNT"}.get(rest.strip(), "MOST_CONCURRENCY")
    return DeploymentConfig("c", MinimumHealthyHosts(kind, int(number)), **more)  # type: ignore[arg-type]


def snapshot(given: dict[str, Any]) -> Snapshot:
    """The target under test is web-1; `fleet` is the rest by status, all in service (default: three that succeeded)."""
    balancers = tuple(given.get("balancers", ("lb",)))
    deployment = _deployment(given, balancers)
    rest = given.get("fleet", ["Succeeded"] * 3)
    others = {f"web-{i + 2}": _other(f"web-{i + 2}", status) for i, status in enumerate(rest)}
    targets = {"web-1": _target(given), **others} if given.get("web-1", True) else others
    heard = {name: _agent({}) for name in others} | {"web-1": _agent(given.get("agent", {}))}
    seen = {name: _seen("lb", [["healthy", 1, "p", 0]]) for name in others}
    if "readings" in given:
        seen["web-1"] = tuple(s for name, r in given["readings"].items() for s in _seen(name, r))
    health = dict.fromkeys(targets, True) | given.get("health", {})
    return Snapshot(
        deployment=deployment,
        targets=targets,
        epoch=1,
        request=_request(given.get("request", {})),
        commands={("web-1", STAGES[s]): _command(deployment, s, row) for s, row in given.get("commands", {}).items()},
        asked={(name, "register"): Asked("d-1", name, "register", asked_at=1.0) for name in others}
        | {("web-1", verb): _asked(verb, row) for verb, row in given.get("asked", {}).items()},
        agents=heard,
        traffic=seen if balancers else {},
        installed={name: Installed("g", name, given.get("installed", "sha256:old")) for name in targets},
        health={name: value for name, value in health.items() if value is not None},
        last_good=OLD,
        balancers=balancers,
        alarms={name: _alarm(*row) for name, row in given.get("alarms", {}).items()},
        blocked_by=given.get("blocked_by", ""),
        gone=given.get("gone", {}),
    )


def _deployment(given: dict[str, Any], balancers: tuple[str, ...]) -> Deployment:
    check = Health(tcp=":1") if given.get("check", True) else None
    settings = GroupSettings(
        Instances(),
        health=check,
        load_balancers=({"sim": {}},) if balancers else (),
        quiet=QuietSettings(**given.get("quiet", {})),
        limits=Limits(**given.get("limits", {})),
        alarms=Alarms(**given.get("watch", {})),
    )
    row = {"status": "InProgress", "started_at": 100, "batch": 1, "floor": 2, **given.get("deployment", {})}
    for name in (
        "started_at",
        "halted_at",
        "bake_until",
        "held_since",
        "facts_since",
        "unsettled_since",
        "alarms_unread_since",
    ):
        if row.get(name) is not None:
            row[name] = NOW - row[name]
    row["status"] = DeploymentStatus(row["status"])
    chosen = config(given.get("minimum", "50%"), **given.get("config", {}))
    return Deployment("d-1", 1, "web", "prod", "g", NEW, chosen, settings, 0.0, **row)


def _target(given: dict[str, Any]) -> Target:
    row = {"status": "InProgress", "stage": "block", "batch": 1, "stage_since": 5, **given.get("target", {})}
    row["status"], row["stage"] = TargetStatus(row["status"]), STAGES[row["stage"]]
    for name in ("stage_since", "traffic_since", "left_at", "started_at", "completed_at"):
        if row.get(name) is not None:
            row[name] = NOW - row[name]
    return Target("d-1", "web-1", **row)


def _other(name: str, status: str) -> Target:
    over = status in ("Succeeded", "Failed", "Skipped")
    traffic = "" if status == "Skipped" else "in"
    done = {"stage": 6, "traffic": traffic, "traffic_since": 0.0, "left_at": 1.0, "completed_at": 2.0} if over else {}
    return Target("d-1", name, status=TargetStatus(status), batch=int(status != "Pending"), **done)  # type: ignore[arg-type]


def _agent(row: dict[str, Any]) -> AgentSeen:
    heard, probe = row.get("heard", 0), row.get("probe", True)
    quiet = [QuietSeen(Quiet(known, busy), NOW - ago) for known, busy, ago in row.get("quiet", [])] + [None, None]
    return AgentSeen(
        connected=row.get("connected", True),
        last_seen=None if heard is None else NOW - heard,
        connected_at=NOW - row["since"] if "since" in row else 0.0,
        awaited_since=NOW - row["awaited"] if "awaited" in row else 0.0,
        asked=row.get("asked", 9),
        probe=None if probe is None else Probe(probe, "HTTP 200" if probe else "HTTP 503"),
        quiet=quiet[0],
        quiet_before=quiet[1],
    )


def _seen(name: str, readings: list[list[Any]]) -> tuple[TrafficSeen, ...]:
    timed = [
        TimedReading(s, count, process, "", "", NOW - ago, NOW - ago, *lasts)
        for s, count, process, ago, *lasts in readings
    ]
    return (TrafficSeen(name, timed[0], timed[1] if len(timed) > 1 else None),)


def _alarm(state: Any, ago: float | None = None) -> AlarmSeen:
    return AlarmSeen(state, f"it is {state}", None if ago is None else NOW - ago)


def _request(row: dict[str, Any]) -> Request:
    return Request("d-1", row.get("stop", ""), "alice", row.get("stop_rollback"), row.get("proceed_at"))


def _asked(verb: Any, row: Any) -> Asked:
    if isinstance(row, dict):
        return Asked("d-1", "web-1", verb, error=row["error"], next_try=NOW + row["again"], tries=1)
    return Asked("d-1", "web-1", verb, asked_at=NOW - row)


def _command(deployment: Deployment, stage: str, row: dict[str, Any]) -> CommandRow:
    number, prepare = STAGES[stage], stage == "prepare"
    events = () if prepare else tuple(itinerary(deployment)[number].events)
    command = Command(f"d-1.web-1.{number}", "d-1", "g", "web", "prod", 100 + number, NEW, events, prepare)
    status, ended = CommandStatus(row["status"]), row.get("ended")
    return CommandRow(
        command,
        "web-1",
        number,
        wanted_at=NOW - row.get("wanted", 10),
        status=status,
        accepted_at=NOW - row.get("wanted", 10) if status is not CommandStatus.WANTED else None,
        ended_at=NOW - (ended or 0) if status not in (CommandStatus.WANTED, CommandStatus.ACCEPTED) else None,
        running=row.get("running", ""),
        running_since=NOW - row["since"] if "since" in row else None,
        running_limit=row.get("limit", 3600.0),
        ran=tuple(row.get("ran", ())),
        diagnostics=Diagnostics(ErrorCode(row.get("code", "Success")), "", row.get("message", "")),
    )


def decided(given: dict[str, Any]) -> tuple[Snapshot, Decision]:
    before = snapshot(given)
    return before, decide(before, NOW)


def outcome(before: Snapshot, decision: Decision, asked_for: dict[str, Any]) -> dict[str, Any]:
    """What was decided, in the words that the row uses."""
    targets = {**before.targets, **{t.instance: t for t in decision.targets}}
    stages = {number: name for name, number in STAGES.items()}
    found: dict[str, Any] = {}
    one = targets.get("web-1")
    if one is not None:
        found |= {
            "status": str(one.status),
            "stage": stages[one.stage],
            "traffic": one.traffic,
            "error": one.error_code,
        }
        found |= {"kept_out": one.kept_out, "cut": one.cut, "look": one.look, "message": one.error_message}
        found |= {"cancel": one.cancel}
    found |= {
        "deployment": str(decision.deployment.status),
        "code": decision.deployment.error_code,
        "halted": decision.deployment.halted_code,
        "floor": decision.deployment.floor,
        "others": {n: str(t.status) for n, t in targets.items() if n != "web-1"},
        "least": decision.deployment.least_in_service,
        "actions": [a.verb for a in decision.actions if a.instance == "web-1"],
        "reasons": sorted({r.code for r in decision.reasons}),
        "commands": [c.command.id for c in decision.commands],
        "started": [t.instance for t in decision.targets if before.targets[t.instance].status == "Pending" != t.status],
        "health": dict(decision.health),
        "rollback": None if decision.rollback is None else sorted(set(targets) - set(decision.rollback.skip)),
        "last_good": decision.last_good,
        "events": [f"{e.event} {e.status}" for _, e in decision.events],
        "in_service": {name: value for name, value in decision.in_service.items() if name == "web-1"}.get("web-1"),
    }
    return {name: found[name] for name in asked_for}
