"""ECS: task sets of a service with the EXTERNAL deployment controller, behind weighted listeners.

The replacement is made once, in the target group of every load balancer that is idle. Nothing is remembered between
calls: which task set is which, what listeners do and whether scaling is suspended is read anew each time, so every verb
may be repeated after a crash at any point. A task set to which a listener still sends is never deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from shiftwork_contract.appspec_ecs import ServiceShift
from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import Ecs, GroupSettings
from shiftwork_coordinator.ports import Problem, ShiftReading
from shiftwork_coordinator.shifters import arrangements, asking, ecs_check, failures, forwards, scaling
from shiftwork_coordinator.shifters.arrangements import Routes
from shiftwork_coordinator.shifters.forwards import main_route, test_route
from shiftwork_coordinator.shifters.task_sets import (
    ECS_SERVICE,
    Standing,
    TaskSet,
    new_task_set,
    short,
    standing,
    unsteady,
)


class EcsTaskSets:
    def __init__(self, settings: GroupSettings) -> None:
        self._ask = asking.of(settings.aws)
        self._most_failed = settings.ecs.most_failed_tasks if settings.ecs else Ecs("", "").most_failed_tasks
        self._keep = settings.originals.then == "keep"

    async def check(self, resources: Sequence[ServiceShift], *, gradual: bool = False) -> Sequence[Problem]:
        found = await asyncio.gather(*(ecs_check.problems(self._ask, one, gradual) for one in resources))
        return [problem for problems in found for problem in problems]

    # Weights

    async def set_weight(self, resource: ServiceShift, weight: float) -> None:
        now, routes = await self._look(resource)
        if weight > 0 and now.replacement is None:
            raise _gone(now, "the replacement")
        if weight < 1 and now.original is None:
            raise _gone(now, "the original")
        for pair in resource.pairs:
            await forwards.forward(self._ask, routes[main_route(pair)], *now.groups(pair), weight)

    # Arrangements

    async def arrange(self, resource: ServiceShift, wanted: Arrangement) -> None:
        now, routes = await self._look(resource)
        match wanted:
            case Arrangement.PROVISIONED:
                await self._provision(now, routes)
            case Arrangement.TESTED:
                await self._test(now, routes)
            case Arrangement.PROMOTED:
                await self._promote(now, now.replacement, "the replacement")
            case Arrangement.RETIRED:
                await self._retire(now, routes)
            case Arrangement.ABANDONED:
                await self._abandon(now, routes)

    async def _provision(self, now: Standing, routes: Routes) -> None:
        if now.replacement is None:
            first = now.original
            if first is None or not first.primary:
                raise _gone(now, "the original")
            if why := arrangements.occupied(now):
                raise InvalidRequest(f"cannot make a task set for {now.one.name}: {why}", code=ECS_SERVICE)
            await self._attach(now, routes)
            await self._ask("ecs", "create_task_set", **new_task_set(now, first))
        await scaling.suspend(self._ask, now)

    async def _attach(self, now: Standing, routes: Routes) -> None:
        """Brings the idle target groups behind their listeners, without requests: AWS makes no task set, and checks no
        health, in a group that no listener knows. A Network Load Balancer has its test listener for that."""
        for pair in now.one.pairs:
            old, new = now.groups(pair)
            if routes[main_route(pair)].network:
                await forwards.forward(self._ask, routes[test_route(pair)], old, new, 1.0)
            elif new not in routes[main_route(pair)].weights:
                await forwards.forward(self._ask, routes[main_route(pair)], old, new, 0.0)

    async def _test(self, now: Standing, routes: Routes) -> None:
        if now.replacement is None:
            raise _gone(now, "the replacement")
        for pair in now.one.pairs:
            if test_route(pair):
                await forwards.forward(self._ask, routes[test_route(pair)], *now.groups(pair), 1.0)

    async def _promote(self, now: Standing, which: TaskSet | None, name: str) -> None:
        if which is None:
            raise _gone(now, name)
        if not which.primary:
            await self._ask(
                "ecs", "update_service_primary_task_set", cluster=now.one.cluster, service=now.one.service,
                primaryTaskSet=which.arn,
            )  # fmt: skip

    async def _retire(self, now: Standing, routes: Routes) -> None:
        """The last step of a success: scaling as before, originals deleted."""
        if now.replacement is None or not now.replacement.primary:
            raise _gone(now, "the replacement as the primary")
        for pair in now.one.pairs:
            old, _ = now.groups(pair)
            using = [r for r in (main_route(pair), test_route(pair)) if r and routes[r].share(old) > 0]
            if using and not self._keep:
                raise Unavailable(f"cannot delete the originals of {now.one.name}: {short(using[0])} sends to them")
        await scaling.restore(self._ask, now)
        if now.original is not None and not self._keep:
            await self._delete(now, now.original)

    async def _abandon(self, now: Standing, routes: Routes) -> None:
        """The way back from anywhere."""
        await self._promote(now, now.original, "the original")
        for pair in now.one.pairs:
            old, new = now.groups(pair)
            for route in filter(None, (main_route(pair), test_route(pair))):
                if routes[route].share(old) < 1.0:
                    await forwards.forward(self._ask, routes[route], old, new, 0.0)
        await scaling.restore(self._ask, now)
        if now.replacement is not None:
            await self._delete(now, now.replacement)

    async def _delete(self, now: Standing, which: TaskSet) -> None:
        await self._ask(
            "ecs", "delete_task_set", cluster=now.one.cluster, service=now.one.service, taskSet=which.arn, force=True
        )

    # Readings

    async def readings(self, resources: Sequence[ServiceShift]) -> Mapping[str, ShiftReading]:
        found = await asyncio.gather(*(self._reading(one) for one in resources))
        return {one.name: reading for one, reading in zip(resources, found, strict=True)}

    async def _reading(self, one: ServiceShift) -> ShiftReading:
        try:
            now, routes = await self._look(one)
            weight, why = arrangements.weight(now, routes)
            unready, looping = await self._unready(now)
            wrong = arrangements.hopeless(now) or (unready if looping else "")
        except Unavailable as err:
            return ShiftReading(None, ready=False, detail=err.message)
        except ShiftworkError as err:
            return ShiftReading(None, ready=False, fatal=True, detail=err.message)
        holding = arrangements.holds(now, routes, unready, keep=self._keep)
        return ShiftReading(weight, not unready, holding, fatal=bool(wrong), detail=wrong or why or unready)

    async def _unready(self, now: Standing) -> tuple[str, bool]:
        """Why the replacement cannot take traffic, and whether its tasks stop again and again. Watched until it is the
        primary."""
        made = now.replacement
        if made is None:
            return "its task set is not there", False
        if made.primary:
            return "", False
        if not (why := unsteady(now)):
            return await self._unhealthy(now, made), False
        reasons = await failures.failures(self._ask, now, made)
        if len(reasons) >= self._most_failed:
            why = f"{len(reasons)} of its tasks stopped by themselves (the limit is {self._most_failed})"
            return f"{why}: {failures.told(reasons)}", True
        return why + (f"; stopped so far: {failures.told(reasons)}" if reasons else ""), False

    async def _unhealthy(self, now: Standing, made: TaskSet) -> str:
        for group in made.groups:
            told = await self._ask("elbv2", "describe_target_health", TargetGroupArn=group)
            states = [one["TargetHealth"] for one in told["TargetHealthDescriptions"]]
            healthy = sum(state["State"] == "healthy" for state in states)
            if healthy < now.desired:
                reasons = sorted({state.get("Reason", "") or state["State"] for state in states} - {"healthy"})
                text = f"{healthy} of {now.desired} targets in {short(group)} are healthy"
                return text + (f" ({', '.join(reasons)})" if reasons else "")
        return ""

    async def _look(self, one: ServiceShift) -> tuple[Standing, Routes]:
        now, routes = await asyncio.gather(look(self._ask, one), forwards.routes(self._ask, one.pairs))
        return now, routes


async def look(ask: asking.Ask, one: ServiceShift) -> Standing:
    return standing(
        one, await ask("ecs", "describe_services", cluster=one.cluster, services=[one.service], include=["TAGS"])
    )


def _gone(now: Standing, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot go on with service {now.one.service} of cluster {now.one.cluster}: {what} is not there; somebody else"
        " has changed its task sets",
        code=ECS_SERVICE,
    )
