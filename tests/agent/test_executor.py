"""Commands, as a coordinator sees them."""

from __future__ import annotations

import asyncio
from typing import Any

from shiftwork_contract.diagnostics import ErrorCode
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import (
    Accepted,
    CancelCommand,
    CommandEnded,
    EventEnded,
    EventStarted,
    Output,
    Refused,
    RunCommand,
)

Bench = Any
SUCCEEDED, FAILED, SKIPPED = EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.SKIPPED
UNTIL_GO = "echo waiting; while [ ! -e go ]; do sleep 0.02; done; echo gone\n"


async def test_a_command_runs_its_events_in_order(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": "#!/bin/sh\necho before\n", "AfterInstall": "echo after >&2\n"})
    events = ("ApplicationStop", "DownloadBundle", "BeforeInstall", "Install", "AfterInstall", "ValidateService")
    async with bench.agent():
        ended = await bench.run(bench.command(*events))
    assert (ended.status, ended.ran) == (SUCCEEDED, events)
    assert ended.group.installed == "r1" and ended.group.last_sequence == 1
    assert bench.coordinator.output("c-1", "BeforeInstall") == b"before\n"
    assert bench.coordinator.output("c-1", "AfterInstall") == b"after\n"
    kinds = [type(r).__name__ for _, r in sorted(bench.coordinator.reports.items())]
    assert kinds[0] == "Accepted" and kinds[-1] == "CommandEnded"
    assert sorted(bench.coordinator.reports) == list(range(1, len(kinds) + 1))
    output = kinds.index("Output")
    assert kinds[output - 1 : output + 2] == ["EventStarted", "Output", "EventEnded"]


async def test_a_command_delivered_twice_runs_once(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo x >> ran\n"})
    command = bench.command("AfterInstall")
    async with bench.agent():
        await bench.run(command)
        again = await bench.run(command)
    assert again.status is SUCCEEDED
    assert (bench.installer.bundle_dir("r1") / "ran").read_text() == "x\n"


async def test_a_command_delivered_twice_runs_once_over_a_restart(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo x >> ran\n"})
    command = bench.command("AfterInstall")
    async with bench.agent():
        await bench.run(command)
    async with bench.agent():
        again = await bench.run(command)
    assert again.status is SUCCEEDED
    assert (bench.installer.bundle_dir("r1") / "ran").read_text() == "x\n"


async def test_a_failing_script_ends_the_command_and_is_named(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": "echo doomed; exit 3\n", "AfterInstall": "touch never\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall", "AfterInstall"))
        event = await bench.coordinator.expect(EventEnded)
        ended = await bench.coordinator.expect(CommandEnded)
    assert (event.status, event.revision) == (FAILED, "r1")
    assert event.diagnostics.error_code is ErrorCode.SCRIPT_FAILED
    assert event.diagnostics.script_name == "BeforeInstall.sh"
    assert "exited with code 3" in event.diagnostics.message and event.diagnostics.log_tail == "doomed\n"
    assert (ended.status, ended.ran) == (FAILED, ("BeforeInstall",))
    assert not (bench.installer.bundle_dir("r1") / "never").exists()


async def test_stop_events_run_the_installed_revision_and_may_be_forgiven(bench: Bench) -> None:
    bench.installer.put("r1", {"ApplicationStop": "echo one; exit 1\n"})
    bench.installer.put("r2", {"ApplicationStop": "echo two\n"})
    async with bench.agent():
        await bench.run(bench.command("Install"))
        failed = await bench.run(bench.command("ApplicationStop", "Install", revision="r2"))
        forgiven = bench.command("ApplicationStop", "Install", revision="r2", ignore_stop_failures=True)
        ended = await bench.run(forgiven)
    assert failed.status is FAILED and "revision r1" in failed.diagnostics.message
    assert (ended.status, ended.group.installed) == (SUCCEEDED, "r2")
    events = [r for r in bench.coordinator.reports.values() if isinstance(r, EventEnded) and r.command_id == "c-3"]
    assert [(e.status, e.revision) for e in events] == [(FAILED, "r1"), (SUCCEEDED, "")]
    assert bench.coordinator.output("c-3", "ApplicationStop") == b"one\n"


async def test_a_prepare_command_prepares_and_ends(bench: Bench) -> None:
    async with bench.agent():
        ended = await bench.run(bench.command(prepare=True))
        bench.installer.problems["prepare"] = "cannot use bundle r1: its digest differs"
        failed = await bench.run(bench.command(prepare=True))
    assert (ended.status, ended.ran) == (SUCCEEDED, ())
    assert (failed.status, failed.diagnostics.message) == (FAILED, "cannot use bundle r1: its digest differs")


async def test_stale_epochs_and_sequences_are_refused(bench: Bench) -> None:
    async with bench.agent():
        await bench.run(bench.command("AfterInstall", revision="none", sequence=5))
        await bench.coordinator.send(RunCommand(7, bench.command("Install", sequence=6)))
        await bench.coordinator.expect(CommandEnded, command_id="c-6")
        await bench.coordinator.send(RunCommand(6, bench.command("Install", sequence=7)))
        epoch = await bench.coordinator.expect(Refused, command_id="c-7")
        await bench.coordinator.send(RunCommand(7, bench.command("Install", sequence=5, id="late")))
        sequence = await bench.coordinator.expect(Refused, command_id="late")
        await bench.coordinator.send(RunCommand(7, bench.command("BlockTraffic", sequence=9)))
        traffic = await bench.coordinator.expect(Refused)
    assert [r.code for r in (epoch, sequence, traffic)] == ["STALE_EPOCH", "STALE_SEQUENCE", "UNSUPPORTED"]
    async with bench.agent():
        assert bench.coordinator.hellos[-1].epoch_seen == 7
        await bench.coordinator.send(RunCommand(6, bench.command("Install", sequence=8)))
        assert (await bench.coordinator.expect(Refused, command_id="c-8")).code == "STALE_EPOCH"


async def test_a_higher_sequence_waits_for_the_running_hook_and_replaces_the_rest(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "touch never\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall", "AfterInstall"))
        await bench.coordinator.expect(Output)
        await bench.send(bench.command("Install"))
        await bench.coordinator.expect(Accepted, command_id="c-2")
        (bench.installer.bundle_dir("r1") / "go").touch()
        first = await bench.coordinator.expect(CommandEnded, command_id="c-1")
        await bench.coordinator.expect(CommandEnded, command_id="c-2")
    assert (first.status, first.ran) == (SKIPPED, ("BeforeInstall",)) and "replaced" in first.diagnostics.message


async def test_a_cancelled_command_finishes_its_hook_and_starts_no_other(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "touch never\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall", "AfterInstall"))
        await bench.coordinator.expect(Output)
        await bench.coordinator.send(CancelCommand(1, "c-1"))
        (bench.installer.bundle_dir("r1") / "go").touch()
        event = await bench.coordinator.expect(EventEnded)
        ended = await bench.coordinator.expect(CommandEnded)
    assert (event.status, ended.status, ended.ran) == (SUCCEEDED, SKIPPED, ("BeforeInstall",))
    assert not (bench.installer.bundle_dir("r1") / "never").exists()


async def test_a_command_cancelled_now_ends_its_hook(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall"))
        await bench.coordinator.expect(Output)
        await bench.coordinator.send(CancelCommand(1, "c-1", now=True))
        event = await bench.coordinator.expect(EventEnded)
    assert event.status is FAILED and "ended on request" in event.diagnostics.message
    assert bench.coordinator.output("c-1", "BeforeInstall") == b"waiting\n"


async def test_a_command_that_waited_too_long_does_not_start(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "touch never\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall"))
        await bench.coordinator.expect(Output)
        await bench.send(bench.command("AfterInstall", start_within=30.0))
        await bench.coordinator.expect(Accepted, command_id="c-2")
        bench.clock.later = 31.0
        (bench.installer.bundle_dir("r1") / "go").touch()
        ended = await bench.coordinator.expect(CommandEnded, command_id="c-2")
    assert (ended.status, ended.ran) == (FAILED, ()) and "the limit is 30 s" in ended.diagnostics.message


async def test_cut_off_for_too_long_no_further_event_starts(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "touch never\n"})
    async with bench.agent() as agent:
        await bench.send(bench.command("BeforeInstall", "AfterInstall", offline_for=60.0))
        await bench.coordinator.expect(Output)
        bench.coordinator.absent = True
        await bench.coordinator.hang_up()
        while agent.link.connected:
            await _a_moment()
        bench.clock.later = 61.0
        (bench.installer.bundle_dir("r1") / "go").touch()
        while agent.journal.unfinished():
            await _a_moment()
        bench.coordinator.absent = False
        ended = await bench.coordinator.expect(CommandEnded)
    assert (ended.status, ended.ran) == (FAILED, ("BeforeInstall",)) and "not heard for" in ended.diagnostics.message


async def test_reports_made_while_the_coordinator_is_away_arrive_in_order_and_once(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "seq 20000\n"})
    async with bench.agent() as agent:
        await bench.send(bench.command("BeforeInstall", "AfterInstall"))
        await bench.coordinator.expect(Output)
        bench.coordinator.absent = True
        await bench.coordinator.hang_up()
        (bench.installer.bundle_dir("r1") / "go").touch()
        while agent.journal.unfinished():
            await _a_moment()
        received = len(bench.coordinator.received)
        acknowledged = agent.outbox.acknowledged
        bench.coordinator.absent = False
        await bench.coordinator.expect(CommandEnded)
    numbers = [m.seq for m in bench.coordinator.received[received:] if hasattr(m, "seq")]
    assert numbers == list(range(acknowledged + 1, acknowledged + 1 + len(numbers)))
    assert bench.coordinator.output("c-1", "BeforeInstall") == b"waiting\ngone\n"
    assert bench.coordinator.output("c-1", "AfterInstall") == b"".join(b"%d\n" % n for n in range(1, 20001))


async def test_unacknowledged_reports_are_sent_again_by_the_next_agent(bench: Bench) -> None:
    bench.coordinator.acknowledging = False
    bench.installer.put("r1", {"AfterInstall": "echo hello\n"})
    async with bench.agent():
        await bench.run(bench.command("AfterInstall"))
    first = sorted(bench.coordinator.reports.items())
    bench.coordinator.reports.clear()
    bench.coordinator.acknowledging = True
    async with bench.agent():
        await bench.coordinator.expect(CommandEnded)
    assert sorted(bench.coordinator.reports.items()) == first


async def test_groups_run_beside_each_other(bench: Bench) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO})
    bench.installer.put("r2", {"BeforeInstall": "true\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall"))
        await bench.coordinator.expect(EventStarted)
        other = await bench.run(bench.command("BeforeInstall", revision="r2", group_id="g-2"))
        assert other.status is SUCCEEDED
        (bench.installer.bundle_dir("r1") / "go").touch()
        await bench.coordinator.expect(CommandEnded, command_id="c-1")


async def test_what_fails_in_one_group_is_nothing_to_the_other(bench: Bench) -> None:
    """Both run at once, under the same event names; output, outcome and cancellation stay apart."""
    bench.installer.put("r1", {"BeforeInstall": "echo one; " + UNTIL_GO, "AfterInstall": "echo after one\n"})
    bench.installer.put("r2", {"BeforeInstall": "echo two; " + UNTIL_GO + "exit 3\n"})
    bench.installer.put("r3", {"BeforeInstall": "echo three; " + UNTIL_GO})
    async with bench.agent() as agent:
        for revision, group in (("r1", "g-1"), ("r2", "g-2"), ("r3", "g-3")):
            await bench.send(
                bench.command("BeforeInstall", "AfterInstall", revision=revision, group_id=group, id=revision)
            )
            await bench.coordinator.expect(Output, command_id=revision)
        assert len(agent.executor.running()) == 3
        await bench.coordinator.send(CancelCommand(1, "r3", now=True))
        (bench.installer.bundle_dir("r2") / "go").touch()
        third = await bench.coordinator.expect(CommandEnded)
        second = await bench.coordinator.expect(CommandEnded)
        assert {third.command_id: third.status, second.command_id: second.status} == {"r3": FAILED, "r2": FAILED}
        (bench.installer.bundle_dir("r1") / "go").touch()
        first = await bench.coordinator.expect(CommandEnded, command_id="r1")
    assert (first.status, first.ran) == (SUCCEEDED, ("BeforeInstall", "AfterInstall"))
    assert bench.coordinator.output("r1", "BeforeInstall") == b"one\nwaiting\ngone\n"
    assert bench.coordinator.output("r2", "BeforeInstall") == b"two\nwaiting\ngone\n"
    assert bench.coordinator.output("r3", "BeforeInstall") == b"three\nwaiting\n"


async def _a_moment() -> None:
    await asyncio.sleep(0.01)


async def test_a_host_without_room_for_a_process_fails_the_event_and_goes_on(bench: Bench, monkeypatch: Any) -> None:
    from shiftwork_agent import hooks

    def refused(*args: Any, **options: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    bench.installer.put("r1", {"ApplicationStart": "true\n"})
    async with bench.agent():
        with monkeypatch.context() as patch:
            patch.setattr(hooks.Shim, "start", refused)
            ended = await bench.run(bench.command("ApplicationStart"))
        assert ended.status is FAILED
        assert "temporarily unavailable" in ended.diagnostics.message
        assert (await bench.run(bench.command("ApplicationStart", id="c-2", sequence=2))).status is SUCCEEDED


async def test_values_of_parameters_are_never_read_by_a_shell_of_ours(bench: Bench) -> None:
    hostile = "$(touch pwned) `touch pwned`; touch pwned\n'\"\\"
    bench.installer.put("r1", {"AfterInstall": '#!/bin/sh\nprintf %s "$NOTE"\n'})
    async with bench.agent():
        ended = await bench.run(bench.command("AfterInstall", environment={"NOTE": hostile, "WORKERS": "8"}))
    assert ended.status is SUCCEEDED
    assert bench.coordinator.output("c-1", "AfterInstall") == hostile.encode()
    assert not list(bench.layout.state.parent.rglob("pwned"))
