"""A deployment in sentences: the same ones in the live view, in plain lines and in `status`."""

from __future__ import annotations

from collections.abc import Iterator

from shiftwork_coordinator.cli.output import clean, clock_time, duration
from shiftwork_coordinator.cli.views import Agent, Deployment, Event, Target, TrafficWeight, Waiting

BARS = "▁▂▃▄▅▆▇█"
TAIL_LINES = 12
TAILS = 3
"""Failed targets whose output is shown; the rest are named."""


def capacity(view: Deployment) -> str:
    """In service now, against the floor: `in service 2 of 4, minimum 2`."""
    if view.in_service is None:
        return ""
    floor = "" if view.minimum_healthy_hosts is None else f", minimum {view.minimum_healthy_hosts}"
    return f"in service {view.in_service} of {view.size}{floor}"


def progress(view: Deployment) -> str:
    """Status, batch and capacity, as far as known."""
    return ", ".join(part for part in (view.status, standing(view)) if part)


def standing(view: Deployment) -> str:
    """Batch and capacity, as far as known."""
    batch = f"batch {view.batch} of {max(view.batches, view.batch)}" if view.batch else ""
    return ", ".join(part for part in (batch, capacity(view)) if part)


def counts(view: Deployment) -> str:
    """Targets by how they ended, and those that have not."""
    told = view.deployment_overview
    shown = [f"{told.get(name, 0)} {name.lower()}" for name in ("Succeeded", "Failed", "Skipped")]
    left = sum(count for name, count in told.items() if name not in ("Succeeded", "Failed", "Skipped"))
    return ", ".join([*shown, f"{left} not finished"] if left else shown)


def traffic(view: Deployment) -> list[str]:
    """A line for each target whose traffic was shifted: the replacement's share, and since when it had it."""
    return [
        clean(f"traffic of {name}: " + "  ".join(_step(s) for s in view.traffic_weights if s.target_id == name))
        for name in dict.fromkeys(step.target_id for step in view.traffic_weights)
    ]


def _step(step: TrafficWeight) -> str:
    return f"{BARS[round(step.weight * (len(BARS) - 1))]} {share(step.weight)} {clock_time(step.at)}"


def share(weight: object) -> str:
    return f"{weight:.0%}" if isinstance(weight, int | float) else str(weight)


def reason(waiting: Waiting, now: float) -> str:
    """One line: who waits, for what, how long already, until when at most."""
    who = f"{waiting.target}: " if waiting.target else ""
    times = []
    if waiting.since is not None and now - waiting.since >= 1:
        times.append(f"for {duration(now - waiting.since)}")
    if waiting.until is not None:
        times.append(f"until {clock_time(waiting.until)} at most")
    return clean(f"{who}{waiting.message}" + (f" ({', '.join(times)})" if times else ""))


def reasons(view: Deployment, now: float, most: int) -> list[str]:
    """At most `most` lines; those left out are counted."""
    lines = [reason(waiting, now) for waiting in view.waiting]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more: shiftwork why {view.deployment_id}"]
    return lines


def presence(agent: Agent, now: float) -> str:
    """Whether the agent is there, with the connections on the group's port; else when it was heard last."""
    if agent.connected:
        count = agent.connections
        return "connected" if count is None else f"connected, {count} connection{'' if count == 1 else 's'} on the port"
    if agent.connected is None:  # an older coordinator
        return ""
    return f"last seen {duration(now - agent.last_seen)} ago" if agent.last_seen else "never seen"


def event_time(event: Event | None, now: float) -> str:
    if event is None or event.start_time is None:
        return ""
    return duration((event.end_time or now) - event.start_time)


def summary(view: Deployment) -> Iterator[str]:
    """How it ended: duration, counts, least capacity, error, output of what failed, what to do next."""
    took = ""
    if view.complete_time is not None and (begun := view.start_time or view.create_time) is not None:
        took = f" after {duration(view.complete_time - begun)}"
    yield f"Deployment {view.deployment_id} of {view.group} {view.status.lower()}{took}: {counts(view)}."
    if view.minimum_in_service is not None and view.minimum_healthy_hosts is not None and view.size and view.has_hosts:
        least, floor = view.minimum_in_service, view.minimum_healthy_hosts
        if least >= floor:  # a first deployment begins below it, and that is nobody's news
            yield f"Never fewer than {least} of {view.size} in service (minimum {floor})."
    cut = sum(target.requests_cut or 0 for target in view.targets)
    if cut:
        yield f"{cut} requests in flight were cut."
    if view.error_information is not None:
        yield clean(f"{view.error_information.code}: {view.error_information.message}")
    if view.status != "Succeeded":
        yield from _failures(view)
        yield from _next(view)


def _failures(view: Deployment) -> Iterator[str]:
    failed = [target for target in view.targets if target.status == "Failed"]
    for target in failed[:TAILS]:
        yield from _failure(view, target)
    for target in failed[TAILS:]:
        event = target.current()
        yield f"{target.target_id}: failed" + (f" in {event.lifecycle_event_name}" if event else "")


def _failure(view: Deployment, target: Target) -> Iterator[str]:
    event = target.current()
    if event is None or event.status != "Failed":
        error = target.error_information
        yield clean(f"{target.target_id}: " + (f"{error.code}: {error.message}" if error else "failed"))
        return
    told = event.diagnostics
    line = f"{target.target_id}: {event.lifecycle_event_name} failed"
    if told is not None:
        script = f" in {told.script_name}" if told.script_name else ""
        line += f"{script} ({told.error_code})" + (f": {told.message}" if told.message else "")
    yield clean(line)
    for output in (told.log_tail.splitlines() if told is not None else [])[-TAIL_LINES:]:
        yield f"    | {clean(output)}"
    yield f"    shiftwork logs {view.deployment_id} --target {target.target_id} --event {event.lifecycle_event_name}"


def _next(view: Deployment) -> Iterator[str]:
    info = view.rollback_info
    if info is not None and info.rollback_message:
        yield clean(info.rollback_message)
    if (info is not None and info.rollback_deployment_id) or not _differs(view):
        return
    if info is None or not info.rollback_triggering_deployment_id:
        yield f"To go back to the last good revision: shiftwork rollback {view.deployment_id}"


def _differs(view: Deployment) -> bool:
    """Whether it may have left anything other than it was. Where traffic is shifted the last shares tell."""
    last = {step.target_id: step.weight for step in view.traffic_weights}
    return view.has_hosts or any(last.values())
