"""Other instances take over from the original ones, and give everything back when something fails.

The replacements are installed, out of traffic, while the originals serve, come into traffic, and only then do the
originals leave it, all at once. On the way back the originals serve again before a replacement leaves: at no moment is
there nobody. Where weights move the traffic, the replacements come in at weight 0, the weights rise before the
originals leave, and are given back before a replacement leaves.
"""

from __future__ import annotations

from shiftwork_coordinator.engine import shift, traffic
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.itinerary import Stage, StageKind
from shiftwork_coordinator.engine.outcome import DONE, STOPPED, WAIT, Failed, Outcome
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.snapshot import Joined
from shiftwork_coordinator.model.status import DECIDED, TargetStatus


def enlist(draft: Draft, fleet: Target) -> Outcome:
    """New replacements become targets as soon as there are all of them and all of their agents have joined. Those that
    stand already are targets, and come under way when they are proven out of traffic."""
    if draft.stopping or draft.halted:
        return STOPPED
    if draft.with_role("replacement"):
        return _take(draft, fleet, [t for t in draft.with_role("replacement") if t.status is TargetStatus.PENDING])
    seen = draft.snapshot.shifted.get(fleet.instance)
    whole = seen is not None and seen.asked_at >= fleet.stage_since and Arrangement.PROVISIONED in seen.holds
    ids = seen.members if seen is not None and whole else ()
    missing = [id for id in ids if id not in draft.snapshot.joined]
    if ids and not missing:
        _enlist(draft, [draft.snapshot.joined[id] for id in ids])
        return DONE
    limit = draft.limits.steady_within
    if draft.now >= fleet.stage_since + limit:
        short = (seen.detail if seen else "") or "the replacement has not all of its instances"
        why = f"no agent of {', '.join(missing)} joined" if missing else short
        return Failed("AGENT_ISSUE", f"{why} within {limit:g} s; does their image install and join one?")
    text = f"waiting for the agents of {', '.join(missing)} to join" if missing else "looking for the new instances"
    draft.wait("AGENT", text, fleet.instance, since=fleet.stage_since, until=fleet.stage_since + limit)
    return WAIT


def _enlist(draft: Draft, found: list[Joined]) -> None:
    look = min(target.look for target in draft.targets.values())
    for one in found:
        draft.add(
            Target(
                draft.deployment.id, one.instance, one.address, one.cloud_id, "replacement", TargetStatus.IN_PROGRESS,
                stage_since=draft.now, batch=1, look=look, left_at=draft.now, started_at=draft.now,
            )
        )  # fmt: skip
    _begin(draft, [one.instance for one in found])


def _begin(draft: Draft, names: list[str]) -> None:
    draft.update(batch=1)
    draft.tell("batch", number=1, targets=names, inService=draft.in_service())


def _take(draft: Draft, fleet: Target, found: list[Target]) -> Outcome:
    for target in found:
        if target.traffic != "out":
            draft.set(target, traffic="out", traffic_since=draft.now)
    for target in found:
        if why := _in_traffic(draft, draft.targets[target.instance]):
            return _not_out(draft, fleet, target, why)
    for target in found:
        under_way = {"status": TargetStatus.IN_PROGRESS, "batch": 1, "stage_since": draft.now, "started_at": draft.now}
        draft.leave_service(draft.targets[target.instance], **under_way)
    _begin(draft, [target.instance for target in found])
    return DONE


def _in_traffic(draft: Draft, target: Target) -> str:
    """Why it is not proven to get no requests, or to serve none as far as balancers count; empty when it is. When the
    deployment was created it was not in service, so of connections that agents see nothing has to be known."""
    asked_at = traffic.asked_since(draft, target)
    if asked_at is None:
        return traffic.ask_error(draft, target) or "the balancers are asked to take it out"
    seen = traffic.readings_since(draft, target, asked_at)
    if why := traffic.not_out(draft, target, seen):
        return why
    counted = {name: one for name, one in seen.items() if one.last.in_flight is not None}
    quiet = draft.deployment.settings.quiet
    waited = quiet.then == "proceed" and draft.now >= target.traffic_since + quiet.at_most
    return "" if waited else traffic.not_quiet(draft, target, counted, asked_at)[0]


def _not_out(draft: Draft, fleet: Target, target: Target, why: str) -> Outcome:
    asked_at = traffic.asked_since(draft, target) or draft.now
    limit = draft.limits.block_within + draft.deployment.settings.quiet.at_most
    limit += traffic.own_time(traffic.readings_since(draft, target, asked_at))
    until = fleet.stage_since + limit
    if draft.now >= until:
        return Failed(
            "BLOCK_TRAFFIC", f"{target.instance} is to be changed, and not out of traffic in {limit:g} s: {why}"
        )
    draft.wait("BLOCK", f"to be changed, it must be out of traffic: {why}", target.instance, since=fleet.stage_since,
               until=until)  # fmt: skip
    return WAIT


def follow(draft: Draft, fleet: Target) -> Outcome:
    """Waits until those that its stage follows are decided, or have come as far as the stage says."""
    stage = draft.stage(fleet)
    if draft.stopping or draft.halted:
        return STOPPED
    followed = draft.with_role(stage.role)
    if not all(_there(draft, target, stage) for target in followed):
        return WAIT
    return _fruitless(draft) or DONE


def _fruitless(draft: Draft) -> Failed | None:
    if any(t.status is not TargetStatus.FAILED for t in draft.with_role("replacement")):
        return None
    return Failed("HEALTH_CONSTRAINTS", "no replacement succeeded; the originals go on serving")


def move(draft: Draft, fleet: Target) -> Outcome:
    """Weights rise as long as there is a replacement to serve."""
    return _fruitless(draft) or shift.shift(draft, fleet)


def _there(draft: Draft, target: Target, stage: Stage) -> bool:
    if target.status in DECIDED:
        return True
    return stage.upto is not None and draft.stage(target).kind is stage.upto


def gate(draft: Draft, target: Target) -> Outcome:
    """Opens when the group's stage says so: for replacements as many at a time as the config allows, for the originals
    all at once."""
    if draft.stopping or draft.halted:
        return STOPPED
    if not _opened(draft, target.role):
        return WAIT
    return DONE if target.role == "original" or _passing(draft) < _at_once(draft) else WAIT


def _opened(draft: Draft, role: str) -> bool:
    stages = [draft.stage(fleet) for fleet in draft.fleets() if fleet.status is TargetStatus.IN_PROGRESS]
    return any(stage.role == role and stage.upto is None for stage in stages)


def _passing(draft: Draft) -> int:
    """How many replacements are on their way into traffic."""
    under_way = [t for t in draft.with_role("replacement") if t.status is TargetStatus.IN_PROGRESS]
    return sum(draft.stage(t).kind is not StageKind.GATE for t in under_way)


def _at_once(draft: Draft) -> int:
    return max(1, draft.size() - draft.deployment.floor)


def way_back(draft: Draft) -> None:
    """After a halt: the originals come back into traffic; when all that are left serve, they get the weight back, and
    then the replacements leave. Where no original is left nobody would serve: then the replacements stay."""
    if not draft.halted or any(fleet.arranged is Arrangement.RETIRED for fleet in draft.fleets()):
        return
    left = [target for target in draft.with_role("original") if target.instance not in draft.snapshot.gone]
    for target in left:
        if target.traffic == "out" and not target.kept_out and target.status in DECIDED:
            draft.set(target, traffic="in", traffic_since=draft.now)
    if not left or not all(_serves(draft, draft.targets[target.instance]) for target in left):
        return
    for fleet in draft.fleets():
        shift.give_back(draft, fleet)
    if all(shift.is_back(draft, fleet) for fleet in draft.fleets()):
        _release(draft)


def _release(draft: Draft) -> None:
    for target in draft.with_role("replacement"):
        if target.traffic == "in" and target.status in DECIDED:
            draft.set(target, traffic="out", traffic_since=draft.now)


def _serves(draft: Draft, target: Target) -> bool:
    """It never left, or every balancer calls it healthy by checks made since it came back."""
    if not target.traffic or target.kept_out:
        return True
    asked_at = traffic.asked_since(draft, target)
    if asked_at is None:
        return False
    return not traffic.not_in(draft, traffic.readings_since(draft, target, asked_at))


def idle(draft: Draft) -> bool:
    """Whether no replacement is in traffic, or serves a request yet."""
    return all(_idle(draft, target) for target in draft.with_role("replacement") if _was_let_in(draft, target))


def _was_let_in(draft: Draft, target: Target) -> bool:
    return any(stage.kind is StageKind.ALLOW for stage in draft.stages_of(target)[: target.stage + 1])


def _idle(draft: Draft, target: Target) -> bool:
    if target.traffic != "out":
        return not target.traffic
    asked_at = traffic.asked_since(draft, target)
    if asked_at is None:
        return False
    seen = traffic.readings_since(draft, target, asked_at)
    if traffic.not_out(draft, target, seen):
        return False
    waited = draft.now >= target.traffic_since + draft.deployment.settings.quiet.at_most
    return waited or not traffic.not_quiet(draft, target, seen, asked_at)[0]
