"""Blue/green over Auto Scaling groups: a replacement is given instances, takes over, and the original goes.

The replacement is a copy that is made, or a second group that stands at size 0. Nothing is remembered between calls:
tags on both groups, written before what they speak of is changed, tell whoever comes next what is to be done and what
is to be put back. A group is given instances last, and an original is deleted only when its copy lacks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.ports import Problem, ShiftReading
from shiftwork_coordinator.shifters import (
    asking,
    blue_green_check,
    resting,
    scaling_asking,
    scaling_changes,
    scaling_copy,
    scaling_pair,
    weighing,
)
from shiftwork_coordinator.shifters.failures import told
from shiftwork_coordinator.shifters.resting import CODE, Group, name_of, suspended
from shiftwork_coordinator.shifters.scaling_pair import MARK, REGISTERS, Pair, healthy, units

MOST_FAILED = 3
"""Launches that failed one after the other, after which a replacement is given up."""


class BlueGreen:
    """ports.TrafficShifter for a group with a replacement. Instances come into traffic, and leave it, by the load
    balancers' drivers, between PROVISIONED and PROMOTED; where the group has weights, those say how much they get."""

    def __init__(self, settings: GroupSettings) -> None:
        self._ask = asking.of(settings.aws)
        self._settings = settings
        self._keep = settings.originals.then == "keep"
        self._suspend = settings.autoscaling.suspend
        self._weights = settings.weights

    async def check(self, resources: Sequence[ScalingGroup], *, gradual: bool = False) -> Sequence[Problem]:
        return await blue_green_check.problems(self._ask, self._settings, resources)

    async def set_weight(self, resource: ScalingGroup, weight: float) -> None:
        if self._weights is None:
            why = "its load balancers are asked"
            raise InvalidRequest(f"cannot shift the traffic of {resource.name}: {why}", code=CODE)
        now = await self._look(resource)
        if weight > 0:
            _there(now.replacement, resource.replacement)
        if weight < 1:
            _there(now.original, resource.group)
        await weighing.give(self._ask, self._weights, weight)

    async def _look(self, one: ScalingGroup) -> Pair:
        return await scaling_asking.look(self._ask, one, self._weights)

    # Arrangements

    async def arrange(self, resource: ScalingGroup, wanted: Arrangement) -> None:
        now = await self._look(resource)
        match wanted:
            case Arrangement.PROVISIONED:
                await self._provision(now)
            case Arrangement.PROMOTED:
                await self._promote(now)
            case Arrangement.RETIRED:
                await self._retire(now)
            case Arrangement.ABANDONED:
                await self._abandon(now)
            case Arrangement.TESTED:
                raise InvalidRequest(f"cannot test {resource.name}: it has no test traffic", code=CODE)

    async def _provision(self, now: Pair) -> None:
        old = _there(now.original, now.one.group)
        if self._weights:
            await weighing.attach(self._ask, self._weights)
        if not now.ours:
            await (self._copy(now, old) if now.one.copied else self._take(now))
            now = await self._look(now.one)
        new = _there(now.replacement, now.one.replacement)
        await resting.hold(self._ask, new, now.one.token, scaling_pair.green(self._suspend), self._for_good(now))
        if now.one.copied and not now.sized:
            await self._complete(now, old, new, late=False)
        await resting.hold(self._ask, old, now.one.token, resting.at_rest(self._suspend))
        if not now.sized:
            await scaling_changes.update(self._ask, new, **scaling_pair.size(old))

    def _for_good(self, now: Pair) -> set[str]:
        """What others have suspended on the original is suspended on its copy, and stays so."""
        old = now.original if now.one.copied else None
        return suspended(old) - set(resting.note_of(old)[1:]) if old is not None else set()

    async def _copy(self, now: Pair, old: Group) -> None:
        """The copy, with both its notes and without instances."""
        one = now.one
        if now.replacement is not None:
            raise InvalidRequest(blue_green_check.taken(one), code=CODE)
        if resting.held_for(old, one.token):
            raise _gone(one.replacement)
        scaling_pair.size(old)
        rest = [name for name in scaling_pair.green(self._suspend) if name not in self._for_good(now)]
        tags = [(MARK, one.token), *([(resting.NOTE, " ".join([one.token, *rest]))] if rest else [])]
        made = scaling_copy.creation(old, one.replacement, tags)
        await self._ask("autoscaling", "create_auto_scaling_group", **made)

    async def _take(self, now: Pair) -> None:
        """A standby is marked, with what it was. The mark of one that ended without a word is taken over."""
        new = _there(now.replacement, now.one.replacement)
        if not scaling_pair.emptied(new):
            raise InvalidRequest(blue_green_check.not_empty(new), code=CODE)
        before = now.mark[1:2] or [str(new["MaxSize"])]
        last = await scaling_asking.last_activity(self._ask, now.one.replacement)
        mark = resting.tag(now.one.replacement, MARK, " ".join([now.one.token, *before, last]))
        await self._ask("autoscaling", "create_or_update_tags", Tags=[mark])

    async def _complete(self, now: Pair, old: Group, new: Group, *, late: bool) -> None:
        """Gives the copy what it lacks."""
        for part in (await scaling_asking.lacking(self._ask, old, new, now.instead)).values():
            if part.operation and (late or not part.late):
                await self._ask("autoscaling", part.operation, **part.parameters)

    async def _promote(self, now: Pair) -> None:
        """What the replacement launches from here on gets traffic by itself, what the original does gets none."""
        old, new = _there(now.original, now.one.group), _there(now.replacement, now.one.replacement)
        if not now.ours or not now.sized:
            raise _gone(now.one.replacement)
        if not now.released and REGISTERS in resting.note_of(new):
            await resting.resume(self._ask, new, [REGISTERS])  # before it is attached, so that nothing is left out
        await scaling_changes.attach(self._ask, new, now.unattached)
        if now.one.copied and not now.released:
            await self._complete(now, old, new, late=True)
        await scaling_changes.update(self._ask, new, **scaling_pair.final(now.one, old))
        await resting.let_go(self._ask, new, now.one.token)
        await resting.hold(self._ask, old, now.one.token, [*resting.at_rest(self._suspend), REGISTERS])

    async def _retire(self, now: Pair) -> None:
        if not now.ours:
            if Arrangement.RETIRED not in self._holds(now):
                raise _gone(now.one.replacement)
            return
        new = _there(now.replacement, now.one.replacement)
        if now.original is not None:
            await self._end(now, now.original, new)
        await scaling_changes.untag(self._ask, new, MARK)

    async def _end(self, now: Pair, old: Group, new: Group) -> None:
        """Of the original, once the replacement serves."""
        if not now.released or now.unattached or not healthy(new):
            why = "has no healthy instance" if not healthy(new) else "has not taken over"
            raise Unavailable(f"cannot let the Auto Scaling group {now.one.group} go: {now.one.replacement} {why}")
        await self._refuse_served(0, now.one.group)
        if self._keep:
            await scaling_changes.detach(self._ask, old)
        elif now.one.copied:
            await self._refuse_loss(now, old, new)
            return await scaling_changes.delete(self._ask, old)
        else:
            await scaling_changes.empty(self._ask, old, int(old["MaxSize"]))
        return await resting.let_go(self._ask, old, now.one.token)

    async def _refuse_served(self, side: int, group: str) -> None:
        """Nothing goes to which a listener still sends."""
        if self._weights:
            await weighing.refuse_served(self._ask, self._weights, side, f"let the Auto Scaling group {group} go")

    async def _refuse_loss(self, now: Pair, old: Group, new: Group) -> None:
        """What was added to the original meanwhile is not lost with it."""
        lost = [*scaling_copy.differing(old, new), *await scaling_asking.lacking(self._ask, old, new, now.instead)]
        if lost:
            raise InvalidRequest(
                f"cannot delete the Auto Scaling group {name_of(old)}: {name_of(new)}, which takes over from it, lacks"
                f" or has otherwise: {', '.join(lost)}; give it these, or set `originals.then: keep`",
                code=CODE,
            )

    async def _abandon(self, now: Pair) -> None:
        """The way back from anywhere. A replacement whose original is gone is all that is left, and stays."""
        if now.original is not None:
            await resting.let_go(self._ask, now.original, now.one.token)
        if now.replacement is None or not now.ours:
            return
        if now.original is not None:
            await self._refuse_served(1, now.one.replacement)
        if now.original is not None and now.one.copied:
            await scaling_changes.delete(self._ask, now.replacement)
            return
        if now.original is not None:
            await scaling_changes.empty(self._ask, now.replacement, int(now.mark[1]))
        await resting.let_go(self._ask, now.replacement, now.one.token)
        await scaling_changes.untag(self._ask, now.replacement, MARK)

    # Readings

    async def readings(self, resources: Sequence[ScalingGroup]) -> Mapping[str, ShiftReading]:
        return {one.name: await self._reading(one) for one in resources}

    async def _reading(self, one: ScalingGroup) -> ShiftReading:
        try:
            now = await self._look(one)
            why, fatal = await self._unready(now)
            share, elsewhere, attached = await self._share()
        except Unavailable as err:
            return ShiftReading(None, ready=False, detail=err.message)
        except ShiftworkError as err:
            return ShiftReading(None, ready=False, fatal=True, detail=err.message)
        members = tuple(i["InstanceId"] for i in healthy(now.replacement)) if now.ours and now.replacement else ()
        holds = self._holds(now) - (frozenset() if attached else {Arrangement.PROVISIONED})
        return ShiftReading(share, not why, holds, fatal, why or elsewhere, members)

    async def _share(self) -> tuple[float | None, str, bool]:
        """The replacement's share by weight; why there is none to tell; whether its target group has a weight."""
        if self._weights is None:
            return None, "", True
        route = await weighing.route(self._ask, self._weights)
        return *weighing.weight(route, self._weights), self._weights.target_groups[1] in route.weights

    def _holds(self, now: Pair) -> frozenset[Arrangement]:
        return scaling_pair.holds(now, self._suspend, keep=self._keep)

    async def _unready(self, now: Pair) -> tuple[str, bool]:
        """Why the replacement cannot take traffic, and whether it never will. Its launches are watched until it has
        its instances."""
        if now.original is None and now.ours:
            return f"the Auto Scaling group {now.one.group} is gone, {now.one.replacement} is left as it is", False
        if now.replacement is None or not now.ours or not now.released:
            return await self._short(now)
        return "", False

    async def _short(self, now: Pair) -> tuple[str, bool]:
        name, new = now.one.replacement, now.replacement
        if new is None or not now.ours or not now.sized:
            return f"the Auto Scaling group {name} has not been given instances", False
        has, wanted = units(healthy(new)), new["DesiredCapacity"]
        if has >= wanted:
            return "", False
        text = f"{has} of {wanted} instances of the Auto Scaling group {name} are in service and healthy"
        since = now.mark[2] if len(now.mark) > 2 else ""
        reasons = await scaling_asking.failed_launches(self._ask, name, since)
        return text + (f"; launches failed: {told(reasons)}" if reasons else ""), len(reasons) >= MOST_FAILED


def _there(group: Group | None, name: str) -> Group:
    if group is None:
        raise InvalidRequest(resting.not_there(name), code=CODE)
    return group


def _gone(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot go on with the Auto Scaling group {name}: it is not as this deployment left it; somebody else has"
        " changed or deleted it",
        code=CODE,
    )
