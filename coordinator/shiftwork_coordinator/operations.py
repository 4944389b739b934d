"""What people do with deployments. The API, the AWS dialect and tests all come through here."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec import appspec_name
from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.place import parse_place
from shiftwork_contract.resource import revision_of
from shiftwork_contract.revision import Revision, Signed, parse_reference
from shiftwork_contract.statement import facts, fitting
from shiftwork_coordinator import alarms, functions, shifters
from shiftwork_coordinator.creation import (
    DEFAULTS,
    config_named,
    effective_config,
    matching,
    new_id,
    no_instances,
    refuse_impossible,
    refuse_other_platform,
    rollback_rows,
    targets_of,
)
from shiftwork_coordinator.engine.decision import Rollback
from shiftwork_coordinator.engine.itinerary import events_of
from shiftwork_coordinator.engine.plan import foresee
from shiftwork_coordinator.engine.rollback import shifted_back, unneeded
from shiftwork_coordinator.functions import FunctionWanted
from shiftwork_coordinator.model.config import DeploymentConfig
from shiftwork_coordinator.model.parameters import Value, values
from shiftwork_coordinator.model.rows import Deployment, Group, Instance, Request, Target
from shiftwork_coordinator.model.settings import Alarms
from shiftwork_coordinator.model.snapshot import Snapshot, TrafficSeen
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.ports import Problem
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import ACTIVE, Coordinator
from shiftwork_coordinator.shell.observe import CALL_LIMIT, TrafficObserver
from shiftwork_coordinator.shell.run import Run
from shiftwork_coordinator.shell.watch_alarms import AlarmObserver
from shiftwork_coordinator.store import Audit, Change, NoneActive, Put

FileExists = Literal["DISALLOW", "OVERWRITE", "RETAIN"]


class CreateDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A deployment as it is asked for. `queue` False: refused while another of the group is active.

    `ignore_alarms`: this one heeds none, to bring a fix while an alarm is red. `signed` goes with a revision that lies
    elsewhere; a pushed one has its signature already.
    """

    application: str
    group: str
    revision: str = ""
    config: str = ""
    description: str = ""
    ignore_application_stop_failures: bool = False
    file_exists_behavior: FileExists | None = None
    appspec: str = ""
    queue: bool = False
    parameters: dict[str, Value] = {}
    ignore_alarms: bool = False
    signed: Signed | None = None
    appspec_content: str = ""
    function: FunctionWanted | None = None


class Drafted(msgspec.Struct, frozen=True):
    """A deployment with its rows, not stored yet. `instances` are there where it is one to hosts."""

    deployment: Deployment
    targets: list[Target]
    group: Group
    instances: list[Instance] = []


async def create_deployment(home: Coordinator, asked: CreateDeployment, who: str) -> Deployment:
    """Creates and starts it. Raises InvalidRequest or Conflict before anything is stored or touched."""
    drafted = await _drafted(home, asked, who)
    await _refuse_second(home, drafted.group, asked.queue)
    problems = [p for p in await _problems(home, drafted) if p.fatal]
    if problems:
        raise InvalidRequest(
            f"cannot deploy to {asked.application}/{asked.group}: " + "; ".join(p.message for p in problems),
            code="INVALID_LAMBDA_CONFIGURATION" if drafted.deployment.platform == "Lambda" else "INVALID_LOAD_BALANCER",
        )
    return await _store_and_start(home, drafted.deployment, drafted.targets, "create", queue=asked.queue)


async def _store_and_start(
    home: Coordinator, deployment: Deployment, targets: list[Target], what: str, *also: Change, queue: bool
) -> Deployment:
    alone = (
        [] if queue else [NoneActive(deployment.group_id, f"another deployment of {deployment.group!r} began just now")]
    )
    about = f"{deployment.id} {deployment.application}/{deployment.group}"
    audit = Audit(deployment.created_by, f"deployment.{what}", about, home.clock.now())
    await home.store.write(*alone, Put(deployment), *(Put(t) for t in targets), audit, *also, epoch=home.epoch)
    await home.take_up(deployment)
    return deployment


async def _drafted(home: Coordinator, asked: CreateDeployment, who: str) -> Drafted:
    group = await home.store.group(asked.application, asked.group)
    if group is None:
        raise InvalidRequest(
            f"cannot find the deployment group {asked.application}/{asked.group}; `shiftwork apply` creates groups",
            code="DeploymentGroupDoesNotExistException",
        )
    custom = await home.store.configs()
    named = config_named(asked.config or group.settings.config or DEFAULTS[group.settings.platform], custom)
    config = effective_config(refuse_other_platform(named, group.settings.platform), group.settings)
    if group.settings.platform == "Lambda":
        spec = await functions.wanted(asked.appspec_content, asked.function, group.settings)
        deployment = replace(
            await _row(home, asked, who, group, config, revision_of(spec.resources)), **functions.columns(spec)
        )
        return Drafted(deployment, functions.targets(deployment, spec), group)
    everybody = await home.store.instances()
    instances = matching(everybody, group.settings.instances)
    if not instances:
        raise no_instances(group, everybody)
    refuse_impossible(config, len(instances))
    revision = _signed(asked, await resolve(home, asked.application, asked.revision))
    deployment = await _row(home, asked, who, group, config, revision)
    return Drafted(deployment, targets_of(deployment, instances), group, instances)


async def _row(
    home: Coordinator, asked: CreateDeployment, who: str, group: Group, config: DeploymentConfig, revision: Revision
) -> Deployment:
    settings = replace(group.settings, alarms=Alarms()) if asked.ignore_alarms else group.settings
    return Deployment(
        id=new_id(),
        serial=await home.store.next_serial(),
        application=asked.application,
        group=asked.group,
        group_id=group.id,
        revision=revision,
        config=config,
        settings=settings,
        created_at=home.clock.now(),
        created_by=who,
        description=asked.description,
        ignore_stop_failures=asked.ignore_application_stop_failures,
        file_exists_behavior=asked.file_exists_behavior or group.settings.file_exists_behavior,
        rollback_on=group.settings.rollback,
        previous_revision=group.last_good,
        parameters=values(f"{asked.application}/{asked.group}", group.settings.parameters, asked.parameters),
        previous_parameters=group.last_good_parameters,
        appspec=appspec_name(asked.appspec) if asked.appspec else "",
        previous_appspec=group.last_good_appspec,
    )


def _signed(asked: CreateDeployment, revision: Revision) -> Revision:
    """With the signature that came along. Raises InvalidRequest unless it fits; whose it is, hosts decide."""
    if asked.signed is None:
        return revision
    fitting(asked.signed, asked.application, revision.identity if revision.digest_of == "tree" else "")
    return replace(revision, signed=asked.signed)


async def resolve(home: Coordinator, application: str, text: str) -> Revision:
    """The pinned revision that a reference stands for."""
    if text.startswith(("s3:", "github:")):
        if home.sources is None:
            raise InvalidRequest(f"cannot look up {text!r}: this coordinator reaches no places outside")
        return await home.sources.pin(parse_place(text))
    reference = parse_reference(text)
    if isinstance(reference, Revision):
        return reference
    stored = await home.store.revision(application, reference)
    if stored is None:
        raise InvalidRequest(
            f"cannot find revision {reference} of application {application!r};"
            f" run `shiftwork push DIR --application {application}`",
            code="RevisionDoesNotExistException",
        )
    return stored.revision


async def _refuse_second(home: Coordinator, group: Group, queue: bool) -> None:
    active = await home.store.deployments(application=group.application, group=group.name, statuses=ACTIVE, limit=1)
    if active and not queue:
        raise Conflict(
            f"cannot start a second deployment: deployment group '{group.name}' already has the active deployment"
            f" '{active[0].id}'; wait for it, stop it, or ask for --queue",
            code="DeploymentLimitExceededException",
        )


# Plan


async def plan(home: Coordinator, asked: CreateDeployment) -> dict[str, object]:
    """What it would do, and what would go wrong. Touches nothing."""
    drafted = await _drafted(home, asked, "plan")
    deployment = drafted.deployment
    targets = {t.instance: t for t in drafted.targets}
    balancing = _balancing(home, deployment, drafted.instances)
    try:
        problems = await _problems(home, drafted)
        problems += _agent_problems(home, drafted.instances)
        problems += await _alarm_problems(deployment)
        snapshot = await _snapshot(home, deployment, targets, balancing)
    finally:
        await balancing.close()
    foreseen = foresee(snapshot, home.clock.now())
    return {
        "application": asked.application,
        "group": asked.group,
        "revision": msgspec.to_builtins(deployment.revision),
        "signed": msgspec.to_builtins(facts(signed)) if (signed := deployment.revision.signed) else None,
        "config": deployment.config.name,
        "parameters": deployment.parameters,
        "events": [str(event) for event in events_of(deployment)],
        "balancers": list(snapshot.balancers),
        "batches": [msgspec.to_builtins(batch) for batch in foreseen.batches],
        "steps": list(foreseen.steps),
        "problems": [{"message": p.message, "fatal": p.fatal, "instance": p.instance} for p in problems],
    }


async def _snapshot(
    home: Coordinator, deployment: Deployment, targets: dict[str, Target], balancing: Balancing
) -> Snapshot:
    health = await home.store.health(deployment.group_id)
    return Snapshot(
        deployment=deployment,
        targets=targets,
        epoch=home.epoch,
        request=Request(deployment.id),
        agents={name: home.agents.seen(name, deployment.group_id) for name in targets},
        traffic=await _seen_now(home, balancing),
        installed=await home.store.installed(deployment.group_id),
        health={name: row.healthy for name, row in health.items()},
        balancers=tuple(b.name for b in balancing.balancers),
    )


async def _seen_now(home: Coordinator, balancing: Balancing) -> dict[str, tuple[TrafficSeen, ...]]:
    observer = TrafficObserver(
        balancing.balancers, list(balancing.servers.values()), home.clock, lambda: False, lambda: None
    )
    for balancer in balancing.balancers:
        await observer.ask(balancer)
    return dict(observer.seen)


def _balancing(home: Coordinator, deployment: Deployment, instances: list[Instance]) -> Balancing:
    addresses = {i.name: i.address for i in instances}
    return Balancing(deployment.group_id, deployment.settings, addresses, home.agents, home.epoch)


async def _problems(home: Coordinator, drafted: Drafted) -> list[Problem]:
    if shifter := shifters.connect(drafted.deployment.settings):
        return list(await shifter.check([t.resource for t in drafted.targets if t.resource]))
    balancing = _balancing(home, drafted.deployment, drafted.instances)
    try:
        return await _checked(balancing)
    finally:
        await balancing.close()


async def _checked(balancing: Balancing) -> list[Problem]:
    found: list[Problem] = []
    for balancer in balancing.balancers:
        try:
            async with asyncio.timeout(CALL_LIMIT):
                found += await balancer.driver.check(list(balancing.servers.values()))
        except TimeoutError:
            found.append(Problem(f"{balancer.name} did not answer within {CALL_LIMIT:g} s"))
    return found


def _agent_problems(home: Coordinator, instances: list[Instance]) -> list[Problem]:
    away = [i for i in instances if not home.agents.connected(i.name)]
    return [Problem(f"the agent of {i.name} is not connected", fatal=False, instance=i.name) for i in away]


async def _alarm_problems(deployment: Deployment) -> list[Problem]:
    observer = AlarmObserver(deployment.settings.alarms, alarms.connect(deployment.settings.alarms), lambda: None)
    if deployment.settings.alarms.cloudwatch:
        await observer.ask()
    stops = {
        "ALARM": "is red: the deployment would be stopped; --ignore-alarms deploys nevertheless",
        "UNREADABLE": "cannot be read",
    }
    return [
        Problem(f"alarm {name} {stops[seen.state]} ({seen.reason})", fatal=False)
        for name, seen in observer.seen.items()
        if seen.state in stops
    ]


# Running deployments


async def stop_deployment(
    home: Coordinator, deployment_id: str, *, now: bool, rollback: bool | None, who: str
) -> Deployment:
    """Nothing new starts from here on; with `now` a running hook is ended too. Asking again may only sharpen it."""

    def sharper(request: Request) -> Request:
        stop: Literal["stop", "now"] = "now" if now or request.stop == "now" else "stop"
        wanted = request.stop_rollback if rollback is None else rollback
        return replace(request, stop=stop, stop_by=who, stop_rollback=wanted)

    run = await _running(home, deployment_id, "stop")
    await run.request(sharper)
    about = f"{deployment_id} now={now} rollback={rollback}"
    await home.store.write(Audit(who, "deployment.stop", about, home.clock.now()), epoch=home.epoch)
    return run.image.deployment


async def continue_deployment(home: Coordinator, deployment_id: str, *, who: str) -> Deployment:
    """Ends the wait or bake that it is in."""
    run = await _running(home, deployment_id, "continue")
    if not any(reason.code in ("BAKE", "READY", "SHIFT") for reason in home.reasons(deployment_id)):
        raise Conflict(
            f"cannot continue {deployment_id}: it is neither baking, nor between two steps, nor waiting for a person;"
            f" see `shiftwork why {deployment_id}`",
            code="DeploymentIsNotInReadyStateException",
        )
    at = home.clock.now()
    await run.request(lambda request: replace(request, proceed_at=at))
    await home.store.write(Audit(who, "deployment.continue", deployment_id, at), epoch=home.epoch)
    return run.image.deployment


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
    await _refuse_second(home, group, queue=False)
    targets = await home.store.targets(deployment_id)
    skip = await _unneeded(home, before, targets, before.previous_revision.identity)
    if len(skip) == len(targets):
        raise Conflict(
            f"cannot roll back {deployment_id}: every instance already has {before.previous_revision.identity}"
        )
    wanted = Rollback(await home.newly_signed(before.application, before.previous_revision), skip)
    serial = await home.store.next_serial()
    given = (before.previous_parameters, before.previous_appspec)
    deployment, rows = rollback_rows(before, targets, wanted, *given, serial, home.clock.now())
    deployment = replace(deployment, creator="user", created_by=who, settings=group.settings)
    also = Put(replace(before, rolled_back_by=deployment.id))
    return await _store_and_start(home, deployment, rows, "rollback", also, queue=False)


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
    return await _store_and_start(home, deployment, rows, "rollback", also, queue=False)


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
