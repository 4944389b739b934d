"""Who a deployment is to: the joined instances that a group means, in one set or in two that take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from shiftwork_contract.errors import Unavailable
from shiftwork_contract.messages import Unwatch, Watch
from shiftwork_coordinator import fleets, turns
from shiftwork_coordinator.creation import LOOKS, matching
from shiftwork_coordinator.engine.batches import natural
from shiftwork_coordinator.fleets.choosing import Chosen, tied
from shiftwork_coordinator.model.rows import Group, Instance, Target
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.model.snapshot import TrafficSeen
from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.scaling_groups import asked_for, oriented
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.shifters import weighing
from shiftwork_coordinator.turns import Side

RESOLVE_LIMIT = 60.0
"""Seconds for all pages of EC2's answers together."""
GATE_EVERY, GATE_LOOKS = 0.02, 250
"""Seconds between two looks whether agents have told how their gates stand, and how many looks: 5 s. One that is silent
then is unknown, which is refused by name."""


class Meant(msgspec.Struct, frozen=True):
    """`settings` are the group's with the originals as `instances`. `ends` are EC2's ids of originals that are
    terminated in the end. `fleet` is what EC2 told, of both sets where there are two."""

    settings: GroupSettings
    instances: list[Instance]
    fleet: Chosen
    replacements: Sequence[Instance] = ()
    ends: Sequence[str] = ()


async def meant(home: Coordinator, group: Group, everybody: Sequence[Instance]) -> Meant:
    """Raises InvalidRequest for what no deployment could be to; the load balancers are asked only where two sets take
    turns."""
    if len(group.settings.selectors) > 1:
        return await _of_two(home, group, everybody)
    fleet = await _fleet(group, asked_for(group.settings), everybody)
    settings = await weighing.oriented(oriented(group.settings, {m.group for m in fleet.members.values()}))
    return Meant(settings, _union(matching(everybody, settings.instances), fleet), fleet)


async def _of_two(home: Coordinator, group: Group, everybody: Sequence[Instance]) -> Meant:
    where = f"{group.application}/{group.name}"
    one, other = [await _side(group, wanted, everybody) for wanted in group.settings.selectors]
    turns.refuse_shared(where, one, other)
    seen = await _seen(home, group, [*one.instances, *other.instances])
    original, replacement = turns.turned(where, (one, other), seen, await _last(home, group))
    turns.refuse_unequal(where, original, replacement)
    ends = turns.ended(where, group.settings, original)
    settings = turns.settled(group.settings, original, replacement)
    both = turns.joint(original.fleet, replacement.fleet)
    return Meant(settings, list(original.instances), both, replacement.instances, ends)


async def _side(group: Group, wanted: Instances, everybody: Sequence[Instance]) -> Side:
    turns.refuse_absent(f"{group.application}/{group.name}", wanted, everybody)
    fleet = await _fleet(group, wanted, everybody)
    return Side(wanted, _union(matching(everybody, wanted), fleet), fleet)


async def _seen(home: Coordinator, group: Group, instances: Iterable[Instance]) -> dict[str, tuple[TrafficSeen, ...]]:
    """How balancers see them; nothing of those whose gate was never made, to which they cannot send."""
    targets = [Target("", one.name, one.address, one.cloud_id) for one in instances]
    balancing = Balancing(group.id, group.settings, targets, home.agents, home.epoch)
    try:
        shut = await _gateless(home, group, list(balancing.servers)) if balancing.has_gate else set()
        seen = await balancing.seen_now(home.clock)
    finally:
        await balancing.close()
    return {name: readings for name, readings in seen.items() if name not in shut}


async def _gateless(home: Coordinator, group: Group, names: Sequence[str]) -> set[str]:
    """Whose agent says that it has no gate for the group. Asked are those who have told of none since they connected;
    while a deployment of the group runs, it does that."""
    silent = [name for name in names if home.agents.seen(name, group.id).gate is None]
    if not silent or _deploys(home, group):
        return set()
    asked = await home.store.next_serial() * LOOKS
    there = [name for name in silent if home.agents.send(name, Watch(home.epoch, group.id, asked))]
    for _ in range(GATE_LOOKS):
        if all(home.agents.seen(name, group.id).asked >= asked for name in there):
            break
        await asyncio.sleep(GATE_EVERY)
    if not _deploys(home, group):
        for name in there:
            home.agents.send(name, Unwatch(home.epoch, group.id))
    found = {name: home.agents.seen(name, group.id) for name in there}
    return {name for name, seen in found.items() if seen.asked >= asked and seen.gate is None}


def _deploys(home: Coordinator, group: Group) -> bool:
    return any(run.image.deployment.group_id == group.id for run in home.runs.values())


async def _last(home: Coordinator, group: Group) -> set[str]:
    """Whom the last good deployment left in service."""
    targets = await home.store.targets(group.last_good_deployment)
    served = [target for target in targets.values() if target.role in ("", "replacement")]
    return {target.instance for target in served if target.status is TargetStatus.SUCCEEDED}


async def _fleet(group: Group, wanted: Instances, everybody: Sequence[Instance]) -> Chosen:
    where = f"{group.application}/{group.name}"
    if not wanted.in_ec2:
        return Chosen()
    try:
        async with asyncio.timeout(RESOLVE_LIMIT):
            members = await fleets.connect(group.settings.aws).members(wanted)
    except TimeoutError:
        raise Unavailable(
            f"cannot deploy to {where}: EC2 did not tell its instances within {RESOLVE_LIMIT:g} s"
        ) from None
    found = tied(where, members, everybody)
    return found if group.settings.blue_green is None else msgspec.structs.replace(found, stopped={})


def _union(joined: Iterable[Instance], fleet: Chosen) -> list[Instance]:
    """Each once, in natural order; those that stand still are targets of another kind."""
    each = {row.name: row for row in (*joined, *fleet.instances) if row.name not in fleet.stopped}
    return sorted(each.values(), key=lambda row: natural(row.name))
