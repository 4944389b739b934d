"""The driver of lifecycle hooks, by what AWS answers."""

from __future__ import annotations

from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.fleets import hooks
from shiftwork_coordinator.fleets.hooks import LifecycleHooks
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.settings import Aws

HOOK = ScalingHook("g", "web", leaving=False)


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> LifecycleHooks:
    async def call(service: str, operation: str, *limits: Any, **given: Any) -> Any:
        raise InvalidRequest(f"cannot call autoscaling:{operation}: {text}", code="ValidationError")

    monkeypatch.setattr(hooks, "call", call)
    return LifecycleHooks(Aws("eu-west-1"))


@pytest.mark.parametrize(
    "text", ["No Lifecycle Hook found with name shiftwork-launch-g", "AutoScalingGroup name not found - null"]
)
async def test_a_hook_that_somebody_else_took_away_is_gone(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    await answering(monkeypatch, text).delete(HOOK)


async def test_an_instance_that_waits_no_longer_needs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = answering(monkeypatch, "No active Lifecycle Action found with instance ID i-1")
    await driver.answer(HOOK, "i-1", "CONTINUE")
    await driver.beat(HOOK, "i-1")


async def test_what_is_refused_otherwise_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="not authorized"):
        await answering(monkeypatch, "not authorized").delete(HOOK)
