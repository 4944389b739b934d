"""Groups that launch instances: held before the first instance is taken, and let go in the end, whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.resource import ScalingGroup
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.actions import Arrange
from shiftwork_coordinator.engine.decide import decide
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.snapshot import AgentSeen, Shifted, Snapshot
from shiftwork_coordinator.model.status import ENDED, CommandStatus, DeploymentStatus, TargetStatus

A, D, T = Arrangement, DeploymentStatus, TargetStatus
FLEET = "autoscaling:web"
OLD = Revision("sha256:old", "coordinator:")
BACK = frozenset({A.RETIRED, A.ABANDONED})


class World:
    """Two instances of one group, agents that obey; `fails` are instances whose scripts fail. `log` is what happened,
    in order: arrangements by their value, commands by instance. `refuses` are arrangements that the cloud denies."""

    def __init__(self) -> None:
        config = DeploymentConfig("c", MinimumHealthyHosts("HOST_COUNT", 1))
        deployment = Deployment(
            "d-1", 1, "web", "live", "g", Revision("sha256:new", "coordinator:"), config, GroupSettings(), 0.0,
            rollback_on=("failure",),
        )  # fmt: skip
        group = Target("d-1", FLEET, role="fleet", resource=ScalingGroup(FLEET, "web", "d-1"))
        targets = {FLEET: group, "web-1": Target("d-1", "web-1"), "web-2": Target("d-1", "web-2")}
        self.now = 1000.0
        self.log: list[str] = []
        self.fails: set[str] = set()
        self.refuses: set[Arrangement] = set()
        self.held = False
        self.snapshot = Snapshot(
            deployment, targets, 1, Request("d-1"), health=dict.fromkeys(("web-1", "web-2"), True), last_good=OLD
        )
        self._look()

    def tick(self) -> Decision:
        self._look()
        decision = decide(self.snapshot, self.now)
        for action in decision.actions:
            self._arrange(action)
        ran = {(row.instance, row.stage): self._ran(row) for row in decision.commands}
        self.snapshot = replace(
            self.snapshot,
            deployment=decision.deployment,
            targets={**self.snapshot.targets, **{t.instance: t for t in decision.targets}},
            commands={**self.snapshot.commands, **ran},
            health={**self.snapshot.health, **dict(decision.health)},
        )
        self.now += 1.0
        return decision

    def _look(self) -> None:
        holds = frozenset({A.PROVISIONED}) if self.held else BACK
        seen = AgentSeen(connected=True, last_seen=self.now)
        self.snapshot = replace(
            self.snapshot,
            shifted={FLEET: Shifted(None, True, self.now, holds=holds)},
            agents={"web-1": seen, "web-2": seen},
        )

    def _arrange(self, action: Any) -> None:
        assert isinstance(action, Arrange)
        self.log.append(str(action.wanted))
        denied = action.wanted in self.refuses
        if not denied:
            self.held = action.wanted is A.PROVISIONED
        before = self.snapshot.asked.get((FLEET, "arrange"))
        tries = before.tries + 1 if before else 1
        row = Asked("d-1", FLEET, "arrange", action.wanted, asked_at=None if denied else self.now, tries=tries)
        row = replace(row, error="denied", refused=True) if denied else row
        self.snapshot = replace(self.snapshot, asked={**self.snapshot.asked, (FLEET, "arrange"): row})

    def _ran(self, row: CommandRow) -> CommandRow:
        if row.command.prepare:
            return replace(row, status=CommandStatus.SUCCEEDED, ended_at=self.now)
        self.log.append(row.instance)
        failed = row.instance in self.fails
        status = CommandStatus.FAILED if failed else CommandStatus.SUCCEEDED
        why = Diagnostics(ErrorCode.SCRIPT_FAILED, "x", "no") if failed else Diagnostics()
        return replace(row, status=status, ended_at=self.now, ran=row.command.events, diagnostics=why)

    def end(self, most: int = 700) -> Deployment:
        for _ in range(most):
            if (decision := self.tick()).deployment.status in ENDED:
                self.rollback = decision.rollback
                return decision.deployment
        raise AssertionError(f"not ended within {most} ticks: {[r.message for r in decision.reasons]}")


def test_held_before_the_first_instance_and_let_go_after_the_last() -> None:
    world = World()
    assert world.end().status is D.SUCCEEDED
    assert world.log == ["provisioned", "web-1", "web-2", "retired"]
    assert not world.held


def test_a_group_counts_neither_as_an_instance_nor_in_service() -> None:
    world = World()
    ended = world.end()
    assert (ended.floor, ended.batch, ended.least_in_service) == (1, 2, 1)
    assert FLEET not in world.snapshot.health


def test_a_failed_instance_lets_the_group_go_before_the_end() -> None:
    world = World()
    world.fails = {"web-1"}
    ended = world.end()
    assert (ended.status, world.held) == (D.FAILED, False)
    assert world.log == ["provisioned", "web-1", "retired"]
    assert world.rollback is not None
    assert FLEET not in world.rollback.skip


@pytest.mark.parametrize("ticks", range(1, 12))
def test_a_stop_at_any_moment_lets_the_group_go(ticks: int) -> None:
    world = World()
    for _ in range(ticks):
        if world.tick().deployment.status in ENDED:
            break
    world.snapshot = replace(world.snapshot, request=Request("d-1", stop="stop"))
    assert (world.snapshot.deployment.status in ENDED or world.end().status in ENDED, world.held) == (True, False)


def test_no_instance_is_touched_when_the_group_cannot_be_held() -> None:
    world = World()
    world.refuses = {A.PROVISIONED}
    ended = world.end()
    assert (ended.status, ended.error_code) == (D.FAILED, "AUTO_SCALING_CONFIGURATION")
    assert "denied" in ended.error_message
    assert set(world.log) == {"provisioned", "abandoned"}
    assert {world.snapshot.targets[name].status for name in ("web-1", "web-2")} == {T.SKIPPED}


def test_a_group_that_is_not_let_go_fails_the_deployment_but_rolls_no_instance_back() -> None:
    world = World()
    world.refuses = {A.RETIRED, A.ABANDONED}
    ended = world.end()
    assert (ended.status, ended.error_code) == (D.FAILED, "AUTO_SCALING_CONFIGURATION")
    assert world.rollback is None
    assert "only an Auto Scaling group" in ended.rollback_note


def test_the_end_says_what_was_not_given_back() -> None:
    world = World()
    world.fails, world.refuses = {"web-1"}, {A.PROVISIONED, A.ABANDONED}
    assert "not given back: autoscaling:web" in world.end().error_message


def test_a_plan_knows_them() -> None:
    assert foresee(World().snapshot, 1000.0).ends == "Succeeded"
