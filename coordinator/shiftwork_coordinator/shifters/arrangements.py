"""What a look at a service and its listeners tells: the replacement's share, which arrangements are in force. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.shifters.forwards import Route, main_route, test_route
from shiftwork_coordinator.shifters.task_sets import Standing, short

Routes = Mapping[str, Route]


def weight(now: Standing, routes: Routes) -> tuple[float | None, str]:
    """The share of the replacement; None, with the reason, where load balancers disagree or others have a share."""
    shares: dict[str, float] = {}
    for pair in now.one.pairs:
        old, new = now.groups(pair)
        route = routes[main_route(pair)]
        if abs(route.share(old) + route.share(new) - 1.0) > 0.001:
            others = ", ".join(short(group) for group in route.weights if group not in (old, new)) or "nothing"
            return None, f"{short(route.arn)} sends to {others} besides {short(old)} and {short(new)}"
        shares[short(route.arn)] = route.share(new)
    if max(shares.values()) - min(shares.values()) > 0.001:
        return None, "load balancers disagree: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return next(iter(shares.values())), ""


def holds(now: Standing, routes: Routes, unready: str, *, keep: bool) -> frozenset[Arrangement]:
    """`unready`: why the replacement is not steady. `keep`: originals stay when they are no longer needed."""
    made, first = now.replacement, now.original
    found = set()
    if made is not None:
        if not unready:
            found.add(Arrangement.PROVISIONED)
        if tests_are_on(now, routes, 1):
            found.add(Arrangement.TESTED)
        if made.primary:
            found.add(Arrangement.PROMOTED)
            if now.note is None and (keep or first is None):
                found.add(Arrangement.RETIRED)
    elif first is not None and first.primary and now.note is None and is_back(now, routes):
        found.add(Arrangement.ABANDONED)
    return frozenset(found)


def tests_are_on(now: Standing, routes: Routes, side: int) -> bool:
    """Whether every test listener sends to the original (0) or the replacement (1) alone."""
    tested = [pair for pair in now.one.pairs if test_route(pair)]
    return all(routes[test_route(pair)].share(now.groups(pair)[side]) == 1.0 for pair in tested)


def is_back(now: Standing, routes: Routes) -> bool:
    """Whether all requests, tests too, go to the original."""
    mains = all(routes[main_route(pair)].share(now.groups(pair)[0]) == 1.0 for pair in now.one.pairs)
    return mains and tests_are_on(now, routes, 0)


def hopeless(now: Standing) -> str:
    """What a deployment cannot get over: somebody else has changed what it counts on. Empty when all is well."""
    made, first = now.replacement, now.original
    other = next((s for s in now.primaries if s not in (made, first)), None)
    if other is not None:
        return f"somebody else has made {other.arn} the primary task set of {now.one.name}"
    if first is None and not (made and made.primary):
        return f"the primary task set of {now.one.name} is gone"
    return occupied(now) if made is None else ""


def occupied(now: Standing) -> str:
    """What is in the target groups that the replacement needs; empty when they are idle."""
    for pair in now.one.pairs:
        if found := now.occupants(now.groups(pair)[1]):
            one = found[0]
            command = f"aws ecs delete-task-set --force --cluster {now.one.cluster} --service {now.one.service}"
            return (
                f"task set {one.arn} is still in the target group {short(now.groups(pair)[1])}, which the replacement"
                f" needs; delete it: {command} --task-set {one.arn}"
            )
    return ""
