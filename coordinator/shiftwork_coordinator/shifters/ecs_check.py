"""What would go wrong with the deployment of a service, found before anything is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from shiftwork_contract.appspec_ecs import Pair, ServiceShift
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shifters import arrangements, forwards
from shiftwork_coordinator.shifters.arrangements import Routes
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.forwards import main_route, test_route
from shiftwork_coordinator.shifters.task_sets import BALANCING, ECS_SERVICE, Standing, short, standing

REVISION = "INVALID_REVISION"
CONTROLLER = (
    "its deployment controller is {0}, and AWS offers the calls that a deployment needs for EXTERNAL only; make a"
    " service with that controller (`shiftwork ecs init {1}/{2}` prints how)"
)


async def problems(ask: Ask, one: ServiceShift, gradual: bool) -> list[Problem]:
    """`gradual`: it is to be a canary, or linear."""
    try:
        now, routes, definition = await asyncio.gather(
            service(ask, one), forwards.routes(ask, one.pairs), task_definition(ask, one.target)
        )
        found = [*_service(now), *_definition(one, definition)]
        if not any(problem.fatal for problem in found):
            found += _balancers(now, routes, gradual)
    except ShiftworkError as err:
        return [Problem(err.message, instance=one.name, code=err.code)]
    return [Problem(_named(one, p.message), p.fatal, one.name, p.code) for p in found]


def _named(one: ServiceShift, text: str) -> str:
    return f"service {one.service} of cluster {one.cluster}: {text}"


async def service(ask: Ask, one: ServiceShift) -> Standing:
    """Raises InvalidRequest for what is not there, and for a deployment controller that is not EXTERNAL."""
    try:
        found = await ask("ecs", "describe_services", cluster=one.cluster, services=[one.service], include=["TAGS"])
    except InvalidRequest as err:
        if err.code == "ClusterNotFoundException":
            raise InvalidRequest(
                f"cannot deploy to service {one.service}: there is no cluster {one.cluster}; correct `ecs.cluster` in"
                " the group, or `aws.region`",
                code=ECS_SERVICE,
            ) from err
        raise
    now = standing(one, found)
    controller = (now.described.get("deploymentController") or {}).get("type", "ECS")
    if controller != "EXTERNAL":
        text = CONTROLLER.format(controller, one.cluster, one.service)
        raise InvalidRequest(f"cannot deploy to {_named(one, text)}", code=ECS_SERVICE)
    return now


async def task_definition(ask: Ask, name: str) -> Mapping[str, Any]:
    """Raises InvalidRequest when there is none of that name."""
    try:
        found = await ask("ecs", "describe_task_definition", taskDefinition=name)
    except InvalidRequest as err:
        if err.code == "ClientException":
            text = f"cannot deploy task definition {name}: there is none; register it, or correct the AppSpec"
            raise InvalidRequest(text, code=REVISION) from err
        raise
    told: Mapping[str, Any] = found["taskDefinition"]
    return told


def _service(now: Standing) -> Iterator[Problem]:
    if len(now.primaries) != 1:
        has = "no primary task set" if not now.primaries else f"{len(now.primaries)} primary task sets"
        text = f"it has {has}; make one the primary: aws ecs update-service-primary-task-set"
        yield Problem(text, code=ECS_SERVICE)
    if now.note is not None:
        text = "a deployment that was interrupted left its scaling suspended; this one restores it at its end"
        yield Problem(text, fatal=False)
    if not now.desired:
        yield Problem("its desired count is 0: no task will run", fatal=False)


def _definition(one: ServiceShift, found: Mapping[str, Any]) -> Iterator[Problem]:
    name = short(one.target)
    if found.get("status") == "INACTIVE":
        yield Problem(f"task definition {name} is not active any more; register a new revision", code=REVISION)
    containers = {c["name"]: c for c in found.get("containerDefinitions", [])}
    if one.container not in containers:
        known = ", ".join(containers)
        text = f"task definition {name} has no container {one.container!r}, it has {known}; correct ContainerName"
        yield Problem(text, code=REVISION)
        return
    ports = [m.get("containerPort") for m in containers[one.container].get("portMappings", [])]
    if one.port not in ports:
        known = ", ".join(map(str, ports)) or "none"
        text = f"container {one.container} of {name} has no port {one.port}, it has {known}; correct ContainerPort"
        yield Problem(text, code=REVISION)


def _balancers(now: Standing, routes: Routes, gradual: bool) -> Iterator[Problem]:
    for pair in now.one.pairs:
        old, new = now.groups(pair)
        yield from _network(pair, routes, gradual)
        for route in filter(None, (main_route(pair), test_route(pair))):
            if routes[route].share(old) < 1.0:
                yield Problem(_elsewhere(routes, route, old, new), code=BALANCING)
    if why := arrangements.occupied(now):
        yield Problem(why, code=ECS_SERVICE)


def _network(pair: Pair, routes: Routes, gradual: bool) -> Iterator[Problem]:
    if not routes[main_route(pair)].network:
        return
    if gradual:
        text = f"{pair.listener} is of a Network Load Balancer, which moves all at once; use ECSAllAtOnce"
        yield Problem(text, code=BALANCING)
    if not test_route(pair):
        text = (
            f"{pair.listener} is of a Network Load Balancer, which needs a test listener, so that the idle target group"
            " is behind a listener; add `test_listener`"
        )
        yield Problem(text, code=BALANCING)


def _elsewhere(routes: Routes, route: str, old: str, new: str) -> str:
    sends = {short(g): w for g, w in routes[route].weights.items() if w} or "nowhere"
    text = f"{route} must send everything to {short(old)}, where the primary task set is, and sends to {sends}"
    if routes[route].share(old) + routes[route].share(new) == 1.0:
        return f"{text}: left by an interrupted deployment? Set it back, then deploy again"
    return f"{text}; correct `ecs.load_balancers`, or the listener"
