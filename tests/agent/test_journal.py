"""The journal and the outbox over their ledger: what is remembered after a stop, a crash and a rewrite."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shiftwork_agent.journal import Journal
from shiftwork_agent.ledger import Ledger
from shiftwork_agent.outbox import Outbox, Written
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command, CommandEnded, EventStarted, Output, RunCommand
from shiftwork_contract.revision import Revision


class Memory:
    """One agent's life over a ledger."""

    def __init__(self, path: Path, keep: int = 50, limit: int = 1 << 20) -> None:
        self.ledger = Ledger(path, lambda: list(self.journal.compacted()), limit)
        self.outbox = Outbox(self.ledger, lambda command_id, event, offset, length: b"x" * length)
        self.journal = Journal(self.ledger, self.outbox, keep=keep)
        self.journal.restore(self.ledger.open())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Memory]:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.ledger.run())
                yield self
                await self.ledger.durable()
                raise StopAsyncIteration
        except* StopAsyncIteration:
            self.ledger.close()

    def begin(self, number: int, group: str = "g") -> None:
        self.journal.begin(run(number, group), boot_id="b", uptime=1.0)

    def end(self, number: int) -> None:
        status = EventStatus.SUCCEEDED
        self.journal.report(lambda seq: CommandEnded(seq, f"c{number}", status, 0.0))

    def numbers(self) -> list[int]:
        return [record.seq for record in self.outbox.waiting()]


def run(number: int, group: str = "g", epoch: int = 1, **fields: object) -> RunCommand:
    values = {"events": ("Install",)} | fields
    command = Command(f"c{number}", "d", group, "app", "prod", number, Revision("r", "u"), **values)  # type: ignore[arg-type]
    return RunCommand(epoch, command)


async def test_everything_is_remembered(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l").running() as memory:
        memory.begin(1)
        memory.journal.report(lambda seq: EventStarted(seq, "c1", "Install", 0.0))
        memory.journal.see_epoch(4)
        memory.journal.cancel(memory.journal.entries["c1"], now=False, why="because")
        memory.outbox.acknowledge(1)
    again = Memory(tmp_path / "l")
    entry = again.journal.entries["c1"]
    assert entry.has_started("Install") and (entry.cancel, entry.why) == ("finish", "because")
    assert (again.journal.epoch, again.journal.sequences, again.numbers()) == (4, {"g": 1}, [2])
    assert again.outbox.next_seq == 3


async def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l").running() as memory:
        memory.begin(1)
    with (tmp_path / "l").open("ab") as file:
        file.write(b'{"kind":"Begun","epo')
    async with Memory(tmp_path / "l").running() as again:
        assert list(again.journal.entries) == ["c1"]
        again.end(1)
    assert Memory(tmp_path / "l").journal.entries["c1"].ended is not None


async def test_a_rewritten_ledger_says_the_same(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l").running() as memory:
        for number in range(1, 6):
            memory.begin(number, f"g{number % 2}")
            memory.outbox.post(lambda seq, n=number: Written(seq, f"c{n}", "Install", 0, 7))  # type: ignore[misc]
            memory.end(number)
        memory.outbox.acknowledge(10)
        await memory.ledger.durable()
        memory.ledger.rewrite()
        memory.begin(6)
    again = Memory(tmp_path / "l")
    assert {id: entry.ended is not None for id, entry in again.journal.entries.items()} == {
        **{f"c{number}": True for number in range(1, 6)},
        "c6": False,
    }
    assert again.numbers() == [11, 12, 13, 14, 15, 16] and again.outbox.next_seq == 17
    assert again.journal.sequences == {"g0": 4, "g1": 5, "g": 6}
    assert again.outbox.written["c2", "Install"] == 7


async def test_the_ledger_stays_small(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l", keep=3, limit=20_000).running() as memory:
        for number in range(1, 400):
            memory.begin(number)
            memory.end(number)
            await memory.ledger.durable()
            memory.outbox.acknowledge(memory.outbox.next_seq - 1)
            memory.journal.forget_old()
        assert memory.ledger.size < 25_000 and len(memory.journal.entries) == 3
    again = Memory(tmp_path / "l")
    assert again.outbox.next_seq == 2 * 399 + 1 and again.journal.sequences == {"g": 399}
    assert again.journal.refusal(run(399)) is not None


async def test_unacknowledged_commands_are_never_forgotten(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l", keep=1).running() as memory:
        for number in (1, 2, 3):
            memory.begin(number)
            memory.end(number)
        assert memory.journal.forget_old() == []
        memory.outbox.acknowledge(4)
        assert memory.journal.forget_old() == ["c1"]


async def test_many_reports_share_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path / "l")
    writes: list[int] = []
    write = Ledger._write
    monkeypatch.setattr(Ledger, "_write", lambda self, data: (writes.append(len(data)), write(self, data)))
    async with memory.running():
        memory.begin(1)
        memory.end(1)
        await memory.ledger.durable()
    assert len(writes) == 1


async def test_a_report_is_sent_only_when_it_is_durable(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "l")
    memory.begin(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(memory.outbox.next(0), 0.05)
    async with memory.running():
        assert (await memory.outbox.next(0)).seq == 1


async def test_output_is_read_when_it_is_sent(tmp_path: Path) -> None:
    async with Memory(tmp_path / "l").running() as memory:
        memory.outbox.post(lambda seq: Written(seq, "c1", "Install", 5, 3))
        assert await memory.outbox.next(0) == Output(1, "c1", "Install", 5, b"xxx")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (run(5, epoch=1), "STALE_EPOCH"),
        (run(3, epoch=2), "STALE_SEQUENCE"),
        (run(4, epoch=2), None),
        (run(1, "other", epoch=2), None),
        (run(5, epoch=2, events=("AllowTraffic",)), "UNSUPPORTED"),
        (run(5, epoch=2, events=("../x",)), "INVALID"),
        (run(5, "../g", epoch=2), "INVALID"),
        (run(5, epoch=2, events=()), "INVALID"),
        (run(5, epoch=2, events=("Install", "Install")), "INVALID"),
    ],
)
def test_what_is_refused(tmp_path: Path, message: RunCommand, code: str | None) -> None:
    memory = Memory(tmp_path / "l")
    memory.begin(3)
    memory.journal.see_epoch(2)
    refusal = memory.journal.refusal(message)
    assert (refusal and refusal[0]) == code
