"""Each promise is seen to be broken once, by a bug planted in the engine or in an agent: the checker can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from simulation import faults, invariants
from simulation.faults import Faults
from simulation.world import World

from shiftwork_coordinator.engine import decide, stages, traffic
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.model.rows import CommandRow
from shiftwork_coordinator.model.status import CommandStatus

Patch = pytest.MonkeyPatch


def skip_the_floor(patch: Patch) -> World:
    patch.setattr(Draft, "spare", lambda self: 99)
    hooks = {("web-1", "Install"): (0.2, "fail"), ("web-2", "Install"): (0.2, "fail")}
    return World(6, unhealthy=frozenset({"web-1", "web-2"}), faults=Faults(hooks=hooks))


def start_the_next_batch_early(patch: Patch) -> World:
    patch.setattr(decide, "_gate_open", lambda draft: True)
    return World(5, faults=Faults(hooks={("web-2", "Install"): (9.0, "ok")}))


def unknown_is_out(patch: Patch) -> World:
    honest = traffic.readings_since

    def trusting(*args: Any) -> dict[str, Any]:
        def out(reading: Any) -> Any:
            return replace(reading, state="absent", in_flight=0) if reading.state == "unknown" else reading

        seen = honest(*args)
        return {n: replace(s, last=out(s.last), before=s.before and out(s.before)) for n, s in seen.items()}

    patch.setattr(traffic, "readings_since", trusting)
    world = World(4)
    world.balancer.longest = 5.0
    order = world.balancer.order

    def slowly(name: str, *, out: bool) -> None:
        """Takes an order, is away while it carries it out, and goes on serving meanwhile."""
        if out:
            faults.balancer_away(3.0)(world)
        world.later(3.0 if out else 0.0, lambda: order(name, out=out))

    patch.setattr(world.balancer, "order", slowly)
    return world


def one_reading_is_quiet(patch: Patch) -> World:
    patch.setattr(traffic, "_confirms", lambda seen, since: True)
    world = World(5)
    world.balancer.blinks, world.balancer.longest = True, 5.0
    return world


def reuse_a_stale_probe(patch: Patch) -> World:
    def enter(self: Draft, target: Any, stage: int) -> Any:
        return self.set(target, stage=stage, stage_since=self.now)

    patch.setattr(Draft, "enter", enter)
    return World(4, faults=Faults(boot=5.0, hooks={("*", "*"): (0.1, "ok")}))


def run_a_command_again(patch: Patch) -> World:
    def again(draft: Draft, target: Any, row: CommandRow) -> Any:
        command = replace(row.command, id=row.command.id + "-again")
        draft.add_command(replace(row, command=command, status=CommandStatus.WANTED, ended_at=None, ran=()))
        return stages.WAIT

    patch.setattr(stages, "_failed", again)
    return World(4, faults=Faults(hooks={("web-1", "Install"): (0.2, "fail")}))


def an_agent_without_a_journal(patch: Patch) -> World:
    world = World(4, faults=Faults(at=[(8.0, faults.partition("web-1", 1.0))], hooks={("*", "Install"): (9.0, "ok")}))
    world.agents["web-1"].forgetful = True
    return world


def succeeded_without_asking(patch: Patch) -> World:
    patch.setattr(stages, "_running", lambda draft, target, row: stages.DONE)
    patch.setattr(stages, "_failed", lambda draft, target, row: stages.DONE)
    return World(2, traffic=False, health=False, faults=Faults(hooks={("*", "BeforeInstall"): (0.2, "fail")}))


def wait_for_ever(patch: Patch) -> World:
    patch.setattr(stages, "_running", lambda draft, target, row: stages.WAIT)
    hooks = {("*", "Install"): (9.0, "ok")}
    return World(4, faults=Faults(at=[(8.0, faults.partition("web-1", 1e6))], hooks=hooks))


def an_agent_that_trusts_anybody(patch: Patch) -> World:
    world = World(4, faults=Faults(crash_at=frozenset({1}), stall=True))
    for agent in world.agents.values():
        agent.trusting = True
    return world


MUTANTS: tuple[tuple[Callable[[Patch], World], str], ...] = (
    (skip_the_floor, "floor"),
    (start_the_next_batch_early, "order"),
    (unknown_is_out, "quiet"),
    (one_reading_is_quiet, "quiet"),
    (reuse_a_stale_probe, "ready"),
    (run_a_command_again, "once"),
    (an_agent_without_a_journal, "once"),
    (succeeded_without_asking, "honest"),
    (wait_for_ever, "end"),
    (an_agent_that_trusts_anybody, "fenced"),
)


@pytest.mark.parametrize(("mutant", "promise"), MUTANTS, ids=[m.__name__ for m, _ in MUTANTS])
def test_the_checker_catches(mutant: Callable[[Patch], World], promise: str, monkeypatch: Patch) -> None:
    assert promise in invariants.broken(mutant(monkeypatch).run(300))


@pytest.mark.parametrize("mutant", [m for m, _ in MUTANTS[:9]], ids=[m.__name__ for m, _ in MUTANTS[:9]])
def test_without_the_bug_the_same_world_keeps_its_promises(mutant: Callable[[Patch], World]) -> None:
    class NoPatch:
        def setattr(self, *args: object) -> None:
            """Plants nothing."""

    world = mutant(NoPatch())  # type: ignore[arg-type]
    for agent in world.agents.values():
        agent.forgetful = False
    assert invariants.broken(world.run()) == {}


def test_every_promise_has_a_mutant() -> None:
    assert {promise for _, promise in MUTANTS} == {check.__name__ for check in invariants.ALL}
