"""What people do with deployments: create, stop, continue, roll back. The API and tests come through here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.resource import place_of
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.creation import (
    rollback_rows,
)
from shiftwork_coordinator.drafting import CreateDeployment, Drafted, drafted
from shiftwork_coordinator.engine.decision import Rollback
from shiftwork_coordinator.engine.rollback import shifted_back, unneeded
from shiftwork_coordinator.functions import refuse_unpublished
from shiftwork_coordinator.model.config import AllAtOnce
from shiftwork_coordinator.model.rows import Deployment, Group, Request, Target
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.planning import problems
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shell.coordinator import ACTIVE, Coordinator
from shiftwork_coordinator.shell.run import Run
from shiftwork_coordinator.store import Audit, Change, NoneActive, Put

REFUSED = {
    "Server": "INVALID_LOAD_BALANCER",
    "Lambda": "INVALID_LAMBDA_CONFIGURATION",
    "ECS": "INVALID_ECS_SERVICE",
}
"""The code of a refusal whose problem has none of its own."""
BY_WHAT_IS = frozenset({"ECS"})
"""Platforms whose deployments begin with what stands there at their creation: they cannot be queued. Blue/green of
instances is like them."""
WAITS = frozenset({"BAKE", "READY", "SHIFT", "ORIGINALS"})
"""Codes of the reasons that `continue` ends."""


async def create_deployment(home: Coordinator, asked: CreateDeployment, who: str) -> Deployment:
    """Creates and starts it. Raises InvalidRequest or Conflict before anything is stored or touched."""
    refuse_unpublished(asked.function)
    wanted = await drafted(home, asked, who)
    queue = asked.queue and may_queue([wanted])
    await refuse_second(home, wanted.group, queue)
    refuse_contended(home, wanted)
    await refuse_problems(home, wanted)
    note = " ignoring alarms" if asked.ignore_alarms else ""
    return await _begin(home, wanted.deployment, wanted.targets, "create", queue=queue, note=note)


async def refuse_problems(home: Coordinator, wanted: Drafted) -> None:
    """Raises InvalidRequest with everything that would go wrong."""
    fatal = [p for p in await problems(home, wanted) if p.fatal]
    if fatal:
        raise InvalidRequest(
            f"cannot deploy to {wanted.deployment.application}/{wanted.deployment.group}: "
            + "; ".join(p.message for p in fatal),
            code=code_of(fatal, wanted.deployment),
        )


def code_of(fatal: Sequence[Problem], deployment: Deployment) -> str:
    return next(filter(None, (problem.code for problem in fatal)), REFUSED[deployment.platform])


def may_queue(wanted: Sequence[Drafted]) -> bool:
    """Whether they may wait for another deployment: not what was drafted from how things stand now."""
    return not any(_by_what_is(one.group.settings) for one in wanted)


def _by_what_is(settings: GroupSettings) -> bool:
    return settings.platform in BY_WHAT_IS or settings.blue_green is not None


async def _begin(
    home: Coordinator,
    deployment: Deployment,
    targets: list[Target],
    what: str,
    *also: Change,
    queue: bool,
    note: str = "",
) -> Deployment:
    await store_and_start(home, [(deployment, targets)], what, *also, queue=queue, note=note)
    return deployment


async def store_and_start(
    home: Coordinator,
    wanted: Sequence[tuple[Deployment, list[Target]]],
    what: str,
    *also: Change,
    queue: bool,
    note: str = "",
) -> None:
    """All of them or none."""
    changes: list[Change] = []
    for deployment, targets in wanted:
        if not queue:
            began = f"another deployment of {deployment.group!r} began just now"
            changes.append(NoneActive(deployment.group_id, began))
        about = f"{deployment.id} {deployment.application}/{deployment.group}{note}"
        audit = Audit(deployment.created_by, f"deployment.{what}", about, home.clock.now())
        changes += [Put(deployment), *(Put(t) for t in targets), audit]
    await home.store.write(*changes, *also, epoch=home.epoch)
    for deployment, _ in wanted:
        await home.take_up(deployment)


async def refuse_second(home: Coordinator, group: Group, queue: bool) -> None:
    known = await home.store.deployments(application=group.application, group=group.name, statuses=ACTIVE, limit=None)
    active = [deployment for deployment in known if not deployment.apart]
    if active and not queue:
        raise Conflict(
            f"cannot start a second deployment: deployment group '{group.name}' already has the active deployment"
            f" '{active[0].id}'; wait for it or stop it"
            + ("" if _by_what_is(group.settings) else ", or ask for --queue"),
            code="DeploymentLimitExceededException",
        )


def refuse_contended(home: Coordinator, wanted: Drafted) -> None:
    """Two groups that each assert their own weights of one alias or service would take it from each other for ever."""
    ours = {place: target.instance for target in wanted.targets if (place := place_of(target.resource))}
    for run in home.runs.values():
        held = (
            {place_of(target.resource) for target in run.image.targets.values()} if _elsewhere(run, wanted) else set()
        )
        if both := sorted(ours.keys() & held):
            raise Conflict(
                f"cannot deploy {ours[both[0]]}: deployment {run.id} of {run.image.deployment.group} shifts its traffic"
                " just now; wait for it, or stop it",
                code="DeploymentLimitExceededException",
            )


def _elsewhere(run: Run, wanted: Drafted) -> bool:
    """Of another group, in the same account and region as far as the settings say."""
    theirs, ours = run.image.deployment, wanted.deployment
    return theirs.group_id != ours.group_id and theirs.settings.aws == ours.settings.aws


async def stop_deployment(
    home: Coordinator, deployment_id: str, *, now: bool, rollback: bool | None, who: str
) -> Deployment:
    """Nothing new starts from here on; with `now` a running hook is ended too. Asking again may only sharpen it. What
    was deployed together is stopped together."""

    def sharper(request: Request) -> Request:
        stop: Literal["stop", "now"] = "now" if now or request.stop == "now" else "stop"
        wanted = request.stop_rollback if rollback is None else rollback
        return replace(request, stop=stop, stop_by=who, stop_rollback=wanted)

    run = await _running(home, deployment_id, "stop")
    if rollback is False and (others := run.image.deployment.together):
        raise InvalidRequest(
            f"cannot stop {deployment_id} without rolling back: it was deployed together with {', '.join(others)}, and"
            " none of them may keep what it did; leave --no-rollback out"
        )
    for one in _with_companions(home, run):
        await one.request(sharper)
    about = f"{deployment_id} now={now} rollback={rollback}"
    await home.store.write(Audit(who, "deployment.stop", about, home.clock.now()), epoch=home.epoch)
    return run.image.deployment


async def continue_deployment(home: Coordinator, deployment_id: str, *, who: str) -> Deployment:
    """Ends the wait or bake that it is in, and those of what was deployed together with it."""
    run = await _running(home, deployment_id, "continue")
    waiting = [one for one in _with_companions(home, run) if _may_continue(home, one)]
    if not waiting:
        raise Conflict(
            f"cannot continue {deployment_id}: it is neither baking, nor between two steps, nor waiting for a person,"
            f" nor keeping originals; see `shiftwork why {deployment_id}`",
            code="DeploymentIsNotInReadyStateException",
        )
    at = home.clock.now()
    for one in waiting:
        await one.request(lambda request: replace(request, proceed_at=at))
        await home.store.write(Audit(who, "deployment.continue", one.id, at), epoch=home.epoch)
    return run.image.deployment


def _may_continue(home: Coordinator, run: Run) -> bool:
    return any(reason.code in WAITS for reason in home.reasons(run.id))


def _with_companions(home: Coordinator, run: Run) -> list[Run]:
    """The deployment, and those that were created with it and have not ended: they are steered as one."""
    return [run, *(home.runs[id] for id in run.image.deployment.together if id in home.runs)]


async def rollback_deployment(home: Coordinator, deployment_id: str, *, who: str) -> Deployment:
    """Puts the group back to what it had before this deployment, as a new deployment; a running one is stopped."""
    before = await _known(home, deployment_id)
    if before.status not in ENDED:
        return await stop_deployment(home, deployment_id, now=False, rollback=True, who=who)
    if before.appspec_content:
        return await _shift_back(home, before, who)
    if before.previous_revision is None:
        raise Conflict(
            f"cannot roll back {deployment_id}: the group had no successful revision before it", code="REVISION_MISSING"
        )
    group = await home.store.group_by_id(before.group_id)
    if group is None:
        raise Conflict(f"cannot roll back {deployment_id}: its group is gone")
    await refuse_second(home, group, queue=False)
    if before.deployment_type == "BLUE_GREEN":
        return await _back_anew(home, before, group, before.previous_revision, who)
    targets = await home.store.targets(deployment_id)
    members = {name: target for name, target in targets.items() if not target.role}
    skip = await _unneeded(home, before, members, before.previous_revision.identity)
    if len(skip) == len(members):
        raise Conflict(
            f"cannot roll back {deployment_id}: every instance already has {before.previous_revision.identity}"
        )
    wanted = Rollback(await home.newly_signed(before.application, before.previous_revision), skip)
    serial = await home.store.next_serial()
    given = (before.previous_parameters, before.previous_appspec)
    deployment, rows = rollback_rows(before, targets, wanted, *given, serial, home.clock.now())
    deployment = replace(deployment, creator="user", created_by=who, settings=group.settings)
    also = Put(replace(before, rolled_back_by=deployment.id))
    return await _begin(home, deployment, rows, "rollback", also, queue=False)


async def _back_anew(home: Coordinator, before: Deployment, group: Group, revision: Revision, who: str) -> Deployment:
    """New instances with what was there before: those of then are gone. It does not try a share first."""
    asked = CreateDeployment(before.application, before.group, ignore_alarms=True)
    revision = await home.newly_signed(before.application, revision)
    wanted = await drafted(home, asked, who, group, revision)
    refuse_contended(home, wanted)
    await refuse_problems(home, wanted)
    deployment = replace(
        wanted.deployment, rollback_of=before.id, description=f"rollback of {before.id}",
        parameters=before.previous_parameters, appspec=before.previous_appspec,
        config=replace(before.config, traffic=AllAtOnce()),
    )  # fmt: skip
    also = Put(replace(before, rolled_back_by=deployment.id))
    return await _begin(home, deployment, wanted.targets, "rollback", also, queue=False)


async def _shift_back(home: Coordinator, before: Deployment, who: str) -> Deployment:
    """The traffic of every resource back to where it was, all at once."""
    targets = await home.store.targets(before.id)
    wanted, note = shifted_back(targets)
    if wanted is None:
        raise Conflict(f"cannot roll back {before.id}: {note}")
    serial = await home.store.next_serial()
    deployment, rows = rollback_rows(before, targets, wanted, before.parameters, "", serial, home.clock.now())
    deployment = replace(deployment, creator="user", created_by=who)
    also = Put(replace(before, rolled_back_by=deployment.id))
    return await _begin(home, deployment, rows, "rollback", also, queue=False)


async def answer_hook(home: Coordinator, hook_id: str, status: Literal["Succeeded", "Failed"], who: str) -> None:
    """A hook function's word. The first one counts."""
    deployment_id, _, rest = hook_id.partition(".")
    instance, _, event = rest.rpartition(".")
    run = home.runs.get(deployment_id)
    known = run.image.hook_runs.get((instance, event)) if run else None
    if run is None or known is None:
        raise InvalidRequest(
            f"cannot take the answer for {hook_id[:100]!r}: no running deployment waits for it",
            code="InvalidLifecycleEventHookExecutionIdException",
        )
    if known.status:
        raise Conflict(
            f"cannot take the answer for {hook_id!r}: it was answered {known.status} already",
            code="LifecycleEventAlreadyCompletedException",
        )
    now = home.clock.now()
    invoked = known.invoked_at or now
    await run.answered(replace(known, status=status, answered_at=now, invoked_at=invoked, message=f"told by {who}"))
    await home.store.write(Audit(who, "hook.answer", f"{hook_id} {status}", now), epoch=home.epoch)


async def _unneeded(home: Coordinator, before: Deployment, targets: dict[str, Target], identity: str) -> dict[str, str]:
    health = {name: row.healthy for name, row in (await home.store.health(before.group_id)).items()}
    return unneeded(targets, await home.store.installed(before.group_id), identity, health)


async def _known(home: Coordinator, deployment_id: str) -> Deployment:
    run = home.runs.get(deployment_id)
    found = run.image.deployment if run else await home.store.deployment(deployment_id)
    if found is None:
        raise InvalidRequest(
            f"cannot find the deployment {deployment_id!r}; `shiftwork list` shows them",
            code="DeploymentDoesNotExistException",
        )
    return found


async def _running(home: Coordinator, deployment_id: str, verb: str) -> Run:
    run = home.runs.get(deployment_id)
    if run is None:
        ended = await _known(home, deployment_id)
        raise Conflict(
            f"cannot {verb} {deployment_id}: it is already {ended.status}", code="DeploymentAlreadyCompletedException"
        )
    return run
