"""Any weather: a few faults at any time, in fleets of any health, at either pace. SHIFTWORK_SOAK=1 tries many more."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulation import invariants
from simulation.faults import Faults, weather
from simulation.world import World

from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.settings import Quiet

SOAK = bool(os.environ.get("SHIFTWORK_SOAK"))
NAMES = [f"web-{i + 1}" for i in range(6)]
MINIMA = [("FLEET_PERCENT", 50), ("FLEET_PERCENT", 75), ("HOST_COUNT", 0), ("MOST_CONCURRENCY", 1), ("HOST_COUNT", 4)]
CONFIGS = st.builds(
    lambda minimum, pace, bake, most: DeploymentConfig("c", MinimumHealthyHosts(*minimum), pace, most, bake),
    st.sampled_from(MINIMA),
    st.sampled_from(("batches", "sliding")),
    st.sampled_from((0.0, 4.0)),
    st.sampled_from((None, None, 0, 2)),
)


@settings(
    max_examples=3000 if SOAK else 100,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    print_blob=True,
    phases=(Phase.generate, Phase.shrink) if SOAK else (Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(
    config=CONFIGS,
    traffic=st.booleans(),
    health=st.booleans(),
    unhealthy=st.frozensets(st.sampled_from(NAMES), max_size=3),
    faults=weather(NAMES),
    then=st.sampled_from(("fail", "proceed")),
    seed=st.integers(0, 1000),
)
def test_any_weather_breaks_no_promise(
    config: DeploymentConfig,
    traffic: bool,
    health: bool,
    unhealthy: frozenset[str],
    faults: Faults,
    then: str,
    seed: int,
) -> None:
    if not health:
        faults.boot = 0.0  # nobody could tell that an application is still starting
    world = World(
        6,
        config=config,
        traffic=traffic,
        health=health,
        unhealthy=unhealthy,
        faults=faults,
        seed=seed,
        quiet=Quiet(at_most=6, then=then),  # type: ignore[arg-type]
    )
    history = world.run()
    assert invariants.broken(history) == {}
