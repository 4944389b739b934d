"""What a deployment would do, and what would go wrong with it."""

from __future__ import annotations

import asyncio

import msgspec

from shiftwork_contract.statement import facts
from shiftwork_coordinator import alarms, shifters
from shiftwork_coordinator.drafting import CreateDeployment, Drafted, drafted
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.model.config import AllAtOnce
from shiftwork_coordinator.model.rows import Deployment, Group, Instance, Request, Target
from shiftwork_coordinator.model.snapshot import Snapshot, TrafficSeen
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.shell.observe import CALL_LIMIT, TrafficObserver
from shiftwork_coordinator.shell.watch_alarms import AlarmObserver


async def plan(home: Coordinator, asked: CreateDeployment, group: Group | None = None) -> dict[str, object]:
    """What it would do, and what would go wrong. Touches nothing. `group` stands for the stored one."""
    found = await drafted(home, asked, "plan", group)
    deployment = found.deployment
    targets = {t.instance: t for t in found.targets}
    balancing = _balancing(home, found)
    try:
        wrong = await problems(home, found)
        wrong += _agent_problems(home, found.instances)
        wrong += await _alarm_problems(deployment)
        snapshot = await _snapshot(home, deployment, targets, balancing)
    finally:
        await balancing.close()
    foreseen = foresee(snapshot, home.clock.now())
    return {
        "application": asked.application,
        "group": asked.group,
        "revision": msgspec.to_builtins(deployment.revision),
        "signed": msgspec.to_builtins(facts(signed)) if (signed := deployment.revision.signed) else None,
        "config": deployment.config.name,
        "resources": [msgspec.to_builtins(t.resource) for t in found.targets if t.resource],
        "parameters": deployment.parameters,
        "events": [str(event) for event in events_of(deployment)],
        "balancers": list(snapshot.balancers),
        "batches": [msgspec.to_builtins(batch) for batch in foreseen.batches],
        "steps": list(foreseen.steps),
        "problems": [{"message": p.message, "fatal": p.fatal, "instance": p.instance} for p in wrong],
    }


async def _snapshot(
    home: Coordinator, deployment: Deployment, targets: dict[str, Target], balancing: Balancing
) -> Snapshot:
    health = await home.store.health(deployment.group_id)
    return Snapshot(
        deployment=deployment,
        targets=targets,
        epoch=home.epoch,
        request=Request(deployment.id),
        agents={name: home.agents.seen(name, deployment.group_id) for name in targets},
        traffic=await _seen_now(home, balancing),
        installed=await home.store.installed(deployment.group_id),
        health={name: row.healthy for name, row in health.items()},
        balancers=tuple(b.name for b in balancing.balancers),
    )


async def _seen_now(home: Coordinator, balancing: Balancing) -> dict[str, tuple[TrafficSeen, ...]]:
    observer = TrafficObserver(
        balancing.balancers, list(balancing.servers.values()), home.clock, lambda: False, lambda: None
    )
    for balancer in balancing.balancers:
        await observer.ask(balancer)
    return dict(observer.seen)


def _balancing(home: Coordinator, found: Drafted) -> Balancing:
    deployment, targets = found.deployment, [t for t in found.targets if t.resource is None]
    return Balancing(deployment.group_id, deployment.settings, targets, home.agents, home.epoch)


async def problems(home: Coordinator, wanted: Drafted) -> list[Problem]:
    """What balancers and platforms say would go wrong."""
    found: list[Problem] = []
    if shifter := shifters.connect(wanted.deployment.settings):
        gradual = not isinstance(wanted.deployment.config.traffic, AllAtOnce)
        found += await shifter.check([t.resource for t in wanted.targets if t.resource], gradual=gradual)
    balancing = _balancing(home, wanted)
    try:
        return found + await _checked(balancing)
    finally:
        await balancing.close()


async def _checked(balancing: Balancing) -> list[Problem]:
    found: list[Problem] = []
    for balancer in balancing.balancers:
        try:
            async with asyncio.timeout(CALL_LIMIT):
                found += await balancer.driver.check(list(balancing.servers.values()))
        except TimeoutError:
            found.append(Problem(f"{balancer.name} did not answer within {CALL_LIMIT:g} s"))
    return found


def _agent_problems(home: Coordinator, instances: list[Instance]) -> list[Problem]:
    away = [i for i in instances if not home.agents.connected(i.name)]
    return [Problem(f"the agent of {i.name} is not connected", fatal=False, instance=i.name) for i in away]


async def _alarm_problems(deployment: Deployment) -> list[Problem]:
    observer = AlarmObserver(deployment.settings.alarms, alarms.connect(deployment.settings.alarms), lambda: None)
    if deployment.settings.alarms.cloudwatch:
        await observer.ask()
    stops = {
        "ALARM": "is red: the deployment would be stopped; --ignore-alarms deploys nevertheless",
        "UNREADABLE": "cannot be read",
    }
    return [
        Problem(f"alarm {name} {stops[seen.state]} ({seen.reason})", fatal=False)
        for name, seen in observer.seen.items()
        if seen.state in stops
    ]
