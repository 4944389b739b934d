"""What an agent makes of an event's directory that an earlier one left."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from shiftwork_agent import hooks
from shiftwork_agent.clock import boot_id
from shiftwork_agent.hooks import EventRun, Lost, Result, Shim, Whereabouts
from shiftwork_agent.shim import start_time
from shiftwork_agent.testing import FakeHook
from shiftwork_contract.diagnostics import ErrorCode


@pytest.fixture
def event(tmp_path: Path) -> Path:
    path = tmp_path / "c-1" / "AfterInstall"
    path.mkdir(parents=True)
    return path


def shim_was(event: Path, *, boot: str = "", pid: int = 0, started: str = "") -> None:
    place = Whereabouts(boot or boot_id(), pid or os.getpid(), started or start_time(os.getpid()).decode())
    (event.parent / "shim").write_bytes(msgspec.json.encode(place))


async def test_a_shim_is_found_by_boot_pid_and_start_time(event: Path) -> None:
    shim_was(event)
    found = Shim.find(event.parent)
    assert found is not None
    await found.close()


@pytest.mark.parametrize("other", [{"boot": "another"}, {"started": "1"}, {"pid": 2**22 + 1}])
def test_another_process_is_not_taken_for_the_shim(event: Path, other: dict[str, str]) -> None:
    shim_was(event, **other)  # type: ignore[arg-type]
    assert Shim.find(event.parent) is None


def test_a_hook_cut_by_a_restart_of_the_host_is_interrupted(event: Path) -> None:
    shim_was(event, boot="another")
    (event / "claim.0").write_bytes(b"1 1")
    lost = hooks.lost(event)
    assert lost == Lost(begun=True, rebooted=True)
    run = EventRun(event, event, [FakeHook("a.sh")], {}, 1.0, 1)
    told = hooks.diagnose(lost, run, "r1")
    assert told.error_code is ErrorCode.UNKNOWN_ERROR and "host was restarted" in told.message


def test_an_event_that_no_script_began_may_be_run(event: Path) -> None:
    shim_was(event, started="1")
    assert hooks.lost(event) == Lost(begun=False)


def test_what_is_written_after_the_end_is_cut(event: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "SLACK", 10)
    (event / "result").write_bytes(msgspec.json.encode(Result(0, "succeeded", 0, 5)))
    (event / "output").write_bytes(b"12345 and")
    hooks.trim(event.parent.parent)
    assert (event / "output").read_bytes() == b"12345 and"
    (event / "output").write_bytes(b"12345 and much more")
    hooks.trim(event.parent.parent)
    assert (event / "output").read_bytes() == b"12345"


@pytest.mark.parametrize("outcome", sorted(hooks._CODES))
def test_every_outcome_has_words(event: Path, outcome: str) -> None:
    result = msgspec.convert({"script": 0, "outcome": outcome, "number": 9, "size": 0}, Result)
    told = hooks.diagnose(result, EventRun(event, event, [FakeHook("a.sh")], {}, 1.0, 1), "r1")
    assert bool(told.message) == (outcome != "succeeded") and told.script_name == "a.sh"


def test_what_the_power_took_is_not_taken_for_never_begun(event: Path) -> None:
    """Neither claim nor shim has come to the disk; the ledger says that the event was started."""
    assert hooks.lost(event, "another") == Lost(begun=False, rebooted=True)
    assert hooks.lost(event, boot_id()) == Lost(begun=False)
    assert hooks.lost(event.parent / "Gone", "another").rebooted
