"""What is noted of arrangements that were asked for: how often in a row, and whether only a person can mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.creation import config_named
from shiftwork_coordinator.engine.actions import Arrange
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Asked, Deployment, Target
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.shell.image import Image
from shiftwork_coordinator.shell.shifting import Shifting

A = Arrangement
NAME = "autoscaling:web"
NOW, NEVER = Unavailable("throttled"), InvalidRequest("there is none")


class Scripted:
    def __init__(self, answers: Sequence[ShiftworkError | None]) -> None:
        self.answers = list(answers)

    async def arrange(self, resource: Any, wanted: Arrangement) -> None:
        if (problem := self.answers.pop(0)) is not None:
            raise problem


async def noted(*asked: tuple[Arrangement, ShiftworkError | None]) -> list[tuple[int, bool]]:
    """Tries and refused, after each that was asked for and answered so."""
    row = Deployment(
        "d-1", 1, "web", "live", "g", Revision("sha256:1", "coordinator:"), config_named("AllAtOnce", {}),
        GroupSettings(), 0.0,
    )  # fmt: skip
    image = Image(row, {NAME: Target("d-1", NAME, role="fleet", resource=ScalingGroup(NAME, "web", "d-1"))})
    rows: list[Asked] = []

    async def record(some: list[Asked]) -> None:
        rows.extend(some)

    shifter: Any = Scripted([problem for _, problem in asked])
    none: Any = None
    shifting = Shifting(shifter, none, lambda: image, SystemClock(), lambda limit: True, record, none, lambda: None)
    for wanted, _ in asked:
        async with asyncio.TaskGroup() as group:
            shifting.start([Arrange(NAME, wanted)], group)
    return [(one.tries, one.refused) for one in rows]


async def test_refusals_in_a_row_are_counted_by_themselves() -> None:
    """A target is given up after some of them: what may pass is none."""
    told = await noted((A.PROVISIONED, NOW), (A.PROVISIONED, NOW), (A.PROVISIONED, NEVER), (A.PROVISIONED, NEVER))
    assert told == [(1, False), (2, False), (1, True), (2, True)]


async def test_another_arrangement_and_a_success_begin_anew() -> None:
    told = await noted(
        (A.PROMOTED, NEVER), (A.PROMOTED, NEVER), (A.RETIRED, NEVER), (A.RETIRED, None), (A.RETIRED, NEVER)
    )
    assert told == [(1, True), (2, True), (1, True), (1, False), (1, True)]
