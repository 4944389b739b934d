"""What every keeper of lifecycle hooks does: the driver over a strict account, and the twin in memory."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from tests.drivers.hooked_account import QUEUE, ROLE, HookedAccount
from tests.drivers.scaling_account import group

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.fleets import ec2, hooks
from shiftwork_coordinator.fleets.hooks import LifecycleHooks
from shiftwork_coordinator.model.launches import ScalingHook
from shiftwork_coordinator.model.settings import AutoScaling, Aws
from shiftwork_coordinator.ports import ScalingHooks
from shiftwork_coordinator.testing import Machine, MemoryFleets
from shiftwork_coordinator.testing_hooks import MemoryHooks

LAUNCH, STOP = ScalingHook("g", "web", leaving=False), ScalingHook("g", "web", leaving=True)
FREE = {"MinSize": 0, "DesiredCapacity": 1, "DeletionProtection": "none", "NewInstancesProtectedFromScaleIn": False}
PLAIN, TOLD = AutoScaling(), AutoScaling(queue=QUEUE, queue_role_arn=ROLE)


class Rig(Protocol):
    port: ScalingHooks

    async def launch(self) -> str: ...
    async def end(self, id: str) -> None: ...


class Strict:
    """The driver, over an account that keeps AWS's rules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.account = HookedAccount(group("web", **FREE))
        self.pool = self.account.groups["web"].pop("WarmPoolConfiguration")
        self.port = LifecycleHooks(Aws("us-east-1"))

        async def call(service: str, operation: str, *limits: Any, **given: Any) -> Any:
            return await self.account.ask(service, operation, **given)

        monkeypatch.setattr(hooks, "call", call)
        monkeypatch.setattr(ec2, "call", call)

    async def launch(self) -> str:
        before = set(self.account.states("web"))
        await self.account.ask("autoscaling", "set_desired_capacity", AutoScalingGroupName="web", DesiredCapacity=2)
        await settled(self.port)
        [new] = set(self.account.states("web")) - before
        return new

    async def end(self, id: str) -> None:
        given = {"InstanceId": id, "ShouldDecrementDesiredCapacity": True}
        await self.account.ask("autoscaling", "terminate_instance_in_auto_scaling_group", **given)
        await settled(self.port)


class Memory:
    def __init__(self) -> None:
        self.fleet = MemoryFleets({"i-1": Machine(group="web")})
        self.port = MemoryHooks(self.fleet)

    async def launch(self) -> str:
        self.port.launch("i-2", "web")
        return "i-2"

    async def end(self, id: str) -> None:
        self.port.end(id)


async def settled(port: ScalingHooks) -> None:
    """Until every instance is where it stays by itself."""
    for _ in range(4):
        await port.members(["web"])


async def state(rig: Rig, id: str) -> str:
    await settled(rig.port)
    return next((member.lifecycle for member in await rig.port.members(["web"]) if member.id == id), "gone")


@pytest.fixture(params=["driver", "memory"])
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Strict(monkeypatch) if request.param == "driver" else Memory()


async def test_a_hook_is_put_once(rig: Rig) -> None:
    assert [await rig.port.put(LAUNCH, PLAIN) for _ in range(3)] == [True, False, False]
    await rig.port.delete(LAUNCH)
    await rig.port.delete(LAUNCH)
    assert await rig.port.put(LAUNCH, PLAIN)


async def test_a_group_that_is_not_there_has_no_members(rig: Rig) -> None:
    assert list(await rig.port.members(["nowhere"])) == list(await rig.port.members([])) == []


async def test_what_is_launched_waits_and_is_let_in(rig: Rig) -> None:
    await rig.port.put(LAUNCH, PLAIN)
    id = await rig.launch()
    assert await state(rig, id) == "Pending:Wait"
    await rig.port.beat(LAUNCH, id)
    await rig.port.answer(LAUNCH, id, "CONTINUE")
    assert await state(rig, id) == "InService"
    await rig.port.answer(LAUNCH, id, "CONTINUE")
    await rig.port.beat(LAUNCH, id)


async def test_what_is_given_up_goes(rig: Rig) -> None:
    await rig.port.put(LAUNCH, PLAIN)
    id = await rig.launch()
    await rig.port.answer(LAUNCH, id, "ABANDON")
    assert await state(rig, id) == "gone"


async def test_what_is_ended_waits_and_goes(rig: Rig) -> None:
    await rig.port.put(STOP, PLAIN)
    id = await rig.launch()
    assert await state(rig, id) == "InService"
    await rig.end(id)
    assert await state(rig, id) == "Terminating:Wait"
    await rig.port.answer(STOP, id, "CONTINUE")
    assert await state(rig, id) == "gone"


async def test_a_queue_hears_of_what_waits_and_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Strict(monkeypatch)
    assert await rig.port.put(LAUNCH, TOLD) and not await rig.port.put(LAUNCH, TOLD)
    assert await rig.port.hear(QUEUE), "AWS says that it can tell the queue"
    assert not await rig.port.hear(QUEUE)
    await rig.launch()
    assert await rig.port.hear(QUEUE) and not await rig.port.hear(QUEUE)
    assert await rig.port.put(LAUNCH, PLAIN), "the queue is taken off the hook"
    assert not await rig.port.put(LAUNCH, PLAIN)


async def test_a_group_with_a_warm_pool_gets_no_launch_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Strict(monkeypatch)
    await rig.port.put(LAUNCH, PLAIN)
    rig.account.groups["web"]["WarmPoolConfiguration"] = rig.pool
    with pytest.raises(InvalidRequest, match="warm pool"):
        await rig.port.put(LAUNCH, PLAIN)
    assert await rig.port.put(STOP, PLAIN)
    found = await rig.account.ask("autoscaling", "describe_lifecycle_hooks", AutoScalingGroupName="web")
    assert [hook["LifecycleHookName"] for hook in found["LifecycleHooks"]] == [STOP.name]
