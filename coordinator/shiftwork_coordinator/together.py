"""Several deployments as one: planned before their groups are there, created all or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_coordinator import applying, operations
from shiftwork_coordinator.auth import Caller, NotAllowed
from shiftwork_coordinator.drafting import CreateDeployment, Drafted, drafted
from shiftwork_coordinator.functions import UP_TO_DATE, refuse_unpublished
from shiftwork_coordinator.model.rows import Deployment, Group
from shiftwork_coordinator.model.settings import ApplicationFile
from shiftwork_coordinator.planning import plan, problems
from shiftwork_coordinator.shell.coordinator import Coordinator

MOST = 100


class CreateTogether(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    deployments: list[CreateDeployment]


class PlanTogether(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`text` are settings as for `apply`, which may not be applied yet."""

    file: str
    text: str
    deployments: list[CreateDeployment]


async def create(home: Coordinator, asked: list[CreateDeployment], who: str) -> list[Deployment]:
    """All of them, each in its own group, or none: they succeed together, or go back together."""
    _check(asked)
    for one in asked:
        refuse_unpublished(one.function)
    wanted = [await drafted(home, one, who) for one in asked]
    for draft, one in zip(wanted, asked, strict=True):
        await operations.refuse_second(home, draft.group, one.queue and operations.may_queue([draft]))
        operations.refuse_contended(home, draft)
    found = await asyncio.gather(*(problems(home, draft) for draft in wanted))
    if fatal := [p for each in found for p in each if p.fatal]:
        raise InvalidRequest(
            f"cannot deploy {len(asked)} groups together: " + "; ".join(p.message for p in fatal),
            code=operations.code_of(fatal, wanted[0].deployment),
        )
    bound = _bound(wanted)
    queue = asked[0].queue and operations.may_queue(bound)
    await operations.store_and_start(home, [(d.deployment, d.targets) for d in bound], "create", queue=queue)
    return [draft.deployment for draft in bound]


def _bound(wanted: list[Drafted]) -> list[Drafted]:
    ids = [draft.deployment.id for draft in wanted]

    def others(draft: Drafted) -> Deployment:
        return replace(draft.deployment, together=tuple(id for id in ids if id != draft.deployment.id))

    return [replace(draft, deployment=others(draft)) for draft in wanted]


def _check(asked: list[CreateDeployment]) -> None:
    if not 1 <= len(asked) <= MOST:
        raise InvalidRequest(f"cannot create {len(asked)} deployments together: give 1 to {MOST}")
    groups = [(one.application, one.group) for one in asked]
    if twice := next((group for group in groups if groups.count(group) > 1), None):
        raise InvalidRequest(f"cannot deploy to {'/'.join(twice)} twice at once: name each group once")
    if len({one.queue for one in asked}) > 1:
        raise InvalidRequest("cannot queue some of the deployments only: they begin together")


async def foresee(home: Coordinator, asked: PlanTogether, caller: Caller) -> dict[str, object]:
    """What `apply` and `create` would do. Touches nothing.

    Settings say as which role AWS is asked, so those that are not applied are planned for an admin only.
    """
    wanted = applying.read(asked.text, asked.file)
    changes = await applying.foreseen(home, asked.text, asked.file)
    if caller.role != "admin" and any(line.change != "unchanged" for line in changes):
        raise NotAllowed(f"cannot plan with settings of {asked.file} that are not applied: that takes the role admin")
    plans = [await _planned(home, one, wanted) for one in asked.deployments]
    return {"changes": [msgspec.to_builtins(line) for line in changes], "plans": plans}


async def _planned(home: Coordinator, asked: CreateDeployment, wanted: ApplicationFile) -> dict[str, Any]:
    """One deployment's plan; what forbids it is a problem of it, and not of the others."""
    known = await home.store.group(asked.application, asked.group)
    settings = wanted.groups.get(asked.group)
    group = known
    if settings is not None and asked.application == wanted.application:
        group = replace(known, settings=settings) if known else Group("", asked.application, asked.group, settings)
    about: dict[str, Any] = {"application": asked.application, "group": asked.group, "upToDate": False}
    try:
        return {**about, **await plan(home, asked, group)}
    except ShiftworkError as err:
        if err.code == UP_TO_DATE:
            return {**about, "upToDate": True, "problems": [], "message": err.message}
        return {**about, "problems": [{"message": err.message, "fatal": True, "instance": ""}]}
