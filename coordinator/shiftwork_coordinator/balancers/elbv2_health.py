"""What AWS says of a target, in our words: whether it gets requests, and what is waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_coordinator.balancers.elbv2_groups import Group
from shiftwork_coordinator.ports import Reading, TrafficState

NOT_IN_USE = "Target.NotInUse"


def reading(group: Group, told: Mapping[str, str], draining_is_out: bool = False) -> Reading:
    """`draining_is_out`: a target that drains gets nothing new, on AWS's word."""
    state, reason = told.get("State", ""), told.get("Reason", "")
    shown = f"{group.name}: {in_words(told)}"
    checks = f"healthy after at most {group.passes} passed checks, one each {group.interval:g} s"
    match state:
        case "healthy":
            return Reading(TrafficState.HEALTHY, detail=shown)
        case "initial":
            return Reading(TrafficState.STARTING, detail=f"{shown}; {checks}", lasts=group.checked_for)
        case "unhealthy" | "unhealthy.draining":
            return Reading(TrafficState.UNHEALTHY, detail=f"{shown}; {checks}", lasts=group.checked_for)
        case "draining" if draining_is_out:
            return Reading(TrafficState.ABSENT, detail=shown)
        case "draining":
            detail = f"{shown}; the deregistration delay is {group.delay:g} s"
            return Reading(TrafficState.DRAINING, detail=detail, lasts=group.delay)
        case "unused" if reason == "Target.NotRegistered":
            return Reading(TrafficState.ABSENT, detail=shown, lasts=group.delay)
        case "unused":
            # Registered, and gets nothing until a person changes something: no check will ever pass.
            return Reading(TrafficState.UNHEALTHY, detail=f"{shown}; {remedy(reason)}")
        case _:
            lasts = max(group.delay, group.checked_for)
            return Reading(TrafficState.UNKNOWN, detail=f"{shown}; it cannot be told", lasts=lasts)


def in_words(told: Mapping[str, str]) -> str:
    """State, reason and description as AWS gives them."""
    why = ": ".join(filter(None, (told.get("Reason", ""), told.get("Description", ""))))
    return told.get("State", "without a state") + (f" ({why})" if why else "")


def remedy(reason: str) -> str:
    if reason == NOT_IN_USE:
        return "let a listener forward to the group, and enable the target's zone for the load balancer"
    if reason == "Target.InvalidState":
        return "start the instance, or take it out of the deployment group"
    return "register another address"
