"""Original and replacement of a service: whole deployments, tick by tick, on a platform that does as it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import Pair, ServiceShift
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.actions import Arrange, Invoke, SetWeight
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts, TimeBasedCanary
from shiftwork_coordinator.model.rows import Asked, Deployment, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings, Originals, Ready
from shiftwork_coordinator.model.snapshot import Shifted, Snapshot
from shiftwork_coordinator.model.status import ENDED, DeploymentStatus, TargetStatus

A, D, T = Arrangement, DeploymentStatus, TargetStatus
PAIR = Pair(("blue", "green"), "listener")
SERVICE = ServiceShift("c:s", "c", "s", "arn:original", "web:1", "web:2", "d-1.c:s", "web", 80, (PAIR,))


class World:
    """Obeys at once and is looked at after each tick. `never` holds what it never brings about; `fails` hooks that
    answer Failed; `ticks` counts down faults: at which tick to do what."""

    def __init__(self, **settings: Any) -> None:
        hosts = MinimumHealthyHosts("HOST_COUNT", 0)
        config = DeploymentConfig("c", hosts, max_failed=0, traffic=TimeBasedCanary(10, 5), platform="ECS")
        deployment = Deployment(
            "d-1", 1, "web", "live", "g", Revision("sha256:a", "appspec:"), config,
            GroupSettings(platform="ECS", **settings), 0.0, platform="ECS", deployment_type="BLUE_GREEN",
            rollback_on=("failure", "alarm"),
        )  # fmt: skip
        self.now = 1000.0
        self.did: list[Any] = []
        self.never: set[Any] = set()
        self.fails: set[str] = set()
        self.weight, self.arranged = 0.0, None
        self.snapshot = Snapshot(deployment, {"c:s": Target("d-1", "c:s", resource=SERVICE)}, 1, Request("d-1"))

    def tick(self) -> Decision:
        decision = decide(self.snapshot, self.now)
        for action in decision.actions:
            self._do(action)
        runs = {(r.instance, r.event): self._answered(r) for r in decision.hook_runs}
        self.snapshot = replace(
            self.snapshot,
            deployment=decision.deployment,
            targets={**self.snapshot.targets, **{t.instance: t for t in decision.targets}},
            hook_runs={**self.snapshot.hook_runs, **runs},
        )
        self.now += 1.0
        holds = frozenset({self.arranged} if self.arranged and self.arranged not in self.never else ())
        seen = Shifted(self.weight, True, self.now, holds=holds)
        self.snapshot = replace(self.snapshot, shifted={"c:s": seen})
        return decision

    def _do(self, action: Any) -> None:
        assert not isinstance(action, Invoke), "hooks are answered before they are invoked here"
        value = action.weight if isinstance(action, SetWeight) else action.wanted
        self.did.append(value)
        if isinstance(action, SetWeight):
            self.weight = action.weight
        elif isinstance(action, Arrange):
            self.arranged = action.wanted
        row = Asked("d-1", "c:s", action.verb, value, asked_at=self.now)
        self.snapshot = replace(self.snapshot, asked={**self.snapshot.asked, ("c:s", action.verb): row})

    def _answered(self, run: Any) -> Any:
        return replace(run, status="Failed" if run.event in self.fails else "Succeeded", message="said so")

    def until(self, condition: Any, most: int = 200) -> Decision:
        for _ in range(most):
            decision = self.tick()
            if condition(decision):
                return decision
        raise AssertionError(f"not within {most} ticks: {[r.message for r in decision.reasons]}")

    def end(self, most: int = 400) -> Deployment:
        return self.until(lambda d: d.deployment.status in ENDED, most).deployment

    def ask(self, **request: Any) -> None:
        self.snapshot = replace(self.snapshot, request=Request("d-1", **request))

    @property
    def target(self) -> Target:
        return self.snapshot.targets["c:s"]


BACK = [0.0, A.ABANDONED]
WHOLE = [A.PROVISIONED, A.TESTED, 0.1, 1.0, A.PROMOTED, A.RETIRED]


def test_all_of_it_in_order_and_each_once() -> None:
    world = World()
    assert world.end().status is D.SUCCEEDED
    assert world.did == WHOLE


def hooked(world: World, *events: str) -> World:
    functions = dict.fromkeys(events, "check")
    world.snapshot = replace(world.snapshot, deployment=replace(world.snapshot.deployment, functions=functions))
    world.fails = set(events)
    return world


@pytest.mark.parametrize(
    ("event", "did"),
    [
        ("BeforeInstall", []),
        ("AfterInstall", [A.PROVISIONED, A.ABANDONED]),
        ("AfterAllowTestTraffic", [A.PROVISIONED, A.TESTED, A.ABANDONED]),
        ("BeforeAllowTraffic", [A.PROVISIONED, A.TESTED, A.ABANDONED]),
        ("AfterAllowTraffic", [A.PROVISIONED, A.TESTED, 0.1, 1.0, A.PROMOTED, *BACK]),
    ],
)
def test_a_hook_that_fails_leaves_nothing_behind(event: str, did: list[Any]) -> None:
    world = hooked(World(), event)
    ended = world.end()
    assert (ended.status, world.did) == (D.FAILED, did)
    assert world.weight == 0.0


def test_a_replacement_that_is_never_steady_is_given_up_and_taken_away() -> None:
    world = World()
    world.never = {A.PROVISIONED}
    ended = world.end(most=4000)
    assert ended.status is D.FAILED
    assert "not provisioned within 3600 s" in world.target.error_message
    assert (set(world.did), world.did[-1]) == ({A.PROVISIONED, A.ABANDONED}, A.ABANDONED)


def test_what_does_not_show_is_asked_for_again_but_not_all_the_time() -> None:
    world = World()
    world.never = {A.PROVISIONED}
    for _ in range(52):
        world.tick()
    assert 8 <= world.did.count(A.PROVISIONED) <= 11, "once in five seconds"


def test_a_stop_in_the_middle_of_the_shift() -> None:
    world = World()
    world.until(lambda d: any(r.code == "SHIFT" for r in d.reasons))
    world.ask(stop="stop")
    assert world.end().status is D.STOPPED
    assert world.did == [A.PROVISIONED, A.TESTED, 0.1, *BACK]


def test_the_replacement_stays_until_the_traffic_is_off_it() -> None:
    world = World()
    world.until(lambda d: any(r.code == "SHIFT" for r in d.reasons))
    real, world._do = world._do, lambda action: None  # type: ignore[method-assign]
    world.ask(stop="stop")
    for _ in range(20):
        wanted = [type(action) for action in world.tick().actions]
        assert wanted == [SetWeight], "nothing is taken away while it may be serving"
    world._do = real  # type: ignore[method-assign]
    assert world.end().status is D.STOPPED
    assert world.did[-2:] == BACK


def test_it_waits_for_a_person_and_is_ready_meanwhile() -> None:
    world = World(ready=Ready(manual=True))
    decision = world.until(lambda d: any(r.code == "READY" for r in d.reasons))
    assert decision.deployment.status is D.READY
    assert world.weight == 0.0
    world.ask(proceed_at=world.now)
    assert world.end().status is D.SUCCEEDED


def test_nobody_came_so_it_is_stopped_and_taken_away() -> None:
    world = World(ready=Ready(manual=True, wait=60.0))
    ended = world.end()
    assert (ended.status, ended.error_code) == (D.STOPPED, "READY_TIMEOUT")
    assert world.did == [A.PROVISIONED, A.TESTED, A.ABANDONED]


def test_originals_are_kept_for_a_while_and_a_stop_goes_back_to_them() -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    assert (world.weight, world.arranged) == (1.0, A.PROMOTED)
    world.ask(stop="stop")
    ended = world.end()
    assert (ended.status, world.did[-2:]) == (D.STOPPED, BACK)
    assert ended.rolled_back_by == ""


def test_a_person_ends_that_wait() -> None:
    world = World(originals=Originals(keep_for=1000.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.ask(proceed_at=world.now)
    assert world.end(most=20).status is D.SUCCEEDED


def test_once_the_originals_go_there_is_no_way_back_but_a_rollback() -> None:
    world = World()
    world.never = {A.RETIRED}
    world.until(lambda d: A.RETIRED in world.did)
    world.ask(stop="stop")
    ended = world.end(most=4000)
    assert world.weight == 1.0, "traffic is never sent to what is being taken away"
    assert ended.status is D.STOPPED


@pytest.mark.parametrize("tick", range(30))
def test_a_stop_at_any_tick_leaves_the_original_alone_or_the_replacement(tick: int) -> None:
    world = World(originals=Originals(keep_for=5.0))
    for _ in range(tick):
        if world.tick().deployment.status in ENDED:
            return
    world.ask(stop="stop")
    world.end()
    whole = (world.weight, world.arranged) in ((0.0, A.ABANDONED), (1.0, A.RETIRED), (0.0, None))
    assert whole, (world.weight, world.arranged, world.did)


def test_what_failed_to_go_may_still_be_rolled_back() -> None:
    world = World()
    world.never = {A.RETIRED}
    ended = world.end(most=4000)
    assert (ended.status, world.weight, ended.rollback_note) == (D.FAILED, 1.0, "")


def test_a_plan_takes_it_that_the_person_continues_and_names_every_step() -> None:
    before = hooked(World(ready=Ready(manual=True)), "BeforeInstall").snapshot
    plan = foresee(before, 1000.0)
    assert plan.ends == "Succeeded"
    assert plan.steps[1:] == (
        "BeforeInstall: c:s",
        "Install: c:s",
        "AllowTestTraffic: c:s",
        "AllowTraffic: c:s",
        "10% of the traffic to the replacement: c:s",
        "100% of the traffic to the replacement: c:s",
    )


def test_what_is_refused_thrice_is_given_up_long_before_the_limit() -> None:
    world = World()
    world.until(lambda d: A.PROVISIONED in world.did)
    refusing = Asked("d-1", "c:s", "arrange", A.PROVISIONED, tries=2, error="not allowed", refused=True)
    world.snapshot = replace(world.snapshot, asked={("c:s", "arrange"): refusing})
    world._do = lambda action: None  # type: ignore[method-assign]
    world.tick()
    assert world.target.status is T.IN_PROGRESS
    world.snapshot = replace(world.snapshot, asked={("c:s", "arrange"): replace(refusing, tries=3)})
    world.tick()
    assert (world.target.status, world.target.error_code) == (T.FAILED, "ECS_UPDATE_ERROR")
    assert "not allowed" in world.target.error_message


def test_what_may_pass_is_asked_for_until_the_limit() -> None:
    world = World()
    world.until(lambda d: A.PROVISIONED in world.did)
    away = Asked("d-1", "c:s", "arrange", A.PROVISIONED, tries=9, error="throttled")
    world.snapshot = replace(world.snapshot, asked={("c:s", "arrange"): away})
    world.tick()
    assert world.target.status is T.IN_PROGRESS


def test_a_rollback_waits_for_no_person_and_keeps_nothing() -> None:
    world = World(ready=Ready(manual=True), originals=Originals(keep_for=1000.0))
    rollback = replace(world.snapshot.deployment, rollback_of="d-0", creator="codeDeployRollback")
    world.snapshot = replace(world.snapshot, deployment=rollback)
    assert world.end(most=100).status is D.SUCCEEDED
    assert world.did == WHOLE
