"""Reports on their way to the coordinator: durable here before they are sent, kept until they are durable there.

Hook output is not copied into the outbox: a piece of output is remembered as (event, offset, length) and read from the
event's output file when it is sent, so a coordinator that is gone for hours costs neither memory nor disk twice. What
is remembered is bounded by the bound of the output itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from shiftwork_agent.ledger import Ledger
from shiftwork_contract.messages import Message, Output, Report

PIECE = 64 << 10
"""Bytes of hook output in one report."""


class Written(Message, frozen=True, tag=True):
    """Stands in the ledger for an `Output` of `length` bytes."""

    seq: int
    command_id: str
    event: str
    offset: int
    length: int


class Acked(Message, frozen=True, tag=True):
    seq: int


class Reported(Message, frozen=True, tag=True):
    """How much of an event's output has been posted, where the `Written` that said so are gone."""

    command_id: str
    event: str
    size: int


Kept = Report | Written


class ReadOutput(Protocol):
    def __call__(self, command_id: str, event: str, offset: int, length: int) -> bytes: ...


class Outbox:
    """`seq` rises by one per report, over restarts too; the reports after `acknowledged` are all here."""

    def __init__(self, ledger: Ledger, read_output: ReadOutput) -> None:
        self._ledger = ledger
        self._read_output = read_output
        self._pending: deque[tuple[Kept, int]] = deque()
        self._posted = asyncio.Event()
        self.written: dict[tuple[str, str], int] = {}
        self.acknowledged = 0
        self.next_seq = 1

    def restore(self, record: Kept | Acked | Reported) -> None:
        """Takes one record of the ledger, in order; a rewritten ledger may repeat some."""
        if isinstance(record, Reported):
            self.written[record.command_id, record.event] = record.size
        elif isinstance(record, Acked):
            self.next_seq = max(self.next_seq, record.seq + 1)
            self._forget(record.seq)
        elif record.seq >= self.next_seq:
            self.next_seq = record.seq + 1
            self._pending.append((record, 0))
            self._note(record)

    def post(self, make: Callable[[int], Kept]) -> Kept:
        """Queues the report that `make` builds from its number. It is sent as soon as it is durable."""
        record = make(self.next_seq)
        self.next_seq += 1
        position = self._ledger.append(msgspec.json.encode(record))
        self._pending.append((record, position))
        self._note(record)
        self._posted.set()
        return record

    def _note(self, record: Kept) -> None:
        if isinstance(record, Written):
            self.written[record.command_id, record.event] = record.offset + record.length

    def reported(self) -> list[Reported]:
        return [Reported(command_id, event, size) for (command_id, event), size in self.written.items()]

    def forget_output(self, command_id: str) -> None:
        for key in [key for key in self.written if key[0] == command_id]:
            del self.written[key]

    def acknowledge(self, seq: int) -> None:
        """Forgets everything up to `seq`. Remembered lazily: what is sent again after a crash is ignored there."""
        if seq >= self.next_seq or seq <= self.acknowledged:
            return
        self._forget(seq)
        self._ledger.append_lazily(msgspec.json.encode(Acked(seq)))

    def _forget(self, seq: int) -> None:
        self.acknowledged = max(self.acknowledged, seq)
        while self._pending and self._pending[0][0].seq <= seq:
            self._pending.popleft()

    async def next(self, after: int) -> Report:
        """The first report numbered higher than `after`, once it is durable."""
        while True:
            self._posted.clear()
            after = max(after, self.acknowledged)
            index = after + 1 - self._pending[0][0].seq if self._pending else 0
            if self._pending and index < len(self._pending):
                record, position = self._pending[index]
                await self._ledger.durable(position)
                return self._complete(record)
            await self._posted.wait()

    def _complete(self, record: Kept) -> Report:
        if not isinstance(record, Written):
            return record
        data = self._read_output(record.command_id, record.event, record.offset, record.length)
        return Output(record.seq, record.command_id, record.event, record.offset, data)

    def waiting(self) -> list[Kept]:
        return [record for record, _ in self._pending]

    def holds(self, command_id: str) -> bool:
        """Whether a report of this command is still unacknowledged."""
        return any(record.command_id == command_id for record, _ in self._pending)
