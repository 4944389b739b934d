"""Two sets of instances that stand already and take turns: which is the original now, and what is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.creation import NO_INSTANCES
from shiftwork_coordinator.fleets.choosing import NAMED, Chosen
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.snapshot import TrafficSeen

CODE = "InvalidBlueGreenDeploymentConfigurationException"
TWICE = "InvalidTargetInstancesException"
TO_SERVE = frozenset({"healthy", "starting"})
"""What a balancer says of an instance that gets requests, or is about to."""


class Side(msgspec.Struct, frozen=True):
    """One of the two: `instances` run and have an agent; `fleet` is what EC2 told of them."""

    wanted: Instances
    instances: Sequence[Instance]
    fleet: Chosen = Chosen()

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.instances]


def turned(
    where: str, two: tuple[Side, Side], seen: Mapping[str, Sequence[TrafficSeen]], last: Set[str]
) -> tuple[Side, Side]:
    """Original and replacement. The original is what serves now; where nobody does, what the last good deployment left
    in service, else what the settings name first. Raises InvalidRequest where balancers cannot tell, or both serve."""
    one, other = two
    for name in (*one.names, *other.names):
        _refuse_untold(where, name, seen.get(name, ()))
    serving = [[name for name in side.names if _serves(seen.get(name, ()))] for side in two]
    if serving[0] and serving[1]:
        raise InvalidRequest(
            f"cannot tell which of the two sets of instances of {where} is the original: {_some(serving[0])} serve"
            f" ({one.wanted.text()}), and so do {_some(serving[1])} ({other.wanted.text()}); take those that are to be"
            " replaced next out of their load balancers",
            code=CODE,
        )
    if any(serving):
        return (one, other) if serving[0] else (other, one)
    return (other, one) if last & set(other.names) and not last & set(one.names) else (one, other)


def _refuse_untold(where: str, name: str, seen: Sequence[TrafficSeen]) -> None:
    if untold := next((one for one in seen if one.last.state == "unknown"), None):
        raise InvalidRequest(
            f"cannot tell which instances of {where} serve, so that the others are changed: {untold.balancer} cannot"
            f" tell of {name} ({untold.last.detail}); see that it answers and knows the instances of both sets",
            code="INVALID_LOAD_BALANCER",
        )


def _serves(seen: Sequence[TrafficSeen]) -> bool:
    return any(reading.last.state in TO_SERVE for reading in seen)


def settled(settings: GroupSettings, original: Side, replacement: Side) -> GroupSettings:
    """The settings with the original first."""
    assert settings.blue_green is not None
    both = replace(settings.blue_green, replacements=replacement.wanted)
    return replace(settings, instances=original.wanted, blue_green=both)


def joint(one: Chosen, other: Chosen) -> Chosen:
    return Chosen([*one.instances, *other.instances], {}, {**one.members, **other.members}, [*one.left, *other.left])


def refuse_absent(where: str, wanted: Instances, everybody: Sequence[Instance]) -> None:
    """Raises InvalidRequest that names those which a selector names and which have not joined."""
    joined = {row.name for row in everybody if row.revoked_at is None}
    if absent := [name for name in wanted.names if name not in joined]:
        raise InvalidRequest(
            f"cannot deploy to {where}: {_some(absent)} have no agent here; join them (`shiftwork bootstrap`), or take"
            " them out of `names`",
            code="AGENT_ISSUE",
        )


def refuse_shared(where: str, one: Side, other: Side) -> None:
    if both := [name for name in one.names if name in other.names]:
        raise InvalidRequest(
            f"cannot deploy to {where}: {_some(both)} are in both of its sets of instances ({one.wanted.text()} and"
            f" {other.wanted.text()}); correct `instances` or `blue_green.replacements`",
            code=TWICE,
        )


def refuse_unequal(where: str, original: Side, replacement: Side) -> None:
    """CodeDeploy's rule: as many replacements as originals. Otherwise the fleet would shrink, or grow, unnoticed."""
    has, stands = len(original.instances), len(replacement.instances)
    if has != stands:
        raise InvalidRequest(
            f"cannot deploy to {where}: {stands} instances are there to replace ({replacement.wanted.text()}) the {has}"
            f" originals ({original.wanted.text()}), and there must be as many; start and join some, or correct the"
            " tags or names that select them",
            code=NO_INSTANCES,
        )


def ended(where: str, settings: GroupSettings, original: Side) -> list[str]:
    """EC2's ids of the originals that are to be terminated in the end. Only what EC2 itself told to be meant is, since
    an agent could say that it is any instance; and none that an Auto Scaling group would launch again."""
    if settings.originals.then != "terminate":
        return []
    if wrong := next(_staying(original), ""):
        raise InvalidRequest(f"cannot deploy to {where} with `originals.then: terminate`: {wrong}", code=CODE)
    return [original.fleet.members[name].id for name in original.names]


def _staying(original: Side) -> Iterator[str]:
    members = original.fleet.members
    if elsewhere := [name for name in original.names if name not in members]:
        yield f"{_some(elsewhere)} are not selected by `ids` or `ec2_tags`; keep them"
    if owned := [f"{member.id} ({member.group})" for member in members.values() if member.group]:
        yield (
            f"{_some(owned)} belong to an Auto Scaling group, which would launch others; keep them, or use"
            " `blue_green: {green: swap}`, which empties the group"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
