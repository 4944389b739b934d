"""New instances take over by weights: never early, never without somebody who serves, and back from any moment."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.engine.test_blue_green import BLUE, FLEET, GREEN, IN, OUT, A, D, T, World

from shiftwork_coordinator.engine.actions import SetWeight
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.config import TimeBasedCanary, TimeBasedLinear, Traffic
from shiftwork_coordinator.model.rows import Asked
from shiftwork_coordinator.model.settings import BlueGreen, Originals, Weights

CANARY, LINEAR = TimeBasedCanary(25, 60.0), TimeBasedLinear(40, 30.0)
GREEN_BEFORE_BLUE = ["provisioned", *IN, "25%", "100%", *OUT, "promoted", "retired"]


class Weighed(World):
    """A listener shares requests out between both sides: whoever has a weight must have somebody who serves. `deaf`:
    the listener does not change."""

    def __init__(self, traffic: Traffic = CANARY, minimum: int = 0, **settings: Any) -> None:
        self.weight, self.deaf, self.times = 0.0, False, list[tuple[float, float]]()
        shift = BlueGreen(shift=Weights(("blue", "green"), "listener"))
        super().__init__(minimum, blue_green=shift, **settings)
        deployment = self.snapshot.deployment
        config = replace(deployment.config, traffic=traffic, max_failed=0)
        settings_ = replace(deployment.settings, load_balancers=())
        self.snapshot = replace(self.snapshot, deployment=replace(deployment, config=config, settings=settings_))

    def _look(self) -> None:
        super()._look()
        seen = replace(self.snapshot.shifted[FLEET], weight=self.weight)
        self.snapshot = replace(self.snapshot, shifted={FLEET: seen})

    def _do(self, action: Any) -> None:
        if not isinstance(action, SetWeight):
            super()._do(action)
            return
        if not self.deaf:
            self.weight = action.weight
        if f"{action.weight:.0%}" not in self.log[-1:]:
            self.log.append(f"{action.weight:.0%}")
            self.times.append((action.weight, self.now))
        row = Asked("d-1", FLEET, "weight", action.weight, asked_at=self.now)
        self.snapshot = replace(self.snapshot, asked={**self.snapshot.asked, (FLEET, "weight"): row})

    def tick(self) -> Decision:
        decision = super().tick()
        up = self.serving - self.sick - set(self.snapshot.gone)
        assert self.weight == 1 or up & set(BLUE), ("requests to originals that are out", self.log)
        assert self.weight == 0 or up & set(GREEN), ("requests to replacements that are out", self.log)
        return decision

    def reach(self, weight: float) -> None:
        """Until so much is in force."""
        self.until(lambda d: any(t.instance == FLEET and t.weight == weight and t.weight_since for t in d.targets))


def test_all_of_it_in_order() -> None:
    world = Weighed()
    ended = world.end()
    assert (ended.status, world.log) == (D.SUCCEEDED, GREEN_BEFORE_BLUE)
    assert (world.weight, world.serving) == (1.0, set(GREEN))
    assert world.statuses((*BLUE, *GREEN, FLEET)) == {T.SUCCEEDED}


@pytest.mark.parametrize(("traffic", "shares"), [(CANARY, [0.25, 1.0]), (LINEAR, [0.4, 0.8, 1.0])])
def test_no_step_is_early(traffic: Any, shares: list[float]) -> None:
    world = Weighed(traffic)
    world.end()
    assert [weight for weight, _ in world.times] == shares
    at = [at for _, at in world.times]
    assert all(later - before >= traffic.interval for before, later in pairwise(at))


def test_a_step_counts_from_when_the_listener_shows_it() -> None:
    world = Weighed()
    world.deaf = True
    world.until(lambda d: any(r.code == "WEIGHT" for r in d.reasons))
    for _ in range(100):
        world.tick()
    world.deaf = False
    shown = world.now
    world.reach(1.0)
    assert world.times[-1][1] - shown >= CANARY.interval


def test_a_listener_that_never_changes_ends_it() -> None:
    world = Weighed()
    world.deaf = True
    ended = world.end(most=2000)
    assert (ended.status, ended.error_code) == (D.FAILED, "TRAFFIC_SHIFT")
    assert (world.serving, world.log[-1]) == (set(BLUE), "abandoned")


def test_a_person_may_move_the_rest_at_once() -> None:
    world = Weighed()
    world.reach(0.25)
    world.ask(proceed_at=world.now)
    for _ in range(5):
        world.tick()
    assert world.weight == 1.0


def test_why_it_waits_says_the_share() -> None:
    world = Weighed()
    decision = world.until(lambda d: any(r.code == "SHIFT" for r in d.reasons))
    [reason] = [r for r in decision.reasons if r.code == "SHIFT"]
    assert reason.message == "25% of the traffic is on the replacement; 100% follows"
    assert reason.until == (reason.since or 0) + CANARY.interval


def test_while_it_shifts_a_stop_gives_the_weight_back_at_once() -> None:
    world = Weighed()
    world.reach(0.25)
    world.ask(stop="stop")
    ended = world.end()
    assert (ended.status, world.weight, world.serving) == (D.STOPPED, 0.0, set(BLUE))
    assert world.log[-4:] == ["0%", "-green-1", "-green-2", "abandoned"]
    assert world.times[-1][1] - world.times[-2][1] < 5.0


def test_a_replacement_that_falls_ill_under_its_first_requests_takes_everything_back() -> None:
    world = Weighed()
    world.reach(0.25)
    world.sick = {"green-1"}
    ended = world.end()
    assert (ended.status, ended.error_code, world.serving) == (D.FAILED, "HEALTH_CONSTRAINTS", set(BLUE))
    assert world.log[-4:] == ["0%", "-green-1", "-green-2", "abandoned"]


def test_when_no_replacement_is_left_the_weights_do_not_rise() -> None:
    """Also where the config allows any number to fail."""
    world = Weighed()
    config = replace(world.snapshot.deployment.config, max_failed=None)
    world.snapshot = replace(world.snapshot, deployment=replace(world.snapshot.deployment, config=config))
    world.reach(0.25)
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(GREEN, "terminated"))
    world.weight = 0.0  # nobody is there to be sent to
    ended = world.end()
    assert (ended.status, ended.error_code, world.weight) == (D.FAILED, "HEALTH_CONSTRAINTS", 0.0)
    assert "100%" not in world.log


def test_originals_come_back_before_the_weight_does() -> None:
    world = Weighed(originals=Originals(keep_for=500.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.sick = {"blue-2"}
    world.ask(stop="stop")
    for _ in range(50):
        world.tick()
    assert (world.weight, world.serving) == (1.0, {*BLUE, *GREEN})
    world.sick = set()
    assert world.end().status is D.STOPPED
    assert world.log[-6:] == ["+blue-1", "+blue-2", "0%", "-green-1", "-green-2", "abandoned"]


def test_replacements_stay_until_the_listener_shows_that_they_get_nothing() -> None:
    world = Weighed()
    world.reach(0.25)
    world.deaf = True
    world.ask(stop="stop")
    for _ in range(50):
        world.tick()
    assert (world.weight, world.serving) == (0.25, {*BLUE, *GREEN})
    world.deaf = False
    assert world.end().status is D.STOPPED
    assert world.serving == set(BLUE)


@pytest.mark.parametrize("ticks", range(1, 32))
def test_a_stop_at_any_moment_ends_whole(ticks: int) -> None:
    world = Weighed(TimeBasedCanary(25, 3.0))
    world.stop_after(ticks)
    retired = world.arranged is A.RETIRED
    assert world.arranged in (A.RETIRED, A.ABANDONED, None)
    assert (world.serving, world.weight) == ((set(GREEN), 1.0) if retired else (set(BLUE), 0.0))


@pytest.mark.parametrize("stage", [1, 3])
def test_an_original_whose_scripts_fail_takes_everything_back(stage: int) -> None:
    world = Weighed()
    world.fails = lambda instance, at: instance == "blue-1" and at == stage
    ended = world.end()
    assert (ended.status, world.serving, world.weight) == (D.FAILED, set(BLUE), 0.0)
    assert world.arranged is A.ABANDONED


def test_what_somebody_else_changes_is_changed_back() -> None:
    world = Weighed()
    world.reach(0.25)
    world.weight = 0.9
    for _ in range(5):
        world.tick()
    assert world.weight == 0.25


def test_without_weights_the_traffic_of_instances_is_not_shifted() -> None:
    world = World()
    world.end()
    assert world.snapshot.targets[FLEET].weight is None


def test_a_plan_shows_the_shares() -> None:
    plan = foresee(Weighed().snapshot, 1000.0)
    assert plan.ends == "Succeeded"
    assert plan.steps[3:5] == (
        f"25% of the traffic to the replacement: {FLEET}",
        f"100% of the traffic to the replacement: {FLEET}",
    )
    assert plan.steps[5] == "take out of traffic: blue-1"
