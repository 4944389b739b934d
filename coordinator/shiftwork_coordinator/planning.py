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
from shiftwork_coordinator.model.snapshot import Snapshot
from shiftwork_coordinator.model.status import DECIDED
from shiftwork_coordinator.ports import Member, Problem
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.shell.observe import CALL_LIMIT
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
        wrong += _fleet_problems(found)
        wrong += await _alarm_problems(deployment)
        snapshot = await _snapshot(home, deployment, targets, balancing)
        wrong += _uncounted(snapshot)
    finally:
        await balancing.close()
    foreseen = foresee(snapshot, home.clock.now())
    return {
        "application": asked.application,
        "group": asked.group,
        "revision": msgspec.to_builtins(deployment.revision),
        "signed": msgspec.to_builtins(facts(signed)) if (signed := deployment.revision.signed) else None,
        "config": deployment.config.name,
        "instances": _instances(found),
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
        traffic=await balancing.seen_now(home.clock),
        installed=await home.store.installed(deployment.group_id),
        health={name: row.healthy for name, row in health.items()},
        balancers=tuple(b.name for b in balancing.balancers),
    )


def _balancing(home: Coordinator, found: Drafted) -> Balancing:
    deployment = found.deployment
    targets = [t for t in found.targets if t.resource is None and t.status not in DECIDED]
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


def _instances(found: Drafted) -> list[dict[str, str]]:
    """Who is meant, with what EC2 says of it."""
    joined, members = {row.name: row for row in found.instances}, found.fleet.members
    unknown = Member("", "")
    return [
        {
            "instance": target.instance,
            "role": target.role,
            "instanceId": target.cloud_id,
            "zone": (member := members.get(target.instance, unknown)).zone or _zone(joined.get(target.instance)),
            "autoScalingGroup": member.group,
            "state": member.state,
        }
        for target in found.targets
        if target.resource is None
    ]


def _zone(row: Instance | None) -> str:
    return row.host.zone if row else ""


def _agent_problems(home: Coordinator, instances: list[Instance]) -> list[Problem]:
    away = [i for i in instances if not home.agents.connected(i.name)]
    return [
        Problem(f"the agent of {i.name} is not connected (last seen: {_last_seen(home, i)})", False, i.name)
        for i in away
    ]


def _last_seen(home: Coordinator, row: Instance) -> str:
    seen = home.agents.seen(row.name).last_seen or row.last_seen
    return "never" if seen is None else f"{home.clock.now() - seen:.0f} s ago"


def _fleet_problems(found: Drafted) -> list[Problem]:
    """What EC2 has besides those that are deployed to."""
    notes = [
        Problem(f"{member.id} is {member.state} in EC2: it counts as failed, and nothing is done there", False, name)
        for name, member in found.fleet.stopped.items()
    ]
    return notes + [
        Problem(f"{m.id} is not taken: it is {m.lifecycle or m.state}", False, m.id) for m in found.fleet.left
    ]


def _uncounted(snapshot: Snapshot) -> list[Problem]:
    """Balancers that do not count requests leave it to the agents to tell when an instance is quiet."""
    quiet, readings = snapshot.deployment.settings.quiet, [s for seen in snapshot.traffic.values() for s in seen]
    names = sorted({s.balancer for s in readings if s.last.in_flight is None and s.last.state != "unknown"})
    if quiet.port or not names:
        return []
    text = (
        f"{', '.join(names)} counts no requests, so that only agents can tell when an instance is quiet: set"
        f" `quiet.port`, else each batch waits {quiet.at_most:g} s"
    )
    return [Problem(text, fatal=False)]


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
