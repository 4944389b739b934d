"""An agent gets up again by itself: after damage to its files, with a clock that was set, without its network."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shiftwork_agent import link
from shiftwork_agent.hooks import lost, prune, read_result
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Certificate, CommandEnded, EventEnded, EventStarted, GroupState, Output

Bench = Any
UNTIL_GO = "echo waiting; while [ ! -e go ]; do sleep 0.02; done; echo gone\n"
HOUR = 3600.0


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager that wants to hear from the agent every 50 ms."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
        heard.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        yield heard


async def pinged(manager: socket.socket, within: float) -> bool:
    """Whether a ping comes that had not come before."""
    loop = asyncio.get_running_loop()
    try:
        while manager.recv(64):
            pass
    except BlockingIOError:
        pass
    try:
        async with asyncio.timeout(within):
            return await loop.sock_recv(manager, 64) == b"WATCHDOG=1"
    except TimeoutError:
        return False


async def test_the_watchdog_is_fed_while_loop_and_disk_work(
    bench: Bench, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    answers.set()
    monkeypatch.setattr("shiftwork_agent.ledger.os.fdatasync", lambda descriptor: answers.wait(20))
    async with bench.agent() as agent:
        assert await pinged(manager, 5.0)
        answers.clear()
        agent.ledger.append(b"{}")
        async with asyncio.timeout(60):
            while not agent.ledger.writing:
                await asyncio.sleep(0.01)
        await pinged(manager, 0.2)
        assert not await pinged(manager, 0.5), "the disk does not answer"
        answers.set()
        assert await pinged(manager, 5.0)


@pytest.mark.parametrize("damage", [b"", b"\0" * 64, b'{"pid": 1', b"boot nan\n", b"[{}]", b"\xff\xfe"])
async def test_damaged_notes_are_made_anew(bench: Bench, damage: bytes) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo hello\n"})
    bench.layout.create()
    for path in (bench.layout.status, bench.layout.contact, bench.layout.gates):
        path.write_bytes(damage)
    async with bench.agent():
        ended = await bench.run(bench.command("AfterInstall"))
    assert ended.status is EventStatus.SUCCEEDED


async def test_a_ledger_that_is_damaged_in_the_middle_is_named_with_its_line(bench: Bench) -> None:
    async with bench.agent():
        await bench.run(bench.command(prepare=True))
    lines = bench.layout.ledger.read_bytes().splitlines(keepends=True)
    bench.layout.ledger.write_bytes(b"".join([*lines[:1], b"\0\0\0\n", *lines[1:]]))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with bench.agent():
            pass
    (problem,) = caught.value.exceptions
    assert isinstance(problem, InvalidRequest) and f"line 2 of {bench.layout.ledger}" in problem.message


async def test_a_ledger_whose_end_is_torn_is_gone_on_with(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo x >> ran\n"})
    command = bench.command("AfterInstall")
    async with bench.agent():
        await bench.run(command)
    with bench.layout.ledger.open("ab") as ledger:
        ledger.write(b'{"kind":"Begun","epoch"\0\0\0\0')
    async with bench.agent():
        assert (await bench.run(command)).status is EventStatus.SUCCEEDED
    assert (bench.installer.bundle_dir("r1") / "ran").read_text() == "x\n"


def test_damaged_results_and_claims_are_no_reason_to_die(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(b"\0\0\0")
    (tmp_path / "claim.0").write_bytes(b"\0\0 \0")
    assert read_result(tmp_path) is None
    assert lost(tmp_path).begun


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_setting_the_clock_ends_nothing_and_starts_nothing_twice(bench: Bench, step: float) -> None:
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "echo after\n"})
    async with bench.agent():
        await bench.send(bench.command("BeforeInstall", "AfterInstall", start_within=30.0, event_limit=30.0))
        await bench.coordinator.expect(EventStarted)
        bench.clock.set_by = step
        (bench.installer.bundle_dir("r1") / "go").touch()
        ended = await bench.coordinator.expect(CommandEnded)
    assert (ended.status, ended.ran) == (EventStatus.SUCCEEDED, ("BeforeInstall", "AfterInstall"))


@pytest.mark.parametrize(("reason", "says"), [("certificate is not yet valid", True), ("Connection refused", False)])
def test_a_certificate_that_is_not_valid_now_makes_one_look_at_the_clock(reason: str, says: bool) -> None:
    group = BaseExceptionGroup("", [ssl.SSLCertVerificationError(1, f"certificate verify failed: {reason}")])
    if not says:
        group = BaseExceptionGroup("", [OSError(111, reason)])
    assert ("this host's clock says 2001-09-09 01:46:40 UTC" in link._about_clocks(group, 1e9)) is says


async def test_an_hour_without_the_network(bench: Bench) -> None:
    """The hook that runs ends, what it says is kept and told once, nothing further starts."""
    bench.installer.put("r1", {"BeforeInstall": UNTIL_GO, "AfterInstall": "touch never\n"})
    async with bench.agent() as agent:
        command = bench.command("BeforeInstall", "AfterInstall", offline_for=300.0)
        await bench.send(command)
        await bench.coordinator.expect(Output, data=b"waiting\n")
        bench.coordinator.absent = True
        await bench.coordinator.hang_up()
        async with asyncio.timeout(60):
            while agent.link.connected:
                await asyncio.sleep(0.01)
        bench.clock.later += HOUR
        (bench.installer.bundle_dir("r1") / "go").touch()
        async with asyncio.timeout(60):
            while agent.journal.unfinished():
                await asyncio.sleep(0.01)
        kept = len(agent.outbox.waiting())
        assert kept >= 3
        bench.coordinator.absent = False
        ended = await bench.coordinator.expect(CommandEnded)
        assert ended.ran == ("BeforeInstall",) and "was not heard for 36" in ended.diagnostics.message
    event = next(r for r in bench.coordinator.reports.values() if isinstance(r, EventEnded))
    assert event.status is EventStatus.SUCCEEDED
    assert bench.coordinator.output(command.id, "BeforeInstall") == b"waiting\ngone\n"
    received = [m.seq for m in bench.coordinator.received if isinstance(m, EventEnded | CommandEnded)]
    assert len(received) == len(set(received)), "told twice"
    assert not (bench.installer.bundle_dir("r1") / "never").exists()


async def test_a_flood_while_nobody_listens_is_bounded(bench: Bench) -> None:
    bench.installer.put("r1", {"AfterInstall": "head -c 20000000 /dev/zero\n"})
    async with bench.agent(output_limit=1 << 20) as agent:
        await bench.send(bench.command("AfterInstall"))
        await bench.coordinator.expect(EventStarted)
        bench.coordinator.absent = True
        await bench.coordinator.hang_up()
        async with asyncio.timeout(60):
            while agent.journal.unfinished():
                await asyncio.sleep(0.01)
        assert len(agent.outbox.waiting()) < 16 + 8, "a record per 64 KiB of what is kept, and no bytes of it"


async def test_before_there_is_a_network_an_agent_tries_again(bench: Bench, free_port: int) -> None:
    nowhere = ("https://no-such-host.invalid:7070", f"http://127.0.0.1:{free_port}", bench.coordinator.url)
    async with bench.agent(coordinators=nowhere):
        assert len(bench.coordinator.hellos) == 1


def test_the_oldest_output_goes_first(tmp_path: Path) -> None:
    commands = [tmp_path / name for name in ("c-2", "c-10", "c-1")]
    for command in commands:
        (command / "Install").mkdir(parents=True)
        (command / "Install/output").write_bytes(b"x" * 100)
        (command / "Install/result").write_bytes(b"{}")
    prune(commands, 250)
    assert [(command / "Install/output").exists() for command in commands] == [False, True, True]
    assert all((command / "Install/result").exists() for command in commands)
    prune(commands, 0)
    assert not list(tmp_path.rglob("output"))


async def test_a_group_whose_notes_cannot_be_read_is_nothing_to_the_others(bench: Bench, monkeypatch: Any) -> None:
    bench.installer.put("r1", {"AfterInstall": "echo x\n"})
    found = bench.installer.installed

    def installed(group_id: str) -> GroupState:
        if group_id == "g-1":
            raise ShiftworkError("cannot read installed.json")
        return found(group_id)

    async with bench.agent():
        await bench.run(bench.command("AfterInstall"))
        monkeypatch.setattr(bench.installer, "installed", installed)
        ended = await bench.run(bench.command("ApplicationStop"))
        assert ended.status is EventStatus.FAILED and "cannot read installed.json" in ended.diagnostics.message
    async with bench.agent():
        assert (await bench.run(bench.command("AfterInstall", group_id="g-2"))).status is EventStatus.SUCCEEDED


async def test_a_host_without_room_for_a_process_renews_later(bench: Bench, monkeypatch: Any) -> None:
    async with bench.agent() as agent:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        await bench.coordinator.send(Certificate("new", "ca"))
        await asyncio.sleep(0.1)
        await agent.renewal._ask()
        bench.installer.put("r1", {})
        assert (await bench.run(bench.command("AfterInstall"))).status is EventStatus.SUCCEEDED
