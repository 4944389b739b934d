"""decide(snapshot, now) -> Decision: the whole of a deployment's progress, as a pure function.

It may be called at any time and any number of times; given the same rows and observations it decides the same.
"""

from __future__ import annotations

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine import alarms, arrange, blue_green, gone, holding, together, verdict
from shiftwork_coordinator.engine.batches import Candidate, next_targets
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.itinerary import comes_back
from shiftwork_coordinator.engine.rollback import rollback, wanted
from shiftwork_coordinator.engine.shift import assert_weight, note_way_back
from shiftwork_coordinator.engine.targets import advance
from shiftwork_coordinator.engine.traffic import asked_since, assert_traffic
from shiftwork_coordinator.engine.verdict import Tally
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.snapshot import Snapshot
from shiftwork_coordinator.model.status import DECIDED, ENDED, DeploymentStatus, TargetStatus

D, T = DeploymentStatus, TargetStatus

STOPS = frozenset(
    {"MANUAL_STOP", alarms.ALARM_ACTIVE, alarms.ALARM_UNREADABLE, arrange.READY_TIMEOUT, together.TOGETHER}
)
"""What a deployment was halted for that ends it as Stopped, in CodeDeploy's words, and not as Failed."""
FIRST_FACTS = 10.0
"""Seconds that a batch waits for the first readings of all its candidates before it goes on without them."""
LAST_WORD = 15.0
"""Seconds that the end of a deployment waits for the balancers to take the last requests."""


def decide(snapshot: Snapshot, now: float) -> Decision:
    draft = Draft(snapshot, now)
    if draft.deployment.status in ENDED or _parked(draft):
        return draft.decision()
    if _started(draft):
        if not together.settled(draft):
            _heed_operator(draft)
            _heed_alarms(draft)
            together.heed(draft)
        gone.heed(draft)
        for target in (*draft.members(), *draft.with_role("original"), *draft.fleets()):
            advance(draft, target.instance)
        holding.heed(draft)
        arrange.note_ready(draft)
        _judge(draft)
        blue_green.way_back(draft)
        _start_next(draft)
        _note_capacity(draft)
        for target in draft.targets.values():
            note_way_back(draft, target)
        _finish(draft)
    for target in draft.targets.values():
        assert_traffic(draft, target)
        assert_weight(draft, target)
        arrange.assert_arranged(draft, target)
    return draft.decision()


def _parked(draft: Draft) -> bool:
    until = draft.deployment.parked_until
    if until is None or draft.now >= until:
        return False
    draft.wait("PARKED", draft.deployment.parked_reason, until=until)
    return True


# Start


def _started(draft: Draft) -> bool:
    if draft.deployment.started_at is not None:
        return True
    if draft.stopping:
        _end(draft, D.STOPPED, "MANUAL_STOP", _stopped_by(draft))
        return False
    if why := together.gone_back(draft):
        _end(draft, D.STOPPED, together.TOGETHER, f"not started: deployed together with {why}")
        return False
    if draft.snapshot.blocked_by:
        draft.set_status(D.QUEUED)
        draft.wait(
            "QUEUED", f"waiting for {draft.snapshot.blocked_by} of the same group", since=draft.deployment.created_at
        )
        return False
    return _no_alarm(draft) and _begin(draft)


def _no_alarm(draft: Draft) -> bool:
    """An alarm that is red already, or cannot be read, forbids the start."""
    halt = alarms.heed(draft)
    if halt is not None:
        _end(draft, D.STOPPED, halt.code, f"not started: {halt.message}")
        return False
    return alarms.clear(draft)


def _begin(draft: Draft) -> bool:
    total = draft.size()
    floor = draft.deployment.config.minimum_healthy_hosts.of(total)
    draft.update(started_at=draft.now, floor=floor, previous_revision=_previous(draft))
    problem = verdict.invalid(total, floor)
    if problem or not total:
        code = verdict.HEALTH_CONSTRAINTS_INVALID if total else "NO_INSTANCES"
        _end(draft, D.FAILED, code, problem or "no instances match the group; tag or join some")
        return False
    draft.set_status(D.IN_PROGRESS)
    for target in list(draft.targets.values()):
        seen = draft.snapshot.installed.get(target.instance)
        draft.set(target, stage_since=draft.now, installed_before=seen.installed if seen else "")
    holding.begin(draft)
    return True


def _previous(draft: Draft) -> Revision | None:
    """What the group had just before; a rollback keeps what it was made with."""
    deployment = draft.deployment
    return deployment.previous_revision if deployment.rollback_of else draft.snapshot.last_good


# While it runs


def _heed_operator(draft: Draft) -> None:
    if draft.stopping and not draft.halted:
        draft.halt("MANUAL_STOP", _stopped_by(draft))


def _heed_alarms(draft: Draft) -> None:
    if not draft.halted and (halt := alarms.heed(draft)) is not None:
        draft.halt(halt.code, halt.message)


def _stopped_by(draft: Draft) -> str:
    return f"stopped by {draft.snapshot.request.stop_by or 'an operator'}"


def tally(draft: Draft) -> Tally:
    count = dict.fromkeys(T, 0)
    for target in draft.members():
        count[target.status] += 1
    return Tally(
        total=draft.size(),
        floor=draft.deployment.floor,
        failed=count[T.FAILED],
        succeeded=count[T.SUCCEEDED],
        skipped=count[T.SKIPPED],
        unattempted=count[T.PENDING],
    )


def _judge(draft: Draft) -> None:
    problem = verdict.too_many_failed(tally(draft), draft.deployment.config.max_failed)
    if problem and not draft.halted:
        draft.halt(verdict.HEALTH_CONSTRAINTS, problem)
    if draft.halted:
        for target in draft.with_status(T.PENDING):
            _skip(draft, target)


def _skip(draft: Draft, target: Target) -> None:
    message = f"not attempted: {draft.deployment.halted_message}"
    draft.set(target, status=T.SKIPPED, completed_at=draft.now, error_message=message)


def _start_next(draft: Draft) -> None:
    pending = [target for target in draft.with_status(T.PENDING) if not target.role]
    if draft.halted or not pending or not holding.held(draft) or not _gate_open(draft):
        return
    candidates = [_candidate(draft, target) for target in pending]
    if _awaits_first_facts(draft, candidates):
        return
    started = draft.with_status(T.IN_PROGRESS)
    under_way = len(started)
    slots = draft.size() - draft.deployment.floor - under_way
    promised = sum(t.left_at is None and draft.service[t.instance].value is True for t in started)
    chosen = next_targets(candidates, slots=slots, spare=draft.spare() - promised)
    if chosen:
        _start_batch(draft, chosen)
    elif not under_way:
        _hold(draft, candidates)


def _gate_open(draft: Draft) -> bool:
    """In batches: the last one is decided, what it updated is in service, and its bake is over."""
    if draft.deployment.config.pace == "sliding":
        return True
    if draft.with_status(T.IN_PROGRESS):
        return False
    return draft.deployment.batch == 0 or (_settled_in_time(draft) and _baked(draft))


def _settled(draft: Draft) -> bool:
    if not comes_back(draft.stages):
        return True
    unsure = [t for t in draft.with_status(T.SUCCEEDED) if draft.service[t.instance].value is None and not t.kept_out]
    for target in unsure:
        draft.wait("HEALTH", draft.service[target.instance].why, target.instance)
    return not unsure


def _baked(draft: Draft) -> bool:
    bake = draft.deployment.config.bake
    if not bake or draft.with_role("original"):  # blue/green bakes while the originals are kept
        return True
    if draft.deployment.bake_until is None:
        draft.update(bake_until=draft.now + bake)
    until = draft.deployment.bake_until or 0.0
    proceed_at = draft.snapshot.request.proceed_at
    if draft.now >= until or (proceed_at is not None and proceed_at > until - bake):
        return True
    draft.wait("BAKE", f"baking after batch {draft.deployment.batch}", since=until - bake, until=until)
    return False


def _candidate(draft: Draft, target: Target) -> Candidate:
    healthy = draft.health.get(target.instance)
    seen = draft.snapshot.installed.get(target.instance)
    if healthy is False or (healthy is None and seen is None):
        rank = 0
    elif seen is None or not seen.installed:
        rank = 1
    else:
        rank = 3 if seen.installed == draft.deployment.revision.identity else 2
    return Candidate(target.instance, draft.service[target.instance].value, rank)


def _awaits_first_facts(draft: Draft, candidates: list[Candidate]) -> bool:
    unknown = [c.instance for c in candidates if c.in_service is None]
    if not unknown:
        return False
    since = draft.deployment.facts_since
    if since is None:
        draft.update(facts_since=(since := draft.now))
    if draft.now >= since + FIRST_FACTS:
        return False
    why = draft.service[unknown[0]].why
    text = f"first readings of {len(unknown)} targets, such as {unknown[0]}: {why}"
    draft.wait("FACTS", text, since=since, until=since + FIRST_FACTS)
    return True


def _held_since(draft: Draft) -> float:
    if draft.deployment.held_since is None:
        draft.update(held_since=draft.now)
    return draft.deployment.held_since or draft.now


def _start_batch(draft: Draft, chosen: tuple[str, ...]) -> None:
    number = draft.deployment.batch + 1
    draft.update(batch=number, bake_until=None, held_since=None, facts_since=None)
    draft.tell("batch", number=number, targets=list(chosen), inService=_known_capacity(draft))
    for instance in chosen:
        target = draft.targets[instance]
        was = draft.service[instance].value is True
        draft.set(target, status=T.IN_PROGRESS, batch=number, started_at=draft.now, was_in_service=was)
        advance(draft, instance)


def _hold(draft: Draft, candidates: list[Candidate]) -> None:
    """Nothing may be taken and nothing is under way: wait for health to come back, but not for ever."""
    since = _held_since(draft)
    until = since + draft.limits.healthy_wait
    short = f"{draft.in_service()} targets in service, minimum {draft.deployment.floor}: no further one may be taken"
    if draft.now >= until:
        draft.halt(verdict.HEALTH_CONSTRAINTS, f"{short} for {draft.limits.healthy_wait:g} s")
        draft.wake(draft.now)
        return
    draft.wait("FLOOR", short, since=since, until=until)


def _note_capacity(draft: Draft) -> None:
    least, now = draft.deployment.least_in_service, _known_capacity(draft)
    if draft.deployment.batch and now is not None and (least is None or now < least):
        draft.update(least_in_service=now)


def _known_capacity(draft: Draft) -> int | None:
    """How many targets are in service; None while that is not known of every one."""
    return None if any(s.value is None for s in draft.service.values()) else draft.in_service()


# End


def _finish(draft: Draft) -> None:
    if any(t.status not in DECIDED for t in draft.targets.values()):
        _note_halting(draft)
        return
    if not draft.halted and not (_settled_in_time(draft) and _final_bake(draft)):
        return
    problem = "" if draft.halted else verdict.nothing_succeeded(tally(draft))
    if problem:
        draft.halt(verdict.HEALTH_CONSTRAINTS, problem)
    if _still_asking(draft):
        return
    if draft.halted:
        _end_halted(draft)
    elif together.arrived(draft):
        _end(draft, D.SUCCEEDED, "", "")


def _note_halting(draft: Draft) -> None:
    if draft.halted:
        left = len(draft.with_status(T.IN_PROGRESS))
        text = f"halted ({draft.deployment.halted_message}); {left} targets under way are finishing"
        draft.wait("HALTED", text, since=draft.deployment.halted_at)


def _settled_in_time(draft: Draft) -> bool:
    if _settled(draft):
        if draft.deployment.unsettled_since is not None:
            draft.update(unsettled_since=None)
        return True
    since = draft.deployment.unsettled_since
    if since is None:
        draft.update(unsettled_since=(since := draft.now))
    draft.wake(until := since + draft.limits.healthy_wait)
    if draft.now >= until:
        draft.halt(verdict.HEALTH_CONSTRAINTS, f"health not known for {draft.limits.healthy_wait:g} s")
        draft.wake(draft.now)
    return False


def _final_bake(draft: Draft) -> bool:
    if _baked(draft):
        return True
    draft.set_status(D.BAKING)
    return False


def _still_asking(draft: Draft) -> bool:
    """Whether some balancer has not taken the last word about a target yet; it is given LAST_WORD seconds."""
    deployment = draft.deployment
    asking = [t for t in draft.targets.values() if t.traffic and not t.kept_out and asked_since(draft, t) is None]
    shifting = [t for t in draft.targets.values() if arrange.unsettled(draft, t)]
    asking += shifting
    patience = max(deployment.halted_at or 0.0, *(t.completed_at or 0.0 for t in draft.targets.values()))
    patience += _patience(draft) if shifting else LAST_WORD
    if not asking:
        return False
    if draft.now >= patience:
        for target in asking:  # where it stands is not known, so the next deployment begins with it
            draft.set_health(target, False)
        _tell_left(draft, [target.instance for target in shifting])
        return False
    draft.wait("TRAFFIC", f"balancers are asked about {asking[0].instance}", asking[0].instance, until=patience)
    return True


def _tell_left(draft: Draft, names: list[str]) -> None:
    """The end says what was not given back."""
    if names and draft.halted:
        left = (
            f"; not given back: {', '.join(names)}; see `shiftwork status {draft.deployment.id}` and look at it in AWS"
        )
        draft.update(halted_message=draft.deployment.halted_message + left)


def _patience(draft: Draft) -> float:
    """How long the way back may take: instances come into traffic and leave it, groups are taken away."""
    return draft.limits.steady_within if draft.with_role("original") else draft.limits.allow_within


def _end_halted(draft: Draft) -> None:
    deployment = draft.deployment
    status = D.STOPPED if deployment.halted_code in STOPS else D.FAILED
    _end(draft, status, deployment.halted_code, deployment.halted_message)


def _end(draft: Draft, status: DeploymentStatus, code: str, message: str) -> None:
    if draft.deployment.started_at is None or status is not D.SUCCEEDED:
        for target in draft.with_status(T.PENDING):
            draft.set(target, status=T.SKIPPED, completed_at=draft.now, error_message=message)
    draft.update(error_code=code, error_message=message, completed_at=draft.now, bake_until=None)
    draft.set_status(status)
    draft.last_good = status is D.SUCCEEDED and not draft.halted and not draft.deployment.apart
    if wanted(draft.deployment, draft.snapshot.request, status) and draft.deployment.batch:
        draft.rollback, note = rollback(draft.snapshot, draft.targets, draft.health)
        draft.update(rollback_note=note)
