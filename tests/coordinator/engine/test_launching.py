"""What is decided about instances that an Auto Scaling group launches or ends."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.launching import BEAT_EVERY, JOIN_WITHIN, MOST_FAILED, LaunchDecision, decide
from shiftwork_coordinator.model.launches import Ended, Launch, LaunchSnapshot, Waiting
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.snapshot import Joined
from shiftwork_coordinator.model.status import TargetStatus

GOOD, NEXT = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
GROUP = Group("g", "web", "production", GroupSettings(), last_good=Revision(GOOD, "coordinator:"))
NOBODY_YET = Group("g", "web", "production", GroupSettings())
NOW = 1000.0


def joined(*ids: str) -> dict[str, Joined]:
    return {id: Joined(f"host-{id}", "", id) for id in ids}


def arriving(*ids: str) -> dict[str, Waiting]:
    return {id: Waiting("asg", leaving=False) for id in ids}


def leaving(*ids: str) -> dict[str, Waiting]:
    return {id: Waiting("asg", leaving=True) for id in ids}


def launch(id: str, **fields: Any) -> Launch:
    return Launch("g", id, **({"leaving": False, "scaling_group": "asg", "since": NOW, "beat_at": NOW} | fields))


def look(group: Group = GROUP, now: float = NOW, **fields: Any) -> LaunchDecision:
    return decide(LaunchSnapshot(group, **fields), now)


def ended(id: str, status: TargetStatus, message: str = "") -> dict[tuple[str, str], Ended]:
    return {("d-1", id): Ended(status, message)}


def outcomes(decision: LaunchDecision) -> dict[str, str]:
    return {row.cloud_id: row.outcome for row in decision.put}


def test_those_that_have_joined_are_begun_together_and_the_others_waited_for() -> None:
    told = look(waiting=arriving("a", "b", "c"), joined=joined("a", "c"))
    assert [(b.creator, [row.cloud_id for row in b.launches]) for b in told.begin] == [("autoscaling", ["a", "c"])]
    assert outcomes(told) == {"a": "", "b": "", "c": ""} and not told.answer
    assert all(row.revision == GOOD for row in told.begin[0].launches)


def test_what_is_begun_is_not_begun_again() -> None:
    told = look(launches=(launch("a", deployment_id="d-1", revision=GOOD),), waiting=arriving("a"), joined=joined("a"))
    assert told == LaunchDecision()


def test_a_success_is_let_in_and_said_until_aws_has_heard_it() -> None:
    row = launch("a", deployment_id="d-1", revision=GOOD)
    told = look(launches=(row,), waiting=arriving("a"), ended=ended("a", TargetStatus.SUCCEEDED))
    assert outcomes(told) == {"a": "CONTINUE"} and told.answer == told.put
    assert look(launches=told.put, waiting=arriving("a")).answer == told.put


def test_with_nothing_good_it_is_let_in() -> None:
    assert outcomes(look(NOBODY_YET, waiting=arriving("a"))) == {"a": "CONTINUE"}


def test_the_first_that_fail_are_given_up_and_the_next_are_kept() -> None:
    rows = tuple(launch(id, deployment_id="d-1", revision=GOOD) for id in "abc")
    failed = {("d-1", id): Ended(TargetStatus.FAILED, "it broke") for id in "abc"}
    told = look(launches=rows, waiting=arriving(*"abc"), ended=failed)
    assert sorted(outcomes(told).values()) == ["", *["ABANDON"] * MOST_FAILED]
    [kept] = [row for row in told.put if not row.outcome]
    assert "it broke" in kept.why and "kept waiting" in kept.why


def test_what_is_kept_gets_what_becomes_good_later() -> None:
    given_up = tuple(launch(id, outcome="ABANDON", revision=GOOD) for id in "ab")
    rows = (*given_up, launch("c", deployment_id="d-1", revision=GOOD))
    seen = {"launches": rows, "waiting": arriving("c"), "ended": ended("c", TargetStatus.FAILED)}
    assert not look(**seen, joined=joined("c")).begin
    newer = replace(GROUP, last_good=Revision(NEXT, "coordinator:"))
    told = look(newer, **seen, joined=joined("c"))
    assert [row.revision for row in told.begin[0].launches] == [NEXT]
    assert set(told.delete) == set(given_up), "what failed with another revision does not count any more"


def test_a_success_between_makes_the_count_begin_anew() -> None:
    rows = (launch("a", outcome="ABANDON", revision=GOOD), launch("b", deployment_id="d-1", revision=GOOD))
    told = look(launches=rows, waiting=arriving("b"), ended=ended("b", TargetStatus.SUCCEEDED))
    assert told.delete == (rows[0],)


def test_without_an_agent_it_is_given_up_in_the_end() -> None:
    rows = (launch("a", since=NOW - JOIN_WITHIN + 1),)
    assert outcomes(look(launches=rows, waiting=arriving("a"))) == {"a": ""}
    told = look(launches=rows, waiting=arriving("a"), now=NOW + 1)
    assert outcomes(told) == {"a": "ABANDON"} and "no agent joined" in told.put[0].why


def test_aws_is_asked_to_wait_longer_before_it_stops_waiting() -> None:
    rows = (launch("a", deployment_id="d-1", revision=GOOD),)
    assert not look(launches=rows, waiting=arriving("a"), now=NOW + BEAT_EVERY - 1).beat
    told = look(launches=rows, waiting=arriving("a"), now=NOW + BEAT_EVERY)
    assert [row.cloud_id for row in told.beat] == ["a"] and told.put[0].beat_at == NOW + BEAT_EVERY


def test_what_was_let_in_with_an_old_revision_is_followed_up_when_nothing_runs() -> None:
    rows = (launch("a", outcome="CONTINUE", revision=NEXT),)
    seen = {"launches": rows, "serving": frozenset("a"), "joined": joined("a"), "installed": {"a": NEXT}}
    assert look(**seen, active="d-9") == LaunchDecision()
    told = look(**seen)
    assert [(b.creator, b.launches) for b in told.begin] == [("CodeDeployAutoUpdate", rows)]
    assert not told.delete, "it is forgotten with the deployment that follows"


def test_what_has_what_is_good_is_forgotten() -> None:
    rows = (launch("a", outcome="CONTINUE", revision=GOOD), launch("b", outcome="CONTINUE", beat_at=0.0))
    told = look(launches=rows, serving=frozenset("a"), joined=joined("a"), installed={"a": GOOD})
    assert set(told.delete) == set(rows), "a has it, b never came"


def test_a_group_that_is_filled_or_replaced_is_left_to_its_deployment() -> None:
    filled = look(waiting=arriving("a"), joined=joined("a"), passed=frozenset({"asg"}), active="d-9")
    assert outcomes(filled) == {"a": "CONTINUE"}
    kept = look(waiting=arriving("a"), joined=joined("a"), kept=frozenset({"asg"}), active="d-9")
    assert outcomes(kept) == {"a": ""} and not kept.begin


def test_what_leaves_is_stopped_in_order_and_let_go_in_every_case() -> None:
    there = {"waiting": leaving("a"), "joined": joined("a"), "installed": {"a": GOOD}}
    told = look(**there)
    assert [b.creator for b in told.begin] == ["autoscalingTermination"]
    row = launch("a", leaving=True, deployment_id="d-1")
    assert look(**there, launches=(row,)) == LaunchDecision()
    for status in (TargetStatus.SUCCEEDED, TargetStatus.FAILED, TargetStatus.SKIPPED):
        assert outcomes(look(**there, launches=(row,), ended=ended("a", status))) == {"a": "CONTINUE"}


def test_what_leaves_is_let_go_at_once_where_nothing_can_be_stopped() -> None:
    there: dict[str, Any] = {"waiting": leaving("a"), "joined": joined("a"), "installed": {"a": GOOD}}
    for missing in ({"joined": {}}, {"installed": {}}, {"taken": frozenset("a")}, {"kept": frozenset({"asg"})}):
        told = look(**there | missing)
        assert outcomes(told) == {"a": "CONTINUE"} and not told.begin
