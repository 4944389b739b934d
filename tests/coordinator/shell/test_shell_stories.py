"""The shell with the real engine and the real store: what a deployment does, and that a restart changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_coordinator import balancers, notify
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.parameters import Parameter
from shiftwork_coordinator.model.settings import Health, Trigger
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import create_deployment, rollback_deployment, stop_deployment
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.shell import perform, run
from shiftwork_coordinator.shell.image import Image
from shiftwork_coordinator.store import Put

V1, V2, V3 = (f"sha256:{digit * 64}" for digit in "123")


async def deploy(world: Any, revision: str, **options: Any) -> str:
    asked = CreateDeployment("web", "production", revision, **options)
    return (await create_deployment(world.home, asked, "tester")).id


async def test_half_at_a_time_takes_half_out_and_brings_it_back(world: Any) -> None:
    ended = await world.ended(await deploy(world, V1))
    assert ended.status is DeploymentStatus.SUCCEEDED
    assert (ended.batch, ended.floor, ended.least_in_service) == (2, 2, 2)
    calls = world.balancer.calls
    assert [verb for verb, _ in calls] == ["deregister"] * 2 + ["register"] * 2 + ["deregister"] * 2 + ["register"] * 2
    assert all(agent.installed == V1 for agent in world.agents.values())
    group = await world.store.group("web", "production")
    assert group.last_good.identity == V1


async def test_a_broken_revision_is_halted_and_rolled_back_where_it_was_installed(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    world.fails = lambda name, command, event: event == "ValidateService" and command.revision.identity == V3
    failed = await world.ended(await deploy(world, V3))
    assert (failed.status, failed.error_code) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS")
    rollback = await world.ended(failed.rolled_back_by)
    assert (rollback.status, rollback.rollback_of) == (DeploymentStatus.SUCCEEDED, failed.id)
    targets = await world.store.targets(rollback.id)
    assert {n: t.status for n, t in targets.items()} == {
        "web-1": TargetStatus.SUCCEEDED,
        "web-2": TargetStatus.SUCCEEDED,
        "web-3": TargetStatus.SKIPPED,
        "web-4": TargetStatus.SKIPPED,
    }
    assert rollback.least_in_service == 2
    assert all(agent.installed == V1 for agent in world.agents.values())


async def test_a_restart_in_the_middle_goes_on_as_if_nothing_had_happened(world: Any) -> None:
    agent = world.agents["web-1"]
    agent.release.clear()
    id = await deploy(world, V1)
    await world.until(lambda: (id, "BeforeBlockTraffic") in agent.ran)
    await world.restart()
    agent.release.set()
    ended = await world.ended(id)
    assert ended.status is DeploymentStatus.SUCCEEDED
    for each in world.agents.values():
        assert len(each.ran) == len(set(each.ran)), "an event ran twice"


async def test_stop_lets_the_running_hook_finish_and_starts_nothing_else(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    for agent in world.agents.values():
        agent.release.clear()
    id = await deploy(world, V2)
    await world.until(lambda: (id, "BeforeBlockTraffic") in world.agents["web-1"].ran)
    await stop_deployment(world.home, id, now=False, rollback=False, who="tester")
    for agent in world.agents.values():
        agent.release.set()
    ended = await world.ended(id)
    assert (ended.status, ended.error_code) == (DeploymentStatus.STOPPED, "MANUAL_STOP")
    assert {t.status for t in (await world.store.targets(id)).values()} == {TargetStatus.SKIPPED}
    assert {agent.installed for agent in world.agents.values()} == {V1}


async def test_a_second_deployment_is_refused_or_queued(world: Any) -> None:
    for agent in world.agents.values():
        agent.release.clear()
    first = await deploy(world, V1)
    with pytest.raises(Conflict, match=first):
        await deploy(world, V2)
    second = await deploy(world, V2, queue=True)
    await world.until(lambda: world.home.runs[second].image.deployment.status is DeploymentStatus.QUEUED)
    for agent in world.agents.values():
        agent.release.set()
    await world.ended(second)
    assert {agent.installed for agent in world.agents.values()} == {V2}


async def test_plan_touches_nothing_and_tells_the_capacity(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    before = list(world.balancer.calls)
    foreseen = await plan(world.home, CreateDeployment("web", "production", V2))
    assert [b["targets"] for b in foreseen["batches"]] == [("web-1", "web-2"), ("web-3", "web-4")]
    assert [b["inService"] for b in foreseen["batches"]] == [2, 2]
    assert world.balancer.calls == before


async def test_what_cannot_proceed_is_refused(world: Any) -> None:
    with pytest.raises(InvalidRequest, match="shiftwork apply"):
        await create_deployment(world.home, CreateDeployment("web", "nope", V1), "tester")
    with pytest.raises(InvalidRequest, match="shiftwork push"):
        await deploy(world, "sha256:" + "f" * 64)
    with pytest.raises(InvalidRequest, match="there is none of that name"):
        await deploy(world, V1, config="Sideways")


async def test_an_operator_rolls_a_good_deployment_back(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    second = await deploy(world, V2)
    await world.ended(second)
    rollback = await rollback_deployment(world.home, second, who="tester")
    assert (await world.ended(rollback.id)).status is DeploymentStatus.SUCCEEDED
    assert {agent.installed for agent in world.agents.values()} == {V1}


async def test_a_second_deployment_does_not_take_the_first_ones_health_for_its_own(world: Any) -> None:
    group = await world.store.group("web", "production")
    checked = replace(group.settings, health=Health(http="http://127.0.0.1/"), load_balancers=())
    await world.store.write(Put(replace(group, settings=checked)))
    await world.ended(await deploy(world, V1))
    for agent in world.agents.values():
        agent.probing = False
    id = await deploy(world, V2)
    await world.until(lambda: any(reason.code == "FACTS" for reason in world.home.reasons(id)))
    assert all(agent.installed == V1 for agent in world.agents.values())
    await stop_deployment(world.home, id, now=True, rollback=False, who="tester")
    assert (await world.ended(id)).status is DeploymentStatus.STOPPED


async def test_a_queued_deployment_starts_from_what_the_one_before_it_left(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    first = await deploy(world, V2)
    second = await deploy(world, V3, queue=True)
    world.fails = lambda name, command, event: event == "ValidateService" and command.revision.identity == V3
    await world.ended(first)
    failed = await world.ended(second)
    assert failed.previous_revision.identity == V2
    assert (await world.ended(failed.rolled_back_by)).revision.identity == V2
    assert {agent.installed for agent in world.agents.values()} == {V2}


async def test_a_rollback_goes_before_what_was_queued(world: Any) -> None:
    await world.ended(await deploy(world, V1))
    world.fails = lambda name, command, event: event == "ValidateService" and command.revision.identity == V2
    first = await deploy(world, V2)
    queued = await deploy(world, V3, queue=True)
    failed = await world.ended(first)
    await world.ended(queued)
    rollback, last = [await world.store.deployment(id) for id in (failed.rolled_back_by, queued)]
    assert rollback.completed_at <= last.started_at
    assert {agent.installed for agent in world.agents.values()} == {V3}


async def test_two_operators_at_once_lose_nothing(world: Any) -> None:
    for agent in world.agents.values():
        agent.release.clear()
    id = await deploy(world, V1)
    await world.until(lambda: any(agent.ran for agent in world.agents.values()))
    run = world.home.runs[id]
    await asyncio.gather(
        stop_deployment(world.home, id, now=False, rollback=False, who="one"),
        run.request(lambda request: replace(request, proceed_at=1.0)),
    )
    stored = await world.store.request(id)
    assert (stored.stop, stored.proceed_at) == ("stop", 1.0)
    for agent in world.agents.values():
        agent.release.set()
    await world.ended(id)


async def test_a_deployment_whose_driver_is_gone_rests_and_the_others_go_on(world: Any, monkeypatch: Any) -> None:
    for agent in world.agents.values():
        agent.release.clear()
    id = await deploy(world, V1)
    await world.until(lambda: any(agent.ran for agent in world.agents.values()))
    monkeypatch.delitem(balancers.BUILT_IN, "memory")
    await world.restart()
    await world.until(lambda: "memory" in world.home.runs[id].image.deployment.parked_reason)
    monkeypatch.setitem(balancers.BUILT_IN, "memory", lambda settings, gates: world.balancer)
    for agent in world.agents.values():
        agent.release.set()
    assert (await world.ended(id)).status is DeploymentStatus.SUCCEEDED


async def test_a_stop_is_heard_at_the_very_moment_a_deployment_begins(world: Any, monkeypatch: Any) -> None:
    for agent in world.agents.values():
        agent.release.clear()
    load, reading, go_on = Image.load, asyncio.Event(), asyncio.Event()

    async def slow(store: Any, deployment: Any) -> Image:
        image = await load(store, deployment)
        reading.set()
        await go_on.wait()
        return image

    first = await deploy(world, V1)
    second = await deploy(world, V2, queue=True)
    await world.until(lambda: world.home.runs[second].image.deployment.status is DeploymentStatus.QUEUED)
    monkeypatch.setattr(Image, "load", slow)
    for agent in world.agents.values():
        agent.release.set()
    await world.ended(first)
    await reading.wait()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(stop_deployment(world.home, second, now=False, rollback=False, who="tester"))
        await asyncio.wait({stopping}, timeout=0.5)  # either it waits for the reading, or it is done before it
        go_on.set()
    assert (await world.ended(second)).status is DeploymentStatus.STOPPED


async def test_hooks_get_the_parameters_and_a_rollback_gets_those_it_had_when_it_was_good(world: Any) -> None:
    group = await world.store.group("web", "production")
    declared = {"WORKERS": Parameter("integer", default=4), "MODE": Parameter(default="safe")}
    await world.store.write(Put(replace(group, settings=replace(group.settings, parameters=declared))))
    first = await world.ended(await deploy(world, V1, parameters={"WORKERS": "8"}))
    world.fails = lambda name, command, event: event == "ValidateService" and command.revision.identity == V3
    failed = await world.ended(await deploy(world, V3, parameters={"WORKERS": 2, "MODE": "fast"}))
    rollback = await world.ended(failed.rolled_back_by)
    assert first.parameters == rollback.parameters == {"WORKERS": "8", "MODE": "safe"}
    assert rollback.previous_parameters == failed.parameters == {"WORKERS": "2", "MODE": "fast"}
    seen = [command.environment for command in world.agents["web-1"].commands if command.events]
    assert seen[0]["WORKERS"] == "8"
    assert {env["WORKERS"] for env in seen if env["MODE"] == "fast"} == {"2"}
    world.fails = lambda *_: False
    await world.ended(await deploy(world, V2))
    by_hand = await rollback_deployment(world.home, (await world.ended(await deploy(world, V3))).id, who="tester")
    assert by_hand.parameters == {"WORKERS": "4", "MODE": "safe"}


async def test_commands_name_the_appspec_and_a_rollback_names_the_one_it_had_when_it_was_good(world: Any) -> None:
    group = await world.store.group("web", "production")
    await world.store.write(Put(replace(group, settings=replace(group.settings, compat="strict"))))
    await world.ended(await deploy(world, V1, appspec="appspec.one.yml"))
    world.fails = lambda name, command, event: event == "ValidateService" and command.revision.identity == V3
    failed = await world.ended(await deploy(world, V3, appspec="appspec.two.yml"))
    rollback = await world.ended(failed.rolled_back_by)
    assert (rollback.appspec, rollback.previous_appspec) == ("appspec.one.yml", "appspec.two.yml")
    seen = [command for command in world.agents["web-1"].commands if command.events]
    assert list({command.deployment_id: command.appspec for command in seen}.values()) == [
        "appspec.one.yml",
        "appspec.two.yml",
        "appspec.one.yml",
    ]
    assert {command.compat for command in seen} == {"strict"}
    world.fails = lambda *_: False
    with pytest.raises(InvalidRequest, match="as the name of an AppSpec"):
        await deploy(world, V1, appspec="../x.yml")


async def test_topics_hear_of_a_deployment_in_order(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Topics:
        async def publish(self, topic: str, subject: str, message: str) -> None:
            heard.append(subject)

    monkeypatch.setattr(notify, "connect", lambda at: Topics())
    group = await world.store.group("web", "production")
    trigger = Trigger("ops", "arn:aws:sns:us-east-1:111222333444:ops", ("DeploymentStart", "DeploymentSuccess"))
    await world.store.write(Put(replace(group, settings=replace(group.settings, triggers=(trigger,)))))
    id = (await create_deployment(world.home, CreateDeployment("web", "production", V1), "tester")).id
    await world.ended(id)
    await world.until(lambda: len(heard) > 1)
    assert heard == [f"DeploymentStart web/production {id}", f"DeploymentSuccess web/production {id}"]


async def test_nobody_waits_for_topics_that_do_not_answer(world: Any, monkeypatch: Any) -> None:
    class Topics:
        async def publish(self, topic: str, subject: str, message: str) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(notify, "connect", lambda at: Topics())
    monkeypatch.setattr(perform, "CALL_LIMIT", 3600.0)
    group = await world.store.group("web", "production")
    trigger = Trigger("ops", "arn:aws:sns:us-east-1:111222333444:ops", ("DeploymentStart", "DeploymentSuccess"))
    await world.store.write(Put(replace(group, settings=replace(group.settings, triggers=(trigger,)))))
    for revision in (V1, V2):
        assert (await world.ended(await deploy(world, revision))).status is DeploymentStatus.SUCCEEDED


async def test_a_notice_that_cannot_be_written_stops_no_deployment(world: Any, monkeypatch: Any) -> None:
    def broken(*given: Any) -> Any:
        raise ValueError("no words")

    monkeypatch.setattr(run, "notices", broken)
    group = await world.store.group("web", "production")
    trigger = Trigger("ops", "arn:aws:sns:us-east-1:111222333444:ops", ("DeploymentStart",))
    await world.store.write(Put(replace(group, settings=replace(group.settings, triggers=(trigger,)))))
    assert (await world.ended(await deploy(world, V1))).status is DeploymentStatus.SUCCEEDED
