"""New instances take over from the original ones: whole deployments, tick by tick, and back again from any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.resource import ScalingGroup
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.actions import Arrange, Deregister
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings, Originals, Ready
from shiftwork_coordinator.model.snapshot import (
    AgentSeen,
    Joined,
    Shifted,
    Snapshot,
    TimedReading,
    TrafficSeen,
)
from shiftwork_coordinator.model.status import ENDED, CommandStatus, DeploymentStatus, TargetStatus

A, D, T = Arrangement, DeploymentStatus, TargetStatus
FLEET = "autoscaling:web"
BLUE, GREEN = ("blue-1", "blue-2"), ("green-1", "green-2")
IDS = {f"i-{name}": name for name in GREEN}


class World:
    """Obeys at once; readings come a second later. `fails(instance, stage)` says whose commands fail; `never` are
    arrangements that do not show; `sick` are instances that no balancer calls healthy. Somebody always serves."""

    def __init__(self, minimum: int = 1, **settings: Any) -> None:
        config = DeploymentConfig("c", MinimumHealthyHosts("HOST_COUNT", minimum))
        given = GroupSettings(load_balancers=({"sim": {}},), **settings)
        deployment = Deployment(
            "d-1", 1, "web", "live", "g", Revision("sha256:new", "coordinator:"), config, given, 0.0,
            deployment_type="BLUE_GREEN", rollback_on=("failure",),
        )  # fmt: skip
        group = ScalingGroup(FLEET, "web", "d-1", "web-d-1", True)
        targets = {name: Target("d-1", name, role="original") for name in BLUE}
        targets |= {FLEET: Target("d-1", FLEET, role="fleet", resource=group)}
        self.now = 1000.0
        self.log: list[str] = []
        self.serving: set[str] = set(BLUE)
        self.arranged: Arrangement | None = None
        self.fails: Callable[[str, int], bool] = lambda instance, stage: False
        self.never: set[Arrangement] = set()
        self.sick: set[str] = set()
        self.members: tuple[str, ...] = tuple(IDS)
        self.rollback: Any = None
        self.least = 2
        self.snapshot = Snapshot(
            deployment, targets, 1, Request("d-1"), balancers=("lb",), health=dict.fromkeys(BLUE, True),
            last_good=Revision("sha256:old", "coordinator:"),
        )  # fmt: skip

    def tick(self) -> Decision:
        self._look()
        decision = decide(self.snapshot, self.now)
        for action in decision.actions:
            self._do(action)
        ran = {(row.instance, row.stage): self._ran(row) for row in decision.commands}
        self.snapshot = replace(
            self.snapshot,
            deployment=decision.deployment,
            targets={**self.snapshot.targets, **{t.instance: t for t in decision.targets}},
            commands={**self.snapshot.commands, **ran},
            health={**self.snapshot.health, **dict(decision.health)},
        )
        assert len(self.serving - self.sick) >= self.least, (self.serving, self.log)
        self.now += 1.0
        return decision

    def _look(self) -> None:
        made = self.arranged not in (None, A.ABANDONED)
        holds = frozenset({self.arranged} if self.arranged and self.arranged not in self.never else ())
        members = self.members if made else ()
        names = [t.instance for t in self.snapshot.targets.values() if t.role != "fleet"]
        self.snapshot = replace(
            self.snapshot,
            shifted={FLEET: Shifted(None, True, self.now, holds=holds, members=members)},
            joined={id: Joined(name, "", id) for id, name in IDS.items()} if made else {},
            agents={name: AgentSeen(connected=True, last_seen=self.now) for name in names},
            traffic={name: (self._seen(name),) for name in names},
        )

    def _seen(self, name: str) -> TrafficSeen:
        state = ("unhealthy" if name in self.sick else "healthy") if name in self.serving else "absent"
        last = TimedReading(state, 0, "p", "", "", asked_at=self.now, answered_at=self.now)
        return TrafficSeen("lb", last, replace(last, asked_at=self.now - 0.5, answered_at=self.now - 0.5))

    def _do(self, action: Any) -> None:
        if isinstance(action, Arrange):
            self.arranged = action.wanted
            self.log.append(str(action.wanted))
            row = Asked("d-1", FLEET, "arrange", action.wanted, asked_at=self.now)
        else:
            out = isinstance(action, Deregister)
            self.serving = self.serving - {action.instance} if out else self.serving | {action.instance}
            self.log.append(f"{'-' if out else '+'}{action.instance}")
            row = Asked("d-1", action.instance, action.verb, asked_at=self.now)
        self.snapshot = replace(self.snapshot, asked={**self.snapshot.asked, (row.instance, row.verb): row})

    def _ran(self, row: CommandRow) -> CommandRow:
        failed = self.fails(row.instance, row.stage)
        status = CommandStatus.FAILED if failed else CommandStatus.SUCCEEDED
        why = Diagnostics(ErrorCode.SCRIPT_FAILED, "x", "no") if failed else Diagnostics()
        return replace(row, status=status, ended_at=self.now, ran=row.command.events, diagnostics=why)

    def until(self, condition: Callable[[Decision], bool], most: int = 600) -> Decision:
        for _ in range(most):
            if condition(decision := self.tick()):
                return decision
        raise AssertionError(f"not within {most} ticks: {[r.message for r in decision.reasons]}; {self.log}")

    def end(self, most: int = 600) -> Deployment:
        decision = self.until(lambda d: d.deployment.status in ENDED, most)
        self.rollback = decision.rollback
        return decision.deployment

    def ask(self, **request: Any) -> None:
        self.snapshot = replace(self.snapshot, request=Request("d-1", **request))

    def stop_after(self, ticks: int) -> None:
        """To the end, with a stop that comes after so many ticks, if it has not ended before."""
        for _ in range(ticks):
            if self.tick().deployment.status in ENDED:
                break
        self.ask(stop="stop")
        if self.snapshot.deployment.status not in ENDED:
            self.end()

    def statuses(self, names: tuple[str, ...]) -> set[TargetStatus]:
        return {self.snapshot.targets[name].status for name in names if name in self.snapshot.targets}


IN, OUT = ["+green-1", "+green-2"], ["-blue-1", "-blue-2"]
WHOLE = ["provisioned", *IN, *OUT, "promoted", "retired"]


def test_all_of_it_in_order() -> None:
    world = World()
    ended = world.end()
    assert (ended.status, world.log) == (D.SUCCEEDED, WHOLE)
    assert (ended.floor, ended.batch, world.serving) == (1, 1, set(GREEN))
    assert world.statuses((*BLUE, *GREEN, FLEET)) == {T.SUCCEEDED}


def test_the_config_says_how_many_come_into_traffic_at_once() -> None:
    world = World(minimum=1)
    world.sick = {"green-1"}
    for _ in range(60):
        world.tick()
    assert world.log == ["provisioned", "+green-1"], "the second waits for the first"


def test_only_the_replacements_count() -> None:
    world = World()
    world.end()
    assert {name: world.snapshot.health.get(name) for name in GREEN} == dict.fromkeys(GREEN, True)
    assert FLEET not in world.snapshot.health


def test_a_revision_that_fails_everywhere_never_serves() -> None:
    world = World()
    world.fails = lambda instance, stage: stage == 1
    ended = world.end()
    assert (ended.status, world.serving) == (D.FAILED, set(BLUE))
    assert world.log == ["provisioned", "abandoned"]
    assert world.rollback is None
    assert "originals serve as before" in ended.rollback_note


def test_replacements_that_never_become_healthy_leave_again() -> None:
    world = World(minimum=0)
    world.sick = set(GREEN)
    ended = world.end(most=2000)
    assert (ended.status, world.serving, world.log[-1]) == (D.FAILED, set(BLUE), "abandoned")
    assert world.log[:5] == ["provisioned", *IN, "-green-1", "-green-2"]


def test_no_agent_ever_joins() -> None:
    world = World()
    world.never = set()
    real, world._look = world._look, lambda: None  # type: ignore[method-assign]

    def lonely() -> None:
        real()
        world.snapshot = replace(world.snapshot, joined={})

    world._look = lonely  # type: ignore[method-assign]
    ended = world.end(most=4000)
    assert (ended.status, ended.error_code) == (D.FAILED, "AGENT_ISSUE")
    assert "i-green-1, i-green-2" in ended.error_message
    assert (world.log[0], world.log[-1]) == ("provisioned", "abandoned")


def test_a_replacement_that_lacks_an_instance_again_is_not_taken_for_whole() -> None:
    """What is not a target gets no revision, and would get traffic with the others."""
    world = World()
    world.members = ()
    world.until(lambda d: any(t.instance == FLEET and t.stage == 1 for t in d.targets))
    world.never, world.members = {A.PROVISIONED}, ("i-green-1",)
    for _ in range(30):
        world.tick()
    assert world.statuses(GREEN) == set()
    world.never, world.members = set(), tuple(IDS)
    assert world.end().status is D.SUCCEEDED
    assert world.serving == set(GREEN)


def test_it_waits_for_a_person_before_traffic_moves() -> None:
    world = World(ready=Ready(manual=True))
    decision = world.until(lambda d: any(r.code == "READY" for r in d.reasons))
    assert (decision.deployment.status, world.serving) == (D.READY, set(BLUE))
    world.ask(proceed_at=world.now)
    assert world.end().status is D.SUCCEEDED


def test_originals_are_kept_for_a_while_and_a_stop_brings_them_back() -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    assert world.serving == set(GREEN)
    world.ask(stop="stop")
    ended = world.end()
    assert (ended.status, world.serving) == (D.STOPPED, set(BLUE))
    assert world.log[-5:] == ["+blue-1", "+blue-2", "-green-1", "-green-2", "abandoned"]


def test_on_the_way_back_no_replacement_leaves_before_the_originals_serve() -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.sick = {"blue-2"}
    world.ask(stop="stop")
    for _ in range(50):
        world.tick()
    assert world.serving >= set(GREEN)
    world.sick = set()
    assert world.end().status is D.STOPPED
    assert world.serving == set(BLUE)


@pytest.mark.parametrize(("lost", "serving"), [(("blue-2",), {"blue-1"}), (BLUE, set(GREEN))])
def test_originals_that_are_gone_are_not_waited_for_and_count_as_nobody(
    lost: tuple[str, ...], serving: set[str]
) -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(lost, "terminated"))
    world.sick = set(lost)
    world.least = 1
    world.ask(stop="stop")
    for _ in range(60):
        world.tick()
    assert world.serving - world.sick == serving


@pytest.mark.parametrize("ticks", range(1, 24))
def test_a_stop_at_any_moment_ends_whole(ticks: int) -> None:
    world = World()
    world.stop_after(ticks)
    assert world.arranged in (A.RETIRED, A.ABANDONED, None)
    assert world.serving == (set(GREEN) if world.arranged is A.RETIRED else set(BLUE))


@pytest.mark.parametrize("stage", [1, 3])
def test_an_original_whose_scripts_fail_takes_everything_back(stage: int) -> None:
    world = World()
    world.fails = lambda instance, at: instance == "blue-1" and at == stage
    ended = world.end()
    assert (ended.status, world.serving, world.arranged) == (D.FAILED, set(BLUE), A.ABANDONED)


def test_a_plan_knows_it() -> None:
    plan = foresee(World().snapshot, 1000.0)
    assert plan.ends == "Succeeded"
    assert [batch.targets for batch in plan.batches] == [("replacement of blue-1", "replacement of blue-2")]
    assert plan.steps[-1] == "take out of traffic: blue-2"


def before_traffic_moves() -> World:
    world = World(ready=Ready(manual=True))
    world.until(lambda d: any(r.code == "READY" for r in d.reasons))
    return world


@pytest.mark.parametrize("state", ["terminated", "stopped"])
def test_replacements_that_vanish_have_failed_and_the_originals_go_on_serving(state: str) -> None:
    world = before_traffic_moves()
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(GREEN, state))
    ended = world.end()
    assert (ended.status, world.serving, world.statuses(GREEN)) == (D.FAILED, set(BLUE), {T.FAILED})


def test_an_original_that_vanishes_need_not_be_taken_out_of_traffic() -> None:
    world = before_traffic_moves()
    world.snapshot = replace(world.snapshot, gone={"blue-1": "shutting-down"})
    world.ask(proceed_at=world.now)
    assert world.end().status is D.SUCCEEDED
    assert world.statuses(("blue-1",)) == {T.SKIPPED} and "-blue-1" not in world.log and "-blue-2" in world.log


def test_originals_that_are_ended_in_the_end_are_no_news() -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(BLUE, "terminated"))
    assert world.end().status is D.SUCCEEDED and world.statuses(BLUE) == {T.SUCCEEDED}


def test_replacements_that_vanish_after_they_took_over_give_back_to_the_originals() -> None:
    world = World(originals=Originals(keep_for=100.0))
    world.until(lambda d: any(r.code == "ORIGINALS" for r in d.reasons))
    world.snapshot = replace(world.snapshot, gone=dict.fromkeys(GREEN, "terminated"))
    ended = world.end()
    assert (ended.status, world.serving) == (D.FAILED, set(BLUE))


def test_an_original_that_is_stopped_on_its_way_out_is_not_asked_back() -> None:
    world = World()
    world.until(lambda d: any(t.instance == "blue-1" and t.traffic == "out" for t in d.targets))
    world.snapshot = replace(world.snapshot, gone={"blue-1": "stopped"})
    assert world.end().status is D.SUCCEEDED
    assert world.snapshot.targets["blue-1"].traffic == "" and "+blue-1" not in world.log
