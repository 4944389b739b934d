"""Many hosts at once: so many at a time, each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.bootstrap.host import HEARD_WITHIN, Host, Tools
from shiftwork_coordinator.bootstrap.ports import Coordinator, Dialer, HostProblem
from shiftwork_coordinator.bootstrap.steps import Wish
from shiftwork_coordinator.bootstrap.targets import Target
from shiftwork_coordinator.ports import Clock

AGAIN = "run this again"


@dataclass(frozen=True)
class Result:
    """What became of one host. It failed where there is a problem; `seconds` is how long it took."""

    target: Target
    instance: str = ""
    did: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    remedy: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.problem)


@dataclass(frozen=True)
class Pace:
    """`at_once` hosts at the same time, each for `timeout` seconds at most."""

    at_once: int = 20
    timeout: float = 300.0
    heard_within: float = HEARD_WITHIN


class Watcher(Protocol):
    def told(self, target: Target, instance: str, stage: str) -> None:
        """A host has come to another stage."""

    def ended(self, result: Result) -> None:
        """A host is through."""


@dataclass
class Run:
    """One run over a fleet. `results` fills up as hosts end; interrupted, it holds those that did."""

    dialer: Dialer
    coordinator: Coordinator
    wish: Wish
    clock: Clock
    watcher: Watcher
    pace: Pace = field(default_factory=Pace)
    sudo_password: str = field(default="", repr=False)
    results: list[Result] = field(default_factory=list)

    async def over(self, targets: Sequence[Target]) -> None:
        """Returns when every host has ended, well or not. Cancelled, no token is left and nothing half copied."""
        slots, names = asyncio.Semaphore(self.pace.at_once), dict[str, Target]()

        def claim(name: str, target: Target) -> str:
            holder = names.setdefault(name, target)
            return "" if holder == target else str(holder)

        tools = Tools(self.coordinator, self.wish, claim, self.watcher.told, self.sudo_password, self.pace.heard_within)
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(self._one(target, tools, slots))

    async def _one(self, target: Target, tools: Tools, slots: asyncio.Semaphore) -> None:
        async with slots:
            result = await self._brought(target, tools)
            self.results.append(result)
            self.watcher.ended(result)

    async def _brought(self, target: Target, tools: Tools) -> Result:
        began, result, stage = self.clock.monotonic(), Result(target), "connecting"

        def told(who: Target, instance: str, now: str) -> None:
            nonlocal stage
            stage = now
            tools.tell(who, instance, now)

        told(target, "", stage)
        host: Host | None = None
        try:
            async with asyncio.timeout(self.pace.timeout), AsyncExitStack() as stack:
                session = await stack.enter_async_context(self.dialer.session(target))
                host = Host(target, session, replace(tools, tell=told), [])
                await host.bring()
        except TimeoutError:
            result = replace(
                result,
                problem=f"cannot finish within {self.pace.timeout:g} s: it was {stage}",
                remedy="give more --timeout, or look what keeps the host",
            )
        except HostProblem as err:
            result = replace(result, problem=err.problem, remedy=err.remedy)
        except ShiftworkError as err:
            result = replace(result, problem=err.message, remedy=AGAIN)
        if host is not None:
            result = replace(result, instance=host.instance, did=tuple(host.did))
        return replace(result, seconds=self.clock.monotonic() - began)
