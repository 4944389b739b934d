"""The tables of lifecycle events agree with each other."""

from __future__ import annotations

from shiftwork_contract import lifecycle
from shiftwork_contract.diagnostics import LOG_TAIL_LIMIT, tail
from shiftwork_contract.lifecycle import LifecycleEvent


def test_each_event_has_one_place_in_a_deployment_with_traffic_control() -> None:
    tests = {LifecycleEvent.ALLOW_TEST_TRAFFIC, LifecycleEvent.AFTER_ALLOW_TEST_TRAFFIC}
    assert sorted(lifecycle.IN_PLACE_WITH_TRAFFIC_CONTROL) == sorted(set(LifecycleEvent) - tests)
    assert lifecycle.IN_PLACE_WITH_TRAFFIC_CONTROL[3:10] == lifecycle.IN_PLACE


def test_the_seven_in_codedeploy_s_order() -> None:
    assert " ".join(lifecycle.THE_SEVEN) == (
        "ApplicationStop DownloadBundle BeforeInstall Install AfterInstall ApplicationStart ValidateService"
    )


def test_nine_events_can_have_scripts() -> None:
    assert len(lifecycle.SCRIPTABLE) == 9
    assert not set(lifecycle.SCRIPTABLE) & lifecycle.NOT_SCRIPTABLE
    assert set(lifecycle.SCRIPTABLE) >= lifecycle.RUNS_INSTALLED_REVISION


def test_a_log_tail_is_whole_lines_or_the_end_of_a_long_one() -> None:
    assert tail(b"one\ntwo\n") == "one\ntwo\n"
    lines = "".join(f"line {n} {'x' * 40}\n" for n in range(200))
    found = tail(lines.encode())
    assert len(found) <= LOG_TAIL_LIMIT and lines.endswith(found) and found.startswith("line ")
    assert tail(b"x" * 5000) == "x" * LOG_TAIL_LIMIT
    assert tail(b"\xff" * 10) == "\ufffd" * 10
    assert tail("é".encode() * 5000) == "é" * LOG_TAIL_LIMIT
