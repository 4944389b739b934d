"""One deployment, undisturbed and with the coordinator dying at every single step."""

from __future__ import annotations

import pytest
from simulation import invariants
from simulation.faults import Faults
from simulation.world import World


def canonical(**faults: object) -> World:
    return World(4, faults=Faults(boot=1.0, **faults))  # type: ignore[arg-type]


def test_half_at_a_time_succeeds_in_two_batches() -> None:
    world = canonical()
    history = world.run()
    assert invariants.broken(history) == {}
    assert world.rows.deployment.status == "Succeeded"
    assert world.rows.deployment.batch == 2
    assert all(agent.app == history.revision for agent in world.agents.values())


def count() -> int:
    world = canonical()
    world.run()
    return world.failpoints


@pytest.mark.parametrize("stall", [False, True])
def test_a_crash_at_every_step_breaks_no_promise(stall: bool) -> None:
    points = count()
    assert points > 100
    for point in range(points):
        world = canonical(crash_at=frozenset({point}), stall=stall)
        history = world.run()
        assert invariants.broken(history) == {}, f"failpoint {point}"
        assert world.rows.deployment.status == "Succeeded", f"failpoint {point}: {world.rows.deployment.error_message}"


def test_the_same_seed_gives_the_same_history() -> None:
    assert canonical().run().facts == canonical().run().facts
