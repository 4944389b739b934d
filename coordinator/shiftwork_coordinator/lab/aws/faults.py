"""Harm on demand: which calls suffer what."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, query_refusal, refusal

Kind = Literal["throttle", "deny", "error", "delay", "drop", "stale", "lag", "kill"]
QUERY = frozenset({"elb", "elbv2", "autoscaling", "ec2", "sts", "iam"})


class Dropped(Exception):
    """The connection ends without an answer."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the coordinator's calls of `operation` (`lambda:UpdateAlias`, `lambda:*`, `*`) suffer: from the `first` that
    matches on, `times` of them (0 = all that follow); with `late` after they have had their effect. `where` must be
    part of the path, which for Lambda names the function, or of the body. With `each`, calls that differ are counted
    each for itself.

    `throttle`, `deny` and `error` (with `code` and `status`) refuse; `delay` takes `seconds`; `drop` answers nothing;
    `stale` does nothing and repeats what was last answered at that address; `lag` answers that a query service's change
    is made, `seconds` before it is; `kill` ends the process in `pid_file`.
    """

    kind: Kind
    operation: str = "*"
    first: int = 1
    times: int = 1
    late: bool = False
    where: str = ""
    each: bool = False
    seconds: float = 0.0
    status: int = 500
    code: str = "InternalFailure"
    pid_file: str = ""


class Faults:
    """`killed` is awaited instead of a signal to a process, where the coordinator is none."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, list[Asked]]] = []
        self._last: dict[str | bytes, Answer] = {}
        self.killed: Callable[[Asked], Awaitable[None]] | None = None

    def add(self, *faults: Fault) -> None:
        self._faults += [(fault, []) for fault in faults]

    def clear(self) -> None:
        self._faults.clear()

    def due(self, asked: Asked) -> list[Fault]:
        """Counts the call for every fault that it matches."""
        if not asked.by_shiftwork:
            return []
        matching = [(f, seen) for f, seen in self._faults if _matches(f, asked)]
        for _, seen in matching:
            seen.append(asked)
        return [fault for fault, seen in matching if _strikes(fault, _count(fault, seen))]

    def remember(self, asked: Asked, answered: Answer) -> None:
        if answered.fine and asked.by_shiftwork:
            self._last[_address(asked)] = answered

    async def strike(self, fault: Fault, asked: Asked) -> Answer | None:
        """What is answered instead; None when the call may go on. Raises Dropped where nothing is answered."""
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
            return None
        if fault.kind == "drop":
            raise Dropped
        if fault.kind == "kill":
            await self._kill(fault, asked)
            raise Dropped
        if fault.kind == "stale":
            return self._last.get(_address(asked))
        return _refused(fault, asked)

    async def _kill(self, fault: Fault, asked: Asked) -> None:
        if self.killed is not None:
            await self.killed(asked)
        else:
            with contextlib.suppress(ProcessLookupError):  # it was killed at another call of the same moment
                os.kill(int(Path(fault.pid_file).read_text()), signal.SIGKILL)


def _matches(fault: Fault, asked: Asked) -> bool:
    here = fault.where in asked.path or fault.where.encode() in asked.body
    return here and fnmatchcase(asked.call.name, fault.operation)


def _address(asked: Asked) -> str | bytes:
    """Where all calls of a service go to one path, the body says which is which."""
    return asked.path if asked.path != "/" else asked.call.name.encode() + asked.body


def _count(fault: Fault, seen: Sequence[Asked]) -> int:
    """The how manieth the last of them is."""
    last = seen[-1]
    return sum(one.path == last.path and one.body == last.body for one in seen) if fault.each else len(seen)


def _strikes(fault: Fault, seen: int) -> bool:
    return seen >= fault.first and (fault.times == 0 or seen < fault.first + fault.times)


def _refused(fault: Fault, asked: Asked) -> Answer:
    code, status, why = {
        "throttle": ("ThrottlingException", 400, "Rate exceeded"),
        "deny": ("AccessDeniedException", 403, f"not authorized to perform {asked.call.name}"),
    }.get(fault.kind, (fault.code, fault.status, "a fault of the lab"))
    return (query_refusal if asked.call.service in QUERY else refusal)(code, why, status)
