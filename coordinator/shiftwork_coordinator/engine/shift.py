"""Shifting the traffic of a resource: its replacement is ready, hook functions agree, the weight rises step by step.

The weight that is wanted stands in the target's row and is asserted until the end; a step counts from the moment when
a reading shows it, so no step is ever early, and a restart in the middle of a wait goes on waiting.
"""

from __future__ import annotations

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_coordinator.engine.actions import Arrange, Invoke, SetWeight
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.outcome import DONE, STOPPED, WAIT, Failed, Outcome
from shiftwork_coordinator.engine.weights import after, pause
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import HookRun, Target
from shiftwork_coordinator.model.snapshot import Shifted
from shiftwork_coordinator.model.status import DECIDED

SAME = 0.001
"""Two weights that differ by less are the same: AWS keeps them with finite digits."""
ASK_AGAIN = 1.0
"""Seconds until a weight that does not show, or cannot be told, is asked for again."""


def ready(draft: Draft, target: Target) -> Outcome:
    """The replacement exists and can take traffic, by an answer from after this stage began."""
    if draft.stopping or draft.halted:
        return STOPPED
    seen = draft.snapshot.shifted.get(target.instance)
    if seen is not None and seen.asked_at >= target.stage_since:
        if seen.fatal:
            return Failed("INVALID_CONFIGURATION", seen.detail)
        if seen.ready:
            return DONE
    until = target.stage_since + draft.limits.allow_within
    why = seen.detail if seen else "not asked yet"
    if draft.now >= until:
        return Failed("TIMEOUT", f"the replacement was not ready within {draft.limits.allow_within:g} s: {why}")
    draft.wait(
        "READY_UP", f"the replacement is not ready: {why}", target.instance, since=target.stage_since, until=until
    )
    return WAIT


def invoke(draft: Draft, target: Target) -> Outcome:
    event = draft.stage(target).events[0]
    function = draft.deployment.functions.get(event, "")
    if not function:
        return DONE
    run = draft.hook_run(target, event)
    if run is None:
        if draft.stopping or draft.halted:
            return STOPPED
        draft.add_hook_run(_new_run(draft, target, event, function))
        draft.event(target, event, EventStatus.IN_PROGRESS, started_at=draft.now)
        return WAIT
    if run.status:
        return DONE if run.status == "Succeeded" else Failed("HOOK_EXECUTION_FAILURE", f"{event} failed: {_why(run)}")
    if draft.stopping or draft.halted:
        return STOPPED
    return _answer(draft, target, run)


def _new_run(draft: Draft, target: Target, event: str, function: str) -> HookRun:
    id = f"{draft.deployment.id}.{target.instance}.{event}"
    return HookRun(draft.deployment.id, target.instance, event, id, function, wanted_at=draft.now)


def _why(run: HookRun) -> str:
    return run.message or f"{run.function} answered {run.status}"


def _answer(draft: Draft, target: Target, run: HookRun) -> Outcome:
    within = draft.deployment.settings.hooks.within
    until = run.wanted_at + within
    if draft.now >= until:
        why = f": {run.error}" if run.error else ""
        return Failed("HOOK_EXECUTION_FAILURE", f"{run.function} did not answer within {within:g} s{why}")
    if run.invoked_at is None:
        if run.next_try is None or run.next_try <= draft.now:
            draft.act(Invoke(target.instance, run.event))
        else:
            draft.wake(run.next_try)
    draft.wait("HOOK", f"{run.function} has not answered", target.instance, since=run.wanted_at, until=until)
    return WAIT


def shift(draft: Draft, target: Target) -> Outcome:
    """Step by step; `continue` ends the present wait and promotes."""
    if draft.stopping or draft.halted:
        return STOPPED
    traffic = draft.deployment.config.traffic
    if target.weight is None:
        for event in draft.stage(target).events:
            draft.event(target, event, EventStatus.IN_PROGRESS, started_at=draft.now)
        _want(draft, target, after(traffic, 0.0))
        return WAIT
    if target.weight_since is None:
        return _await_weight(draft, target, target.weight)
    if target.weight >= 1.0:
        return DONE
    due = target.weight_since + pause(traffic)
    if draft.now >= due or promoted_since(draft, target.weight_since):
        _want(draft, target, 1.0 if draft.now < due else after(traffic, target.weight))
        return WAIT
    following = f"{after(traffic, target.weight):.0%}"
    text = f"{target.weight:.0%} of the traffic is on the replacement; {following} follows"
    draft.wait("SHIFT", text, target.instance, since=target.weight_since, until=due)
    return WAIT


def promoted_since(draft: Draft, since: float) -> bool:
    """Whether a person ended the wait that began then."""
    at = draft.snapshot.request.proceed_at
    return at is not None and at > since


def _want(draft: Draft, target: Target, weight: float) -> None:
    draft.set(target, weight=weight, weight_since=None, traffic_since=draft.now)


def _await_weight(draft: Draft, target: Target, weight: float) -> Outcome:
    if in_force(draft, target):
        draft.set(target, weight_since=draft.now)
        draft.tell("weight", target.instance, weight=weight)
        draft.wake(draft.now)
        return WAIT
    asked = draft.snapshot.asked.get((target.instance, "weight"))
    seen = draft.snapshot.shifted.get(target.instance)
    if seen is not None and seen.fatal and seen.asked_at >= target.traffic_since:
        return Failed("TRAFFIC_SHIFT", seen.detail)
    why = (asked.error if asked else "") or (seen.detail if seen else "") or "it was asked for"
    until = target.traffic_since + draft.limits.allow_within
    if draft.now >= until:
        return Failed("TRAFFIC_SHIFT", f"{weight:.0%} were not in force within {draft.limits.allow_within:g} s: {why}")
    draft.wait("WEIGHT", f"{weight:.0%}: {why}", target.instance, since=target.traffic_since, until=until)
    return WAIT


def note_way_back(draft: Draft, target: Target) -> None:
    """Tells when all traffic is back after its end: no stage waits for that any more."""
    if target.status in DECIDED and target.weight_since is None and in_force(draft, target):
        draft.set(target, weight_since=draft.now)
        draft.tell("weight", target.instance, weight=target.weight)


def in_force(draft: Draft, target: Target) -> bool:
    """Whether a reading from after the request shows the wanted weight."""
    asked_at, seen = _asked_at(draft, target), draft.snapshot.shifted.get(target.instance)
    return asked_at is not None and seen is not None and seen.asked_at >= asked_at and _shows(seen, target.weight)


def _shows(seen: Shifted, weight: float | None) -> bool:
    return seen.weight is not None and weight is not None and abs(seen.weight - weight) < SAME


def _asked_at(draft: Draft, target: Target) -> float | None:
    row = draft.snapshot.asked.get((target.instance, "weight"))
    if row is None or row.asked_at is None or row.asked_at < target.traffic_since or row.value != target.weight:
        return None
    return row.asked_at


def assert_weight(draft: Draft, target: Target) -> None:
    """Asks for the wanted weight when it was not asked yet, or when a later reading shows another."""
    weight = target.weight
    if weight is None:
        return
    seen = draft.snapshot.shifted.get(target.instance)
    shown = seen is not None and _shows(seen, weight)
    ask(draft, SetWeight(target.instance, weight), _asked_at(draft, target), ASK_AGAIN, shown=shown)


def ask(draft: Draft, action: SetWeight | Arrange, asked_at: float | None, again: float, *, shown: bool) -> None:
    """Asks when that was not done yet, and again each `again` seconds while readings from after it do not show it."""
    seen = draft.snapshot.shifted.get(action.instance)
    if asked_at is not None and (seen is None or seen.asked_at < asked_at or shown):
        return
    if asked_at is not None and draft.now < asked_at + again:
        draft.wake(asked_at + again)
        return
    row = draft.snapshot.asked.get((action.instance, action.verb))
    if row is not None and row.next_try is not None and row.next_try > draft.now:
        draft.wake(row.next_try)
        return
    draft.act(action)


def settle_weight(draft: Draft, target: Target) -> None:
    """A target that failed or was stopped gives all traffic back to the original. A group does so when its originals
    serve (blue_green.way_back)."""
    if target.role != "fleet":
        give_back(draft, target)


def give_back(draft: Draft, target: Target) -> None:
    """Unless the original is gone."""
    if target.weight is not None and target.weight > 0 and target.arranged is not Arrangement.RETIRED:
        _want(draft, target, 0.0)


def is_back(draft: Draft, target: Target) -> bool:
    """Whether the replacement gets nothing, by weights at least."""
    return target.weight is None or (target.weight == 0 and in_force(draft, target))
