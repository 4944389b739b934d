"""What goes wrong in a world, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from simulation.world import World


@dataclass
class Faults:
    """`hooks`: (instance or "*", event) -> (seconds, ok or fail). `at`: what happens when. `crash_at`: the numbers of
    the failpoints at which the coordinator dies; `stall` = it does not die there but is paused and wakes when another
    has taken over."""

    hooks: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    at: list[tuple[float, Callable[[World], None]]] = field(default_factory=list)
    crash_at: frozenset[int] = frozenset()
    stall: bool = False
    boot: float = 0.0

    def hook(self, instance: str, event: str) -> tuple[float, str]:
        return self.hooks.get((instance, event)) or self.hooks.get(("*", event)) or (0.2, "ok")


def partition(name: str, seconds: float) -> Callable[[World], None]:
    def happens(world: World) -> None:
        agent = world.agents[name]
        agent.partitioned = True
        agent.disconnect()
        world.disturbed(name, seconds)
        world.later(seconds, lambda: setattr(agent, "partitioned", False))

    return happens


def kill_agent(name: str, seconds: float) -> Callable[[World], None]:
    def happens(world: World) -> None:
        world.agents[name].kill()
        world.disturbed(name, seconds)
        world.later(seconds, world.agents[name].restart)

    return happens


def application_dies(name: str) -> Callable[[World], None]:
    def happens(world: World) -> None:
        world.agents[name].app = ""
        world.disturbed(name, 1e9)

    return happens


def balancer_away(seconds: float) -> Callable[[World], None]:
    def happens(world: World) -> None:
        world.balancer.away = True
        world.later(seconds, lambda: setattr(world.balancer, "away", False))

    return happens


def balancer_reloads(world: World) -> None:
    world.balancer.reload()
    for name in world.agents:
        world.disturbed(name, 3.0)
        world.reloaded[name] = world.now


def stops(how: str) -> Callable[[World], None]:
    return lambda world: world.stop(how)


def crashes(world: World) -> None:
    world.coordinator_dies()


EVENTS = ("prepare", "ApplicationStop", "Install", "ApplicationStart", "ValidateService", "AfterAllowTraffic")


@st.composite
def weather(draw: st.DrawFn, names: list[str]) -> Faults:
    """A few things that go wrong, in any order."""
    name = st.sampled_from(names)
    when = st.floats(0.0, 40.0).map(lambda t: round(t, 1))
    seconds = st.sampled_from((0.5, 3.0, 12.0, 40.0))
    happening = st.one_of(
        st.builds(partition, name, seconds),
        st.builds(kill_agent, name, seconds),
        st.builds(application_dies, name),
        st.builds(balancer_away, seconds),
        st.just(balancer_reloads),
        st.just(crashes),
        st.sampled_from((stops("stop"), stops("now"))),
    )
    hook = st.tuples(st.sampled_from((0.1, 1.0, 8.0, 90.0)), st.sampled_from(("ok", "ok", "fail")))
    return Faults(
        hooks=draw(st.dictionaries(st.tuples(name, st.sampled_from(EVENTS)), hook, max_size=4)),
        at=draw(st.lists(st.tuples(when, happening), max_size=5)),
        crash_at=draw(st.frozensets(st.integers(0, 200), max_size=3)),
        stall=draw(st.booleans()),
        boot=draw(st.sampled_from((0.0, 2.0))),
    )


def chance(seed: int) -> random.Random:
    return random.Random(seed)
