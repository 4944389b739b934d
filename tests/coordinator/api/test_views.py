"""A deployment as JSON: rows in, the documented object out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Probe, Quiet
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.api import views
from shiftwork_coordinator.engine.decision import Reason
from shiftwork_coordinator.model.config import PREDEFINED
from shiftwork_coordinator.model.rows import Deployment, History, LifecycleEventRow, Target
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.snapshot import AgentSeen, QuietSeen
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

DOCUMENTED = Path(__file__).parents[3] / "docs" / "api.md"


def deployment(**given: Any) -> Deployment:
    return Deployment(
        **{
            "id": "d-4K7Q2M9XA",
            "serial": 1,
            "application": "web",
            "group": "production",
            "group_id": "g",
            "revision": Revision(identity="sha256:" + "0" * 64, url="coordinator:"),
            "config": PREDEFINED["CodeDeployDefault.HalfAtATime"],
            "settings": GroupSettings(Instances(names=("web-1",)), load_balancers=({"haproxy": {}},)),
            "created_at": 1.0,
            "status": DeploymentStatus.IN_PROGRESS,
            "floor": 2,
            "batch": 1,
            **given,
        }
    )


def targets(**statuses: str) -> dict[str, Target]:
    names = {name.replace("_", "-"): status for name, status in statuses.items()}
    return {name: Target("d", name, status=TargetStatus(status)) for name, status in names.items()}


def shown(row: Deployment, found: dict[str, Target], events: Any = None, seen: views.Seen | None = None) -> Any:
    """As the API sends it."""
    seen = seen or views.Seen()
    view = {**views.deployment(row, found, seen), "targets": views.targets(row, found, events or {}, seen)}
    return msgspec.json.decode(msgspec.json.encode(view))


def shape(value: Any) -> Any:
    """The names in it."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def covers(documented: Any, sent: Any, where: str = "") -> None:
    if isinstance(documented, dict):
        assert isinstance(sent, dict), where
        for key, inner in documented.items():
            assert key in sent, f"{where}.{key}"
            covers(inner, sent[key], f"{where}.{key}")
    elif isinstance(documented, list):
        covers(documented[0], sent[0], where + "[]")


def test_it_has_every_documented_field() -> None:
    example = re.search(r"## A deployment\n\n```json\n(.*?)```", DOCUMENTED.read_text(), re.S)
    assert example is not None
    moved = History("d-1", 1.0, "weight", "orders", {"weight": 0.1})
    seen = views.Seen(reasons=(Reason("QUIET", "web-1", "…", 1.0, 31.0),), told=(moved,))
    covers(
        shape(json.loads(example[1])),
        shown(deployment(parameters={"WORKERS": "8"}), targets(web_1="InProgress"), seen=seen),
    )


def test_targets_come_in_the_order_that_people_count_in() -> None:
    found = targets(web_10="Pending", web_2="Pending", web_1="Pending")
    assert [target["targetId"] for target in shown(deployment(), found)["targets"]] == ["web-1", "web-2", "web-10"]


def test_the_overview_counts_each_target_once() -> None:
    found = targets(a="Pending", b="Pending", c="InProgress", d="Failed", e="Skipped")
    overview = shown(deployment(), found)["deploymentOverview"]
    assert overview == {"Pending": 2, "InProgress": 1, "Failed": 1, "Skipped": 1, "Succeeded": 0, "Ready": 0}


@pytest.mark.parametrize(
    ("status", "seen", "expected"),
    [
        ("InProgress", {"a": True, "b": False, "c": None}, 1),
        ("InProgress", {}, None),
        ("Succeeded", {"a": True}, None),
    ],
)
def test_in_service_counts_what_is_known_to_serve_while_it_runs(status: str, seen: Any, expected: int | None) -> None:
    row = deployment(status=DeploymentStatus(status))
    assert shown(row, {}, seen=views.Seen(in_service=seen))["inService"] == expected


def test_an_error_is_there_as_soon_as_it_halts() -> None:
    assert shown(deployment(), {})["errorInformation"] is None
    halted = shown(deployment(halted_code="HEALTH_CONSTRAINTS", halted_message="too few"), {})
    assert halted["errorInformation"] == {"code": "HEALTH_CONSTRAINTS", "message": "too few"}


def test_events_that_never_ran_are_skipped_once_their_target_is_decided() -> None:
    ran = {"a": {"BeforeInstall": LifecycleEventRow("BeforeInstall", EventStatus.FAILED, 1.0, 2.0)}}
    for status, untold in (("Failed", "Skipped"), ("InProgress", "Pending")):
        (target,) = shown(deployment(), targets(a=status), ran)["targets"]
        statuses = {event["lifecycleEventName"]: event["status"] for event in target["lifecycleEvents"]}
        assert statuses["BeforeInstall"] == "Failed"
        assert statuses["ValidateService"] == untold
        assert next(iter(statuses)) == "BeforeBlockTraffic"


def test_a_target_shows_its_agent() -> None:
    seen = views.Seen(agents={"a": AgentSeen(connected=True, last_seen=7.0)})
    (target,) = shown(deployment(), targets(a="Pending"), seen=seen)["targets"]
    assert target["agent"] == {"connected": True, "lastSeen": 7.0, "health": None, "connections": None}
    looked = AgentSeen(connected=True, probe=Probe(True, "HTTP 200"), quiet=QuietSeen(Quiet(True, 0, "", 5), 7.0))
    (target,) = shown(deployment(), targets(a="Pending"), seen=views.Seen(agents={"a": looked}))["targets"]
    assert (target["agent"]["health"], target["agent"]["connections"]) == ({"healthy": True, "detail": "HTTP 200"}, 5)
    ended = deployment(status=DeploymentStatus.SUCCEEDED)
    (target,) = shown(ended, targets(a="Succeeded"), seen=views.Seen(agents={"a": looked}))["targets"]
    assert target["agent"]["connections"] is None, "nobody looks any more"
    (target,) = shown(deployment(), targets(a="Pending"))["targets"]
    assert target["agent"] == {"connected": False, "lastSeen": None, "health": None, "connections": None}
