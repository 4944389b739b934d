"""Two sets of instances that stand already take turns: there, back again, and back from anywhere on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.coordinator.shell.conftest import V1, V2, V3

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.messages import HostFacts, SetGate
from shiftwork_coordinator import fleets, members
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.settings import BlueGreen, Instances, Originals, Quiet
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus
from shiftwork_coordinator.operations import create_deployment, rollback_deployment, stop_deployment
from shiftwork_coordinator.planning import plan
from shiftwork_coordinator.ports import Server
from shiftwork_coordinator.shell import watch_fleet
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import Machine, MemoryFleets

D, T = DeploymentStatus, TargetStatus
ONE, OTHER = ("web-1", "web-2"), ("web-3", "web-4")
IDS = {f"web-{n}": f"i-{n:017x}" for n in range(1, 5)}


class Yard:
    """ONE serve at first; OTHER stand, and are not in the balancer."""

    def __init__(self, world: Any) -> None:
        self.world, self.balancer = world, world.balancer

    async def choose(self, one: Instances, other: Instances, **settings: Any) -> None:
        group = await self.world.store.group("web", "production")
        given = {"instances": one, "blue_green": BlueGreen("existing", replacements=other), **settings}
        await self.world.store.write(Put(replace(group, settings=replace(group.settings, **given))))

    async def set(self, **settings: Any) -> None:
        group = await self.world.store.group("web", "production")
        await self.world.store.write(Put(replace(group, settings=replace(group.settings, **settings))))

    async def out(self, *names: str) -> None:
        await self.balancer.deregister([Server(name, name) for name in names])

    async def begin(self, revision: str) -> str:
        asked = CreateDeployment("web", "production", revision)
        return (await create_deployment(self.world.home, asked, "tester")).id

    async def deploy(self, revision: str) -> Deployment:
        return await self.world.ended(await self.begin(revision))

    async def refused(self) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as refused:
            await self.begin(V1)
        return refused.value

    @property
    def serving(self) -> tuple[str, ...]:
        return tuple(sorted(self.balancer.in_traffic()))

    async def roles(self, id: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, target in (await self.world.store.targets(id)).items():
            found.setdefault(target.role, set()).add(name)
        return found


@pytest.fixture
async def yard(world: Any) -> Yard:
    yard = Yard(world)
    await yard.choose(Instances(names=ONE), Instances(names=OTHER))
    await yard.out(*OTHER)
    return yard


async def test_they_take_turns(yard: Yard) -> None:
    there = await yard.deploy(V1)
    assert (there.status, yard.serving) == (D.SUCCEEDED, OTHER), there.error_message
    back = await yard.deploy(V2)
    assert (back.status, yard.serving) == (D.SUCCEEDED, ONE), back.error_message
    assert await yard.roles(there.id) == {"original": {*ONE}, "replacement": {*OTHER}, "fleet": {"existing:production"}}
    assert await yard.roles(back.id) == {"original": {*OTHER}, "replacement": {*ONE}, "fleet": {"existing:production"}}
    installed = {name: agent.installed for name, agent in yard.world.agents.items()}
    assert installed == dict.fromkeys(OTHER, V1) | dict.fromkeys(ONE, V2), "what was replaced stays installed"


async def test_who_is_to_be_changed_is_out_of_traffic_before_a_script_runs(yard: Yard) -> None:
    """Also one that the balancer sends to in vain: nothing that answers runs there yet."""
    await yard.balancer.register([Server(name, name) for name in OTHER])
    yard.balancer.probe = lambda instance: instance in ONE
    await yard.balancer.states([Server(name, name) for name in OTHER])
    await yard.balancer.states([Server(name, name) for name in OTHER])
    ran_in: list[str] = []

    def watched(agent: str, command: Any, event: str) -> bool:
        if event == "Install":
            ran_in.extend({agent} & yard.balancer.in_traffic())
            yard.balancer.probe = lambda instance: True
        return False

    yard.world.fails = watched
    ended = await yard.deploy(V1)
    assert (ended.status, yard.serving, ran_in) == (D.SUCCEEDED, OTHER, [])


@pytest.mark.parametrize("event", ["Install", "BeforeAllowTraffic", "AfterAllowTraffic", "BeforeBlockTraffic"])
async def test_a_failure_gives_everything_back(yard: Yard, event: str) -> None:
    yard.world.fails = lambda agent, command, at: at == event
    ended = await yard.deploy(V1)
    assert (ended.status, yard.serving) == (D.FAILED, ONE)
    yard.world.fails = lambda agent, command, at: False
    again = await yard.deploy(V2)
    assert (again.status, yard.serving) == (D.SUCCEEDED, OTHER), again.error_message


@pytest.mark.parametrize("first", range(3))
async def test_a_restart_at_every_stage_changes_nothing(yard: Yard, first: int) -> None:
    id = await yard.begin(V1)

    def reached(stage: int) -> bool:
        run = yard.world.home.runs.get(id)
        return run is None or run.image.targets["existing:production"].stage >= stage

    for stage in range(first, 9, 3):
        await yard.world.until(lambda stage=stage: reached(stage))
        await yard.world.restart()
    ended = await yard.world.ended(id)
    assert (ended.status, yard.serving) == (D.SUCCEEDED, OTHER), ended.error_message
    ran = [event for at, event in yard.world.agents["web-3"].ran if at == id]
    assert len(ran) == len(set(ran)) == 9


async def test_stopped_while_the_originals_are_kept_it_goes_back(yard: Yard) -> None:
    await yard.set(originals=Originals(keep_for=600.0))
    id = await yard.begin(V1)
    await yard.world.until(lambda: yard.serving == OTHER)
    await yard.world.until(lambda: any(reason.code == "ORIGINALS" for reason in yard.world.home.reasons(id)))
    await stop_deployment(yard.world.home, id, now=False, rollback=None, who="tester")
    assert ((await yard.world.ended(id)).status, yard.serving) == (D.STOPPED, ONE)


async def test_a_rollback_of_a_finished_one_is_to_those_who_served_before(yard: Yard) -> None:
    await yard.deploy(V1)
    later = await yard.deploy(V2)
    undone = await rollback_deployment(yard.world.home, later.id, who="tester")
    ended = await yard.world.ended(undone.id)
    assert (ended.status, ended.rollback_of, yard.serving) == (D.SUCCEEDED, later.id, OTHER)
    assert {yard.world.agents[name].installed for name in OTHER} == {V1}


async def test_no_second_one_is_queued_since_each_begins_with_what_serves_then(yard: Yard) -> None:
    await yard.set(originals=Originals(keep_for=600.0))
    id = await yard.begin(V1)
    with pytest.raises(Conflict, match="already has the active deployment"):
        await create_deployment(yard.world.home, CreateDeployment("web", "production", V2, queue=True), "tester")
    await stop_deployment(yard.world.home, id, now=False, rollback=None, who="tester")
    await yard.world.ended(id)


async def test_a_plan_tells_who_is_replaced_by_whom(yard: Yard) -> None:
    await yard.deploy(V1)
    found: Any = await plan(yard.world.home, CreateDeployment("web", "production", V2))
    roles = {one["instance"]: one["role"] for one in found["instances"]}
    assert roles == dict.fromkeys(OTHER, "original") | dict.fromkeys(ONE, "replacement")
    assert [batch["targets"] for batch in found["batches"]] == [ONE] or found["batches"][0]["targets"] == list(ONE)
    assert "take out of traffic: web-3" in found["steps"] and not [p for p in found["problems"] if p["fatal"]]


# Which of the two serves


async def test_where_nobody_serves_the_last_good_one_tells(yard: Yard) -> None:
    await yard.deploy(V1)
    await yard.out(*OTHER)
    again = await yard.begin(V3)
    assert (await yard.roles(again))["original"] == {*OTHER}
    assert (await yard.world.ended(again)).status is D.SUCCEEDED


async def test_where_nobody_ever_served_the_settings_tell(yard: Yard) -> None:
    await yard.out(*ONE)
    ended = await yard.deploy(V1)
    assert (ended.status, yard.serving) == (D.SUCCEEDED, OTHER)


async def test_what_somebody_has_moved_by_hand_is_seen(yard: Yard) -> None:
    await yard.deploy(V1)
    await yard.balancer.register([Server(name, name) for name in ONE])
    await yard.out(*OTHER)
    await yard.balancer.states([Server(name, name) for name in ONE])
    await yard.balancer.states([Server(name, name) for name in ONE])
    ended = await yard.deploy(V2)
    assert (ended.status, yard.serving) == (D.SUCCEEDED, OTHER)
    assert (await yard.roles(ended.id))["original"] == {*ONE}


async def both_serve(yard: Yard) -> None:
    await yard.balancer.register([Server("web-4", "web-4")])
    await yard.balancer.states([Server("web-4", "web-4")])


async def one_untold(yard: Yard) -> None:
    yard.balancer.unknown = {"web-3"}


async def unequal(yard: Yard) -> None:
    await yard.choose(Instances(names=ONE), Instances(names=OTHER[:1]))


async def shared(yard: Yard) -> None:
    await tagged(yard)
    await yard.choose(Instances(tags={"Role": ["web"]}), Instances(tags={"Color": ["green"]}))


async def tagged(yard: Yard) -> None:
    for name in (*ONE, *OTHER):
        row = await yard.world.store.instance(name)
        color = "blue" if name in ONE else "green"
        await yard.world.store.write(Put(replace(row, tags={"Role": "web", "Color": color})))


async def no_agent(yard: Yard) -> None:
    await yard.choose(Instances(names=ONE), Instances(names=("web-3", "web-9")))


async def nobody(yard: Yard) -> None:
    await yard.choose(Instances(names=ONE), Instances(tags={"Color": ["green"]}))


async def not_theirs_to_end(yard: Yard) -> None:
    await yard.set(originals=Originals(then="terminate"))


@pytest.mark.parametrize(
    ("spoil", "code", "told"),
    [
        (
            both_serve,
            "InvalidBlueGreenDeploymentConfigurationException",
            "web-1, web-2 serve (web-1, web-2), and so do",
        ),
        (one_untold, "INVALID_LOAD_BALANCER", "memory cannot tell of web-3"),
        (unequal, "NO_INSTANCES", "1 instances are there to replace (web-3) the 2 originals (web-1, web-2)"),
        (nobody, "NO_INSTANCES", "0 instances are there to replace (Color=green) the 2 originals (web-1, web-2)"),
        (shared, "InvalidTargetInstancesException", "web-3, web-4 are in both of its sets"),
        (no_agent, "AGENT_ISSUE", "web-9 have no agent here"),
        (not_theirs_to_end, "InvalidBlueGreenDeploymentConfigurationException", "web-1, web-2 are not selected by"),
    ],
)
async def test_what_is_refused_before_anything_is_changed(
    yard: Yard, spoil: Callable[[Yard], Any], code: str, told: str
) -> None:
    await spoil(yard)
    before = list(yard.balancer.calls)
    refused = await yard.refused()
    assert refused.code == code and told in refused.message, refused.message
    assert yard.balancer.calls == before


# With the agents' gates

POINT = {"port": 8081, "path": "/gate"}
GATE = {"gate": POINT, "fails": 2, "passes": 2, "interval": 0.1, "timeout": 0.1}


@pytest.fixture
async def gated(yard: Yard) -> Yard:
    await yard.set(load_balancers=({"gate": GATE},), quiet=Quiet(at_most=0.1))
    return yard


def opened(yard: Yard) -> tuple[str, ...]:
    return tuple(name for name, agent in sorted(yard.world.agents.items()) if agent.gate and agent.gate.open)


async def test_gates_that_were_never_made_keep_nobody_from_deploying(gated: Yard) -> None:
    ended = await gated.deploy(V1)
    assert (ended.status, opened(gated)) == (D.SUCCEEDED, OTHER), ended.error_message


async def test_how_gates_stand_is_asked_of_agents_that_came_back(gated: Yard) -> None:
    await gated.deploy(V1)
    await gated.world.restart()
    agent, orders = gated.world.agents["web-1"], list[bool]()
    real = agent.send

    def send(message: Any) -> None:
        if isinstance(message, SetGate):
            orders.append(message.open)
        real(message)

    agent.send = send
    ended = await gated.deploy(V2)
    assert (ended.status, opened(gated)) == (D.SUCCEEDED, ONE), ended.error_message
    assert orders == [*sorted(orders)], "a gate that was closed stays so until its instance may serve"


async def test_an_agent_that_does_not_tell_of_its_gate_is_named(gated: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "GATE_LOOKS", 3)
    gated.world.agents["web-3"].probing = False
    refused = await gated.refused()
    assert refused.code == "INVALID_LOAD_BALANCER" and "cannot tell of web-3" in refused.message


# In EC2


@pytest.fixture
async def ec2(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> MemoryFleets:
    memory = MemoryFleets({id: Machine({"Color": "blue" if n in ONE else "green"}) for n, id in IDS.items()})
    monkeypatch.setattr(fleets, "connect", lambda at: memory)
    monkeypatch.setattr(watch_fleet, "EASY", 0.02)
    for name, id in IDS.items():
        row = await yard.world.store.instance(name)
        await yard.world.store.write(Put(replace(row, host=HostFacts(instance_id=id))))
    blue, green = (Instances(ec2_tags={"Color": [color]}) for color in ("blue", "green"))
    await yard.choose(blue, green, originals=Originals(then="terminate"))
    return memory


async def test_originals_are_terminated_and_the_next_one_wants_others_in_their_place(
    yard: Yard, ec2: MemoryFleets
) -> None:
    ended = await yard.deploy(V1)
    assert (ended.status, yard.serving) == (D.SUCCEEDED, OTHER), ended.error_message
    states = {name: ec2.machines[id].state for name, id in IDS.items()}
    assert states == dict.fromkeys(ONE, "shutting-down") | dict.fromkeys(OTHER, "running")
    refused = await yard.refused()
    assert refused.code == "NO_INSTANCES" and "0 instances are there to replace" in refused.message


async def test_what_failed_terminates_nobody(yard: Yard, ec2: MemoryFleets) -> None:
    yard.world.fails = lambda agent, command, at: at == "AfterAllowTraffic"
    assert ((await yard.deploy(V1)).status, yard.serving) == (D.FAILED, ONE)
    assert {machine.state for machine in ec2.machines.values()} == {"running"}


async def test_what_does_not_show_is_asked_for_again_also_after_a_restart(yard: Yard, ec2: MemoryFleets) -> None:
    real, asked = ec2.terminate, []

    async def slow(ids: Any) -> None:
        asked.append(tuple(ids))
        if len(asked) > 1:
            await real(ids)

    ec2.terminate = slow  # type: ignore[method-assign]
    id = await yard.begin(V1)
    await yard.world.until(lambda: bool(asked))
    await yard.world.restart()
    ended = await yard.world.ended(id)
    assert ended.status is D.SUCCEEDED and set(asked) == {tuple(IDS[name] for name in ONE)}
    assert {ec2.machines[IDS[name]].state for name in ONE} == {"shutting-down"}


async def test_none_is_terminated_that_an_auto_scaling_group_would_launch_again(yard: Yard, ec2: MemoryFleets) -> None:
    ec2.machines[IDS["web-2"]].group = "web"
    refused = await yard.refused()
    assert f"{IDS['web-2']} (web) belong to an Auto Scaling group" in refused.message


async def test_a_replacement_without_an_agent_is_named_at_once(yard: Yard, ec2: MemoryFleets) -> None:
    ec2.machines["i-0000000000000000e"] = Machine({"Color": "green"})
    refused = await yard.refused()
    assert refused.code == "AGENT_ISSUE" and "i-0000000000000000e (none ever joined)" in refused.message


async def test_one_that_is_stopped_in_ec2_does_not_count(yard: Yard, ec2: MemoryFleets) -> None:
    ec2.machines[IDS["web-3"]].state = "stopped"
    refused = await yard.refused()
    assert refused.code == "NO_INSTANCES" and "1 instances are there to replace" in refused.message


async def test_a_replacement_that_vanishes_fails_it(yard: Yard, ec2: MemoryFleets) -> None:
    await yard.set(originals=Originals(keep_for=600.0))
    id = await yard.begin(V1)
    await yard.world.until(lambda: any(reason.code == "ORIGINALS" for reason in yard.world.home.reasons(id)))
    for name in OTHER:
        ec2.machines[IDS[name]].state = "terminated"
    ended = await yard.world.ended(id)
    assert (ended.status, set(ONE) <= set(yard.serving)) == (D.FAILED, True)
    assert (await yard.world.store.targets(id))["web-3"].status is T.FAILED
