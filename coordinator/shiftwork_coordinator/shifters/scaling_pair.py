"""An Auto Scaling group and the one that takes over from it, as they stand. Pure: what AWS told in, facts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.shifters.resting import JUDGES, Group, at_rest, held_for, name_of, suspended, words_of

MARK = "shiftwork:replacement"
"""A tag of the replacement: `<deployment>`, and for one that stood already `<deployment> <its maximum before> <its last
scaling activity before>`. It is the first that is written and the last that goes."""
REGISTERS = "AddToLoadBalancer"
GREEN = (REGISTERS, "AlarmNotification", "ScheduledActions", JUDGES)
"""Processes of a replacement that rest until it is promoted: nothing sends requests to what has no revision yet, and
nothing holds that against it."""
DELETING = "Delete in progress"
LEAVING = ("Terminating", "Terminated", "Detaching", "Detached")


def green(suspend: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys((*GREEN, *suspend)) if name != "Launch")


class Pair(msgspec.Struct, frozen=True):
    """None is a group that is not there, or is being deleted. `instead`: what the replacement is attached to instead
    of a target group of the original."""

    one: ScalingGroup
    original: Group | None
    replacement: Group | None
    instead: Mapping[str, str] = {}

    @property
    def mark(self) -> list[str]:
        return words_of(self.replacement, MARK) if self.replacement else []

    @property
    def ours(self) -> bool:
        """Whether the replacement was made, or taken, for this deployment and is not given up or finished yet."""
        return self.mark[:1] == [self.one.token]

    @property
    def sized(self) -> bool:
        """Whether it has been given instances: all that comes before is done then."""
        return bool(self.replacement and self.replacement["DesiredCapacity"])

    @property
    def released(self) -> bool:
        """Whether the replacement does everything by itself again."""
        return self.replacement is not None and not held_for(self.replacement, self.one.token)

    @property
    def unattached(self) -> dict[str, list[str]]:
        """Load balancers of the original that the replacement does not have, by kind."""
        if self.original is None or self.replacement is None:
            return {}
        has = balancers(self.replacement)
        wanted = {
            kind: [self.instead.get(name, name) for name in names] for kind, names in balancers(self.original).items()
        }
        return {kind: left for kind, names in wanted.items() if (left := [n for n in names if n not in has[kind]])}


def pair(one: ScalingGroup, found: Mapping[str, Group], instead: Mapping[str, str]) -> Pair:
    there = {name: group for name, group in found.items() if group.get("Status") != DELETING}
    return Pair(one, there.get(one.group), there.get(one.replacement), instead)


def healthy(group: Group) -> list[Mapping[str, Any]]:
    """Its instances that are in service and healthy."""
    return [
        one
        for one in group.get("Instances", ())
        if one["LifecycleState"] == "InService" and one["HealthStatus"].lower() == "healthy"
    ]


def staying(group: Group) -> list[Mapping[str, Any]]:
    return [one for one in group.get("Instances", ()) if not one["LifecycleState"].startswith(LEAVING)]


def units(instances: list[Mapping[str, Any]]) -> int:
    """What they count for in the group's sizes: one each, unless the group weighs its instance types."""
    return sum(int(one.get("WeightedCapacity") or 1) for one in instances)


def size(original: Group) -> dict[str, int]:
    """Of a replacement: what is healthy in the original now, and not more than the original is to have. Its minimum is
    the original's only where that is not above this."""
    desired = min(units(healthy(original)), int(original["DesiredCapacity"]))
    if not desired:
        raise InvalidRequest(
            f"cannot replace the instances of the Auto Scaling group {name_of(original)}: none is in service and"
            " healthy; see `aws autoscaling describe-scaling-activities`",
            code="NO_INSTANCES",
        )
    return {
        "MinSize": min(int(original["MinSize"]), desired), "MaxSize": int(original["MaxSize"]),
        "DesiredCapacity": desired,
    }  # fmt: skip


def final(one: ScalingGroup, original: Group) -> dict[str, Any]:
    """What a replacement has once it is to stay: the limits, and for a copy the protection from being deleted."""
    wanted = {"MinSize": original["MinSize"], "MaxSize": original["MaxSize"]}
    guard = protection(original) if one.copied else ""
    return wanted | ({"DeletionProtection": guard} if guard else {})


def protection(group: Group) -> str:
    """The kind of protection from being deleted that a group has; empty for none."""
    found = group.get("DeletionProtection") or "none"
    return "" if found == "none" else str(found)


def emptied(group: Group) -> bool:
    return not group["MinSize"] and not group["DesiredCapacity"]


def balancers(group: Group) -> dict[str, list[str]]:
    """Target groups and classic load balancers attached to a group, however they were attached."""
    by_source = [one["Identifier"] for one in group.get("TrafficSources") or () if one.get("Type", "elbv2") == "elbv2"]
    groups = dict.fromkeys([*(group.get("TargetGroupARNs") or ()), *by_source])
    return {"TargetGroupARNs": list(groups), "LoadBalancerNames": list(group.get("LoadBalancerNames") or ())}


def holds(now: Pair, suspend: Sequence[str], *, keep: bool) -> frozenset[Arrangement]:
    """The arrangements that are in force. `suspend` is what the group's settings name."""
    found = {
        Arrangement.PROVISIONED: _provisioned(now, set(at_rest(suspend)), set(green(suspend))),
        Arrangement.PROMOTED: _promoted(now),
        Arrangement.RETIRED: now.replacement is not None and _let_go(now) and _retired(now, keep=keep),
        Arrangement.ABANDONED: _let_go(now),
    }
    return frozenset(one for one, held in found.items() if held)


def _provisioned(now: Pair, of_old: set[str], of_new: set[str]) -> bool:
    old, new = now.original, now.replacement
    if old is None or new is None or not now.ours or not now.sized:
        return False
    rest = of_old <= suspended(old) and of_new <= suspended(new)
    return rest and units(healthy(new)) >= new["DesiredCapacity"]


def _promoted(now: Pair) -> bool:
    old, new = now.original, now.replacement
    if old is None or new is None or not now.ours or not now.sized:
        return False
    return now.released and not now.unattached and REGISTERS in suspended(old)


def _let_go(now: Pair) -> bool:
    """Whether neither group carries a note of this deployment."""
    old = now.original
    return not now.ours and (now.replacement is None or now.released) and not (old and held_for(old, now.one.token))


def _retired(now: Pair, *, keep: bool) -> bool:
    if now.original is None:
        return True
    if keep:
        return not any(balancers(now.original).values())
    return not now.one.copied and emptied(now.original)
