"""Whether a target is in service, and why not. Three answers: yes, no, and cannot tell (None)."""

from __future__ import annotations

import msgspec

from shiftwork_coordinator.engine.itinerary import Stage, has_agents, returns_to_service
from shiftwork_coordinator.model.rows import Deployment, Target
from shiftwork_coordinator.model.snapshot import AgentSeen, Snapshot, TrafficSeen
from shiftwork_coordinator.model.status import TargetStatus

STALE_AFTER = 15.0
"""Seconds after which a balancer's last answer says nothing any more; observers ask at least once a second."""


class Service(msgspec.Struct, frozen=True):
    value: bool | None
    why: str = ""


YES = Service(True)


def in_service(snapshot: Snapshot, target: Target, stages: tuple[Stage, ...], now: float) -> Service:
    """A target is in service when its last deployment succeeded there (or it is untouched by this one and was healthy
    before), it runs, its agent was heard lately, its health check passes and all its balancers call it healthy."""
    if not has_agents(stages):
        return Service(target.status is not TargetStatus.FAILED, target.error_message)
    return (
        _by_cloud(snapshot, target)
        or _by_record(snapshot, target, stages)
        or _by_agent(snapshot.deployment, snapshot.agents.get(target.instance, AgentSeen()), target, now)
        or by_balancers(snapshot.balancers, snapshot.traffic.get(target.instance, ()), now)
        or YES
    )


def under_change(target: Target, stages: tuple[Stage, ...]) -> bool:
    """Whether this deployment holds the target out of service just now."""
    return (
        target.status in (TargetStatus.IN_PROGRESS, TargetStatus.READY)
        and target.left_at is not None
        and target.stage < returns_to_service(stages)
    )


def _by_cloud(snapshot: Snapshot, target: Target) -> Service | None:
    state = snapshot.gone.get(target.instance)
    return Service(False, f"it is {state} in EC2") if state else None


def _by_record(snapshot: Snapshot, target: Target, stages: tuple[Stage, ...]) -> Service | None:
    if target.status is TargetStatus.FAILED and target.left_at is not None:
        return Service(False, "failed in this deployment")
    if under_change(target, stages):
        return Service(False, "being changed")
    if target.status is TargetStatus.SUCCEEDED:
        return None
    healthy = snapshot.health.get(target.instance)
    observable = snapshot.deployment.settings.health or snapshot.balancers
    if healthy is False:
        return Service(False, "the last deployment failed there")
    if healthy is None and not observable:
        return Service(False, "never deployed")
    return None


def _by_agent(deployment: Deployment, agent: AgentSeen, target: Target, now: float) -> Service | None:
    silent_after = deployment.settings.limits.silent_after
    if agent.last_seen is None:
        return Service(False, "its agent was never heard")
    if now - max(agent.last_seen, agent.awaited_since) > silent_after:
        return Service(False, f"its agent was last heard {now - agent.last_seen:.0f} s ago, limit {silent_after:g} s")
    if deployment.settings.health is None:
        return None
    if agent.probe is None or agent.asked < target.look:
        return Service(None, "no health check result yet")
    return None if agent.probe.healthy else Service(False, f"its health check fails: {agent.probe.detail}")


def by_balancers(balancers: tuple[str, ...], seen: tuple[TrafficSeen, ...], now: float) -> Service | None:
    """None when every balancer calls it healthy."""
    readings = {s.balancer: s.last for s in seen}
    for name in balancers:
        reading = readings.get(name)
        if reading is None or now - reading.answered_at > STALE_AFTER:
            return Service(None, f"no answer from {name}")
        if reading.state in ("unknown", "starting"):
            return Service(None, f"{name} calls it {reading.state}: {reading.detail}")
        if reading.state != "healthy":
            return Service(
                False, f"{name} calls it {reading.state}" + (f" ({reading.detail})" if reading.detail else "")
            )
    return None
