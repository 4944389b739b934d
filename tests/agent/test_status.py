"""`shiftwork-agent status`: one screen, with and without an agent."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from shiftwork_agent import identity, screen, status
from shiftwork_agent.cli import main
from shiftwork_agent.identity import Identity
from shiftwork_agent.layout import Layout
from shiftwork_agent.status import LastCommand, Limits, RunningCommand, Status, Usage
from shiftwork_contract.messages import Acknowledge, CommandEnded, EventStarted, GateState, GroupState

Bench = Any
NOW = 1_800_000_000.0
STATUS = Status(
    7, "0.1.0", "i-1", "web-1", NOW - 7200, True, "https://c:7070", connected_since=NOW - 600, waiting_reports=2,
    certificate_expires=NOW + 29 * 86400, groups=(GroupState("g-1", "sha256:ab"),),
    running=(RunningCommand("c", "d-2", "web/production", "AfterInstall", NOW - 12),),
    gates={"g-1": GateState(True, 5.0, checkers=2)},
    last=(LastCommand("g-1", "web/production", "d-1", "sha256:ab", "Failed", NOW - 60, "exit \x1b[31m3\nrm"),),
    limits=Limits(5, 20 << 30, 64 << 20, 50, 1 << 30), usage=Usage(2, 1_500_000, 2_000, 300, 9 << 30),
)  # fmt: skip


def rows(text: str) -> list[tuple[str, str]]:
    return [(line[:11].strip(), line[13:]) for line in text.splitlines()]


def test_the_screen_says_who_it_is_what_runs_and_what_it_keeps() -> None:
    told = rows(screen.describe(STATUS, NOW))
    assert [label for label, _ in told] == [
        *("instance", "agent", "certificate", "link", "reports", "running", "last", "installed", "gate", "disk")
    ]
    text = dict(told)
    assert text["instance"] == "web-1 (i-1)"
    assert text["link"].startswith("connected to https://c:7070 since ") and text["link"].endswith("(10 min)")
    assert text["running"].startswith("web/production: AfterInstall of d-2 since ")
    assert text["last"].startswith("web/production: a command of d-1 Failed at ")
    assert text["last"].endswith(", with sha256:ab installed: exit 3 rm")
    assert text["installed"] == "web/production: sha256:ab"
    assert text["disk"].startswith("2 revisions, 1.5 MB of at most 5 and 21.5 GB; output 2.0 kB of at most 1.1 GB")


def test_problems_are_named() -> None:
    broken = msgspec.structs.replace(
        STATUS, connected=False, problem="Connection refused", offline_since=NOW - 300, certificate_expires=NOW - 1,
        usage=Usage(free_bytes=1 << 20), gates={"g-1": GateState(True, 5.0, problem="cannot listen on :80")},
    )  # fmt: skip
    told = [text for label, text in rows(screen.describe(broken, NOW)) if label == "problem"]
    assert told[0] == "Connection refused" and told[1].startswith("the certificate expired at ")
    assert told[2] == "cannot listen on :80" and told[3].startswith("1.0 MB are left")


def call(state: Path, *options: str) -> tuple[int, str]:
    ran = CliRunner().invoke(main, ["status", "--state", str(state), *options])
    return ran.exit_code, ran.output


async def test_it_works_without_an_agent_and_says_what_ran_last(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo hello; exit 3\n"})
    async with bench.agent():
        await bench.run(bench.command("AfterInstall"))
    code, text = call(bench.layout.state)
    assert code == 3 and "no agent runs on" in text, "it has not joined"
    about = Identity("i-1", "web-1", 2e9, 3e9)
    identity.save(bench.layout, about, certificate=b"", ca=b"")
    code, text = call(bench.layout.state)
    told = dict(rows(text))
    assert code == 3 and told["agent"].endswith("not running") and "no agent runs on" in told["problem"]
    assert told["last"].startswith("web/production: a command of d-1 Failed at ")
    assert "exited with code 3" in told["last"]
    code, text = call(bench.layout.state, "--output", "json")
    assert json.loads(text)["usage"]["outputBytes"] == len("hello\n")
    with bench.layout.ledger.open("ab") as ledger:
        ledger.write(b'{"kind":"Begun"\n{}\n')
    code, text = call(bench.layout.state)
    assert code == 3 and "and none can: cannot read line" in dict(rows(text))["problem"]


async def test_a_damaged_status_file_is_no_reason_to_fail(bench: Bench) -> None:
    identity.save(bench.layout, Identity("i-1", "web-1", 2e9, 3e9), certificate=b"", ca=b"")
    held = status.lock(bench.layout)
    bench.layout.status.write_bytes(b'{"pid": 1, "vers')
    assert call(bench.layout.state)[0] == 3
    os.close(held)


async def test_the_daemon_tells_since_when_and_what_was_last(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "while [ ! -e go ]; do sleep 0.02; done\n"})
    async with bench.agent() as agent:
        before = agent.clock.wall()
        await bench.send(bench.command("AfterInstall"))
        await bench.coordinator.expect(EventStarted)
        (running,) = agent._status().running
        assert (running.group, running.event) == ("web/production", "AfterInstall")
        assert before - 1 <= running.since <= agent.clock.wall()
        (bench.installer.bundle_dir("r1") / "go").touch()
        await bench.coordinator.expect(CommandEnded)
        told = agent._status()
        assert [(last.deployment_id, last.status) for last in told.last] == [("d-1", "Succeeded")]
        assert told.offline_since == 0 and before - 5 < told.connected_since <= agent.clock.wall()
        since = told.connected_since
        bench.clock.set_by = 3600.0  # somebody sets the clock
        assert agent._status().connected_since == pytest.approx(since + 3600, abs=1.0)


def test_what_lies_on_the_disk_is_counted_and_what_is_damaged_passed_over(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    for command in range(100):
        for event in range(11):
            directory = layout.event(f"c-{command}", f"e-{event}")
            directory.mkdir(parents=True)
            (directory / "output").write_bytes(b"x" * 10)
    for revision in range(10):
        (layout.state / f"revisions/{revision}").mkdir(parents=True)
        (layout.state / f"revisions/{revision}/about.json").write_bytes(b'{"size": 100}')
    (layout.state / "revisions/9/about.json").write_bytes(b"\0\0")
    found = screen.usage(layout)
    assert (found.revisions, found.revision_bytes, found.output_bytes) == (10, 900, 11_000)


async def test_the_file_says_that_all_is_told_once_it_is(bench: Bench) -> None:
    bench.coordinator.acknowledging = False

    async def says(text: str) -> None:
        async with asyncio.timeout(60):
            while text not in bench.layout.status.read_text():
                await asyncio.sleep(0.02)

    async with bench.agent() as agent:
        await bench.run(bench.command(prepare=True))
        await says('"waitingReports":2')
        await bench.coordinator.send(Acknowledge(agent.outbox.next_seq - 1))
        await says('"waitingReports":0')
