"""Out of traffic before touched, back in only when proven healthy: what the balancers' readings allow.

The protocol follows measurements with HAProxy and Caddy under load (docs/load-balancers.md). A command's own answer
proves nothing: only readings asked for after it do.
"""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_coordinator.engine.actions import Deregister, Register
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.service import STALE_AFTER
from shiftwork_coordinator.model.rows import Asked, Target
from shiftwork_coordinator.model.snapshot import TimedReading, TrafficSeen

ASK_AGAIN = 5.0
"""Seconds after which a balancer that still shows the opposite of what is wanted is asked again."""
OUT, IN = frozenset({"absent", "draining", "unknown"}), frozenset({"healthy", "starting", "unhealthy", "unknown"})


def assert_traffic(draft: Draft, target: Target) -> None:
    """Asks the balancers for what is wanted, when they were not asked yet or have forgotten it (a reload does that)."""
    if not target.traffic or target.kept_out:
        return
    asked_at = asked_since(draft, target)
    if asked_at is not None and not _contradicted(draft, target, asked_at):
        return
    asked = draft.snapshot.asked.get((target.instance, _verb(target)))
    if asked is not None and asked.next_try is not None and asked.next_try > draft.now:
        draft.wake(asked.next_try)
        return
    draft.act(Deregister(target.instance) if target.traffic == "out" else Register(target.instance))


def asked_since(draft: Draft, target: Target) -> float | None:
    """When the balancers last took the request that is wanted now; None when they have not yet."""
    return taken_at(target, draft.snapshot.asked)


def taken_at(target: Target, asked: Mapping[tuple[str, str], Asked]) -> float | None:
    """The same from the rows alone: for the shell, which hurries while this is open."""
    row = asked.get((target.instance, _verb(target)))
    if row is None or row.asked_at is None or row.asked_at < target.traffic_since:
        return None
    return row.asked_at


def ask_error(draft: Draft, target: Target) -> str:
    asked = draft.snapshot.asked.get((target.instance, _verb(target)))
    return asked.error if asked else ""


def readings_since(draft: Draft, target: Target, since: float) -> dict[str, TrafficSeen]:
    """Per balancer, what was asked after `since`."""
    seen = draft.snapshot.traffic.get(target.instance, ())
    return {s.balancer: s for s in seen if s.last.asked_at >= since}


def own_time(seen: Mapping[str, TrafficSeen]) -> float:
    """Seconds that the balancers' own configuration may take, or took, until they show what is awaited."""
    return max((s.last.lasts for s in seen.values()), default=0.0)


def not_out(draft: Draft, target: Target, seen: dict[str, TrafficSeen]) -> str:
    """Why it is not proven that no balancer sends new requests; empty when it is."""
    for name in draft.snapshot.balancers:
        if name not in seen:
            return f"{name} has not answered since it was asked to take {target.instance} out"
        if seen[name].last.state != "absent":
            return f"{name} still shows {target.instance} as {_shown(seen[name].last)}"
    return ""


def not_quiet(draft: Draft, target: Target, seen: dict[str, TrafficSeen], since: float) -> tuple[str, int]:
    """Why it is not proven that nobody is being served, and how many requests that concerns; ("", 0) when it is.

    Each balancer must count 0 in two readings of the same process, both asked after `since`.
    """
    uncounted = False
    for name, s in seen.items():
        if s.last.in_flight is None:
            uncounted = True
        elif s.last.in_flight:
            return f"{s.last.in_flight} requests in flight through {name}", s.last.in_flight
        elif not _confirms(s, since):
            return f"waiting for a second reading of 0 requests in flight from {name}", 0
    return _agent_not_quiet(draft, target, since) if uncounted else ("", 0)


def _confirms(seen: TrafficSeen, since: float) -> bool:
    before = seen.before
    return (
        before is not None
        and before.asked_at >= since
        and before.generation == seen.last.generation
        and before.state == "absent"
        and before.in_flight == 0
    )


def _agent_not_quiet(draft: Draft, target: Target, since: float) -> tuple[str, int]:
    """The agent's view: two readings, each covering only time after `since`."""
    window = draft.deployment.settings.quiet.window
    agent = draft.agent(target)
    last, before = agent.quiet, agent.quiet_before
    if last is None or last.at < since + window or before is None or before.at < since + window:
        return "waiting for the agent's count of connections", 0
    if not last.quiet.known or not before.quiet.known:
        return f"the agent cannot tell whether the port is in use: {last.quiet.detail}", 0
    busy = max(last.quiet.busy, before.quiet.busy)
    return (f"{busy} connections moved data within {window:g} s", busy) if busy else ("", 0)


def not_in(draft: Draft, seen: dict[str, TrafficSeen]) -> str:
    """Which balancer does not yet call it healthy by checks made since it came back; empty when all do."""
    for name in draft.snapshot.balancers:
        if name not in seen:
            return f"{name} has not answered since it was asked to take it back"
        if seen[name].last.state != "healthy":
            return f"{name} shows it as {_shown(seen[name].last)}"
    return ""


def already_out(draft: Draft, target: Target) -> bool:
    """Whether somebody else had taken it out of every balancer while its last deployment had left it in."""
    seen = draft.snapshot.traffic.get(target.instance, ())
    absent = {s.balancer for s in seen if s.last.state == "absent" and draft.now - s.last.answered_at <= STALE_AFTER}
    out = bool(draft.snapshot.balancers) and absent.issuperset(draft.snapshot.balancers)
    return out and draft.snapshot.health.get(target.instance) is True


def _contradicted(draft: Draft, target: Target, asked_at: float) -> bool:
    fine = OUT if target.traffic == "out" else IN
    wrong = [s for s in readings_since(draft, target, asked_at).values() if s.last.state not in fine]
    if wrong and draft.now < asked_at + ASK_AGAIN:
        draft.wake(asked_at + ASK_AGAIN)
        return False
    return bool(wrong)


def _verb(target: Target) -> str:
    return "deregister" if target.traffic == "out" else "register"


def _shown(reading: TimedReading) -> str:
    return reading.state + (f" ({reading.detail})" if reading.detail else "")
