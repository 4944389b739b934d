"""Whole deployments behind target groups, in the twin of an account: what the engine waits for is AWS's, not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.test_shell_stories import V1, deploy
from tests.drivers.elb_account import Account

from shiftwork_contract.messages import HostFacts, Observed
from shiftwork_contract.messages import Quiet as QuietNow
from shiftwork_coordinator.balancers.elbv2 import TargetGroups
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.settings import Limits, Quiet
from shiftwork_coordinator.model.status import DeploymentStatus
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.ports import Pace
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.store import Put

LIMITS = Limits(block_within=0.2, allow_within=5, healthy_wait=20)
"""Blocking is over long before AWS's deregistration delay is."""


@pytest.fixture
async def account(world: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    """The world's instances are targets, and their agents watch a port on which nothing moves."""
    found = Account().settled()
    found.pools["web"].delay = 300
    monkeypatch.setattr(asking, "of", lambda at: found.ask)
    monkeypatch.setattr(TargetGroups, "pace", Pace(0.02, 0.1))
    for agent, id in zip(world.agents, found.instances, strict=True):
        row = await world.store.instance(agent)
        await world.store.write(Put(replace(row, host=HostFacts(instance_id=id))))
    await settle(world, limits=LIMITS)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watched(world))
        yield found
        watching.cancel()


async def watched(world: Any) -> None:
    while True:
        await asyncio.sleep(0.03)
        for name in world.agents:
            world.home.reading(name, Observed("g-1", world.agents[name].asked, quiet=QuietNow(True, 0)))


async def settle(world: Any, **changes: Any) -> None:
    group = await world.store.group("web", "production")
    settings = replace(
        group.settings, load_balancers=({"elbv2": {"target_group": "web"}},),
        quiet=Quiet(8080, window=0.05, at_most=0.5), **changes,
    )  # fmt: skip
    await world.store.write(Put(replace(group, settings=settings)))


async def test_the_deregistration_delay_is_awaited_however_long_and_half_stay_in(world: Any, account: Account) -> None:
    least = len(account.instances)
    look = account._look

    def looked(pool: Any) -> None:
        nonlocal least
        look(pool)
        least = min(least, sum(m.state == "healthy" and m.leaving is None for m in pool.members.values()))

    account._look = looked  # type: ignore[method-assign]
    ended = await world.ended(await deploy(world, V1))
    assert (ended.status, ended.error_message) == (DeploymentStatus.SUCCEEDED, "")
    changed = [(name, one["Id"]) for name, p in account.calls if name.endswith("er_targets") for one in p["Targets"]]
    assert [name for name, _ in changed] == (["deregister_targets"] * 2 + ["register_targets"] * 2) * 2, "asked once"
    assert least == 2
    assert all(agent.installed == V1 for agent in world.agents.values())


async def test_throttled_it_waits(world: Any, account: Account) -> None:
    deployment = await deploy(world, V1)
    account.throttled = 3
    ended = await world.ended(deployment)
    assert (ended.status, ended.error_message) == (DeploymentStatus.SUCCEEDED, "")


async def test_what_is_not_allowed_ends_it_and_names_the_action(world: Any, account: Account) -> None:
    account.denied = {"deregister_targets"}
    ended = await world.ended(await deploy(world, V1))
    assert ended.status is DeploymentStatus.FAILED
    why = " ".join(t.error_message for t in (await world.store.targets(ended.id)).values())
    assert "elasticloadbalancing:DeregisterTargets" in why
    assert all(member.leaving is None for member in account.pools["web"].members.values())


async def test_plan_names_what_would_be_waited_for_in_vain(world: Any, account: Account) -> None:
    account.pools["web"].balancers = ()
    told: Any = await plan(world.home, CreateDeployment("web", "production", V1))
    fatal = [problem["message"] for problem in told["problems"] if problem["fatal"]]
    assert any("no load balancer uses target group web" in message for message in fatal)
