"""The in-memory twin of the port of lifecycle hooks, over the machines of `testing.MemoryFleets`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.settings import AutoScaling
from shiftwork_coordinator.ports import Member
from shiftwork_coordinator.testing import Machine, MemoryFleets


@dataclass
class MemoryHooks:
    """Instances that are launched or ended wait for the hooks of their group. `answers` and `beats` are what was told,
    by instance; `puts` counts hooks that were put, `asked` questions for members, which are not answered while
    `answering` is clear. No hook can be taken away while it is `stuck`."""

    fleet: MemoryFleets
    hooks: dict[str, ScalingHook] = field(default_factory=dict)
    answers: list[tuple[str, str]] = field(default_factory=list)
    beats: list[str] = field(default_factory=list)
    puts: int = 0
    asked: int = 0
    stuck: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    async def members(self, groups: Sequence[str]) -> Sequence[Member]:
        self._ask()
        self.asked += 1
        await self.answering.wait()
        found = self.fleet.machines.items()
        return [Member(id, "", m.zone, m.group, m.lifecycle) for id, m in found if m.group and m.group in groups]

    async def put(self, hook: ScalingHook, settings: AutoScaling) -> bool:
        self._ask()
        if self.hooks.get(_key(hook)) == hook:
            return False
        self.hooks[_key(hook)] = hook
        self.puts += 1
        return True

    async def delete(self, hook: ScalingHook) -> None:
        self._ask()
        if self.stuck:
            raise InvalidRequest("cannot take the hook away")
        self.hooks.pop(_key(hook), None)

    async def answer(self, hook: ScalingHook, instance: str, outcome: str) -> None:
        self._ask()
        self.answers.append((instance, outcome))
        machine = self.fleet.machines.get(instance)
        if machine is None or machine.lifecycle != ("Terminating:Wait" if hook.leaving else "Pending:Wait"):
            return
        if hook.leaving or outcome == "ABANDON":
            self.fleet.machines[instance] = Machine(state="terminated")
        else:
            machine.lifecycle = "InService"

    async def beat(self, hook: ScalingHook, instance: str) -> None:
        self._ask()
        self.beats.append(instance)

    async def hear(self, queue: str) -> bool:
        await self.news.wait()
        self.news.clear()
        return True

    # What a test does

    def launch(self, id: str, group: str) -> None:
        waits = any(hook.scaling_group == group and not hook.leaving for hook in self.hooks.values())
        self.fleet.machines[id] = Machine(group=group, lifecycle="Pending:Wait" if waits else "InService")

    def end(self, id: str) -> None:
        machine = self.fleet.machines[id]
        waits = any(hook.scaling_group == machine.group and hook.leaving for hook in self.hooks.values())
        if waits:
            machine.lifecycle = "Terminating:Wait"
        else:
            self.fleet.machines[id] = Machine(state="terminated")

    def _ask(self) -> None:
        if self.fleet.unreachable:
            raise Unavailable("cannot reach Auto Scaling")


def _key(hook: ScalingHook) -> str:
    return f"{hook.scaling_group}/{hook.name}"
