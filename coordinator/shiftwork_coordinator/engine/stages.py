"""One target through one stage. Each function says DONE, WAIT (with a reason noted), STOPPED, or why it failed."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command
from shiftwork_coordinator.engine import arrange, blue_green, holding, shift, traffic
from shiftwork_coordinator.engine.draft import Draft
from shiftwork_coordinator.engine.itinerary import StageKind, leaves_service
from shiftwork_coordinator.engine.outcome import DONE, STOPPED, WAIT, Failed, Outcome
from shiftwork_coordinator.model.rows import CommandRow, Target
from shiftwork_coordinator.model.status import CommandStatus, TargetStatus

SLACK = 60.0
"""Seconds past an event's own limit before the coordinator gives up on an agent that is still talking."""


def run(draft: Draft, target: Target) -> Outcome:
    return STAGES[draft.stage(target).kind](draft, target)


# Commands


def prepare(draft: Draft, target: Target) -> Outcome:
    if draft.stopping or draft.halted:
        return STOPPED
    row = draft.command(target)
    if row is None:
        started = target.status is TargetStatus.IN_PROGRESS
        if started or (draft.agent(target).connected and draft.preparing() < draft.limits.prepare_at_once):
            draft.add_command(command_row(draft, target, prepare=True))
        return WAIT
    return _outcome(draft, target, row, given_up=target.status is TargetStatus.IN_PROGRESS)


def scripts(draft: Draft, target: Target) -> Outcome:
    row = draft.command(target)
    if row is None:
        if draft.stopping:
            return STOPPED
        left = leave(draft, target)
        if left is not DONE:
            return left
        target = draft.targets[target.instance]
        draft.add_command(command_row(draft, target, prepare=False))
        return WAIT
    if draft.stopping:
        _cancel(draft, target, row)
        if not draft.agent(target).connected and _gives_up(draft, row):
            return STOPPED
    return _outcome(draft, target, row, given_up=True)


def _gives_up(draft: Draft, row: CommandRow) -> bool:
    """Whether a stop waits no longer for an agent that is away: it never said that it has the command, or nobody wants
    to wait. Should it run something after all, its reports change nothing, and the next command waits for its end."""
    return row.ended_at is None and (row.status is CommandStatus.WANTED or draft.snapshot.request.stop == "now")


def command_row(draft: Draft, target: Target, *, prepare: bool) -> CommandRow:
    d, limits = draft.deployment, draft.limits
    command = Command(
        id=f"{d.id}.{target.instance}.{target.stage}",
        deployment_id=d.id,
        group_id=d.group_id,
        application=d.application,
        group=d.group,
        sequence=d.serial * 100 + target.stage,
        revision=d.revision,
        events=() if prepare else tuple(draft.stage(target).events),
        prepare=prepare,
        creator=d.creator,
        start_within=limits.start_within,
        event_limit=limits.event,
        offline_for=limits.offline_for,
        ignore_stop_failures=d.ignore_stop_failures,
        file_exists_behavior=d.file_exists_behavior,
        environment=d.settings.environment | d.parameters,
        appspec=d.appspec,
        compat=d.settings.compat,
        keep=(draft.snapshot.last_good.identity,) if draft.snapshot.last_good else (),
    )
    return CommandRow(command, target.instance, target.stage, wanted_at=draft.now)


def _cancel(draft: Draft, target: Target, row: CommandRow) -> None:
    wanted = draft.snapshot.request.stop
    if row.ended_at is None and target.cancel != wanted:
        draft.set(target, cancel=wanted)


def _outcome(draft: Draft, target: Target, row: CommandRow, *, given_up: bool) -> Outcome:
    if row.status is CommandStatus.SUCCEEDED:
        return DONE
    if row.status in (CommandStatus.FAILED, CommandStatus.REFUSED):
        return _failed(draft, target, row)
    if row.status is CommandStatus.SKIPPED:
        return STOPPED if draft.stopping or draft.halted else _cancelled(row)
    if row.status is CommandStatus.WANTED:
        return _undelivered(draft, target, row, given_up)
    return _running(draft, target, row)


def _failed(draft: Draft, target: Target, row: CommandRow) -> Failed:
    found = row.diagnostics
    if row.command.prepare:
        draft.event(target, "DownloadBundle", EventStatus.FAILED, ended_at=row.ended_at, diagnostics=found)
        return Failed(str(found.error_code), f"DownloadBundle failed before anything was changed: {found.message}")
    where = row.ran[-1] if row.ran else "the command"
    return Failed(str(found.error_code), f"{where} failed: {found.message}")


def _cancelled(row: CommandRow) -> Failed:
    """Nobody asked this deployment to stop: counting the target as untouched would let it succeed without it."""
    return Failed("AGENT_ISSUE", f"the agent gave its command up: {row.diagnostics.message or 'cancelled'}")


def _undelivered(draft: Draft, target: Target, row: CommandRow, given_up: bool) -> Outcome:
    agent, limits = draft.agent(target), draft.limits
    # An agent that took the command and was then cut off goes on for offline_for at most.
    patience = limits.start_within + (0 if agent.connected else limits.offline_for)
    until = max(row.wanted_at, target.started_at or 0.0, agent.awaited_since) + patience
    heard = "never" if agent.last_seen is None else f"{draft.now - agent.last_seen:.0f} s ago"
    if given_up and draft.now >= until:
        return Failed(
            "AGENT_ISSUE",
            f"the agent on {target.instance} did not take a command within {patience:.0f} s (last heard: {heard});"
            " see `systemctl status shiftwork-agent` there",
        )
    text = "command on its way" if agent.connected else f"its agent is not connected (last heard: {heard})"
    draft.wait("AGENT", text, target.instance, since=row.wanted_at, until=until if given_up else None)
    return WAIT


def _running(draft: Draft, target: Target, row: CommandRow) -> Outcome:
    agent = draft.agent(target)
    started = row.running_since or row.accepted_at or row.wanted_at
    event_ends = started + row.running_limit
    if agent.connected:
        until, why = max(event_ends, agent.connected_at) + SLACK, "it still runs"
    else:
        # Until offline_for it may begin one more event, and that may take as long as any.
        silent_since = max(agent.last_seen or started, agent.awaited_since)
        until = max(silent_since + draft.limits.offline_for + draft.limits.event, event_ends)
        why = f"its agent was last heard {draft.now - silent_since:.0f} s ago"
    what = row.running or ("the revision's preparation" if row.command.prepare else "the next event")
    if draft.now >= until:
        return Failed("TIMEOUT", f"{what} did not end within {until - started:.0f} s: {why}")
    draft.wait(
        "HOOK", f"{what} runs" if agent.connected else f"{what}: {why}", target.instance, since=started, until=until
    )
    return WAIT


# Traffic


def leave(draft: Draft, target: Target) -> Outcome:
    """DONE when the target may be out of service from now on: not before, or the floor holds without it."""
    if target.role == "original":
        return STOPPED if draft.halted else DONE
    if target.left_at is not None or target.stage < leaves_service(draft.stages):
        return DONE
    if draft.halted:
        return STOPPED
    service = draft.service[target.instance]
    if service.value is False or (service.value and draft.spare() > 0):
        draft.leave_service(target)
        return DONE
    until = target.stage_since + draft.limits.healthy_wait
    short = f"{draft.in_service()} in service, minimum {draft.deployment.floor}"
    text = service.why if service.value is None else f"it cannot be taken: {short}"
    if draft.now >= until:
        return Failed("HEALTH_CONSTRAINTS", text)
    draft.wait("FLOOR", text, target.instance, since=target.stage_since, until=until)
    return WAIT


def block(draft: Draft, target: Target) -> Outcome:
    if draft.stopping or (draft.halted and target.role == "original"):
        return STOPPED
    if target.traffic != "out":
        left = leave(draft, target)
        if left is not DONE:
            return left
        target = draft.targets[target.instance]
        kept = traffic.already_out(draft, target)
        draft.set(target, traffic="out", traffic_since=draft.now, kept_out=kept)
        draft.event(target, "BlockTraffic", EventStatus.IN_PROGRESS, started_at=draft.now)
        return WAIT
    return _out(draft, target)


def _out(draft: Draft, target: Target) -> Outcome:
    asked_at = target.traffic_since if target.kept_out else traffic.asked_since(draft, target)
    if asked_at is None:
        return _not_yet(draft, target, traffic.ask_error(draft, target) or "asking the balancers to take it out")
    seen = traffic.readings_since(draft, target, asked_at)
    problem = traffic.not_out(draft, target, seen)
    if problem:
        return _not_yet(draft, target, problem, traffic.own_time(seen))
    why, requests = traffic.not_quiet(draft, target, seen, asked_at)
    return _not_quiet(draft, target, why, requests, traffic.own_time(seen)) if why else DONE


def _not_yet(draft: Draft, target: Target, problem: str, own_time: float = 0.0) -> Outcome:
    within = draft.limits.block_within + own_time
    until = target.traffic_since + within
    if draft.now >= until:
        return Failed("BLOCK_TRAFFIC", f"not out of traffic within {within:g} s: {problem}")
    draft.wait("BLOCK", problem, target.instance, since=target.traffic_since, until=until)
    return WAIT


def _not_quiet(draft: Draft, target: Target, why: str, requests: int, own_time: float) -> Outcome:
    quiet = draft.deployment.settings.quiet
    until = target.traffic_since + quiet.at_most + own_time
    if draft.now < until:
        draft.wait("QUIET", why, target.instance, since=target.traffic_since, until=until)
        return WAIT
    if quiet.then == "fail":
        return Failed("BLOCK_TRAFFIC", f"not quiet within {quiet.at_most:g} s: {why}")
    draft.set(target, cut=requests)
    draft.tell("cut", target.instance, requests=requests, message=why)
    return DONE


def allow(draft: Draft, target: Target) -> Outcome:
    if draft.snapshot.request.stop == "now":
        return STOPPED
    if target.kept_out:
        return settle(draft, target)
    if target.traffic != "in":
        ready = settle(draft, target)
        if ready is not DONE:
            return ready
        target = draft.set(target, traffic="in", traffic_since=draft.now)
        draft.event(target, "AllowTraffic", EventStatus.IN_PROGRESS, started_at=draft.now)
        return WAIT
    asked_at = traffic.asked_since(draft, target)
    if asked_at is None:
        problem = traffic.ask_error(draft, target) or "asking the balancers to take it back"
        return _awaited(draft, target, problem, target.traffic_since, "ALLOW")
    seen = traffic.readings_since(draft, target, asked_at)
    problem = traffic.not_in(draft, seen)
    return _awaited(draft, target, problem, target.traffic_since, "ALLOW", traffic.own_time(seen)) if problem else DONE


def settle(draft: Draft, target: Target) -> Outcome:
    """The group's own health check, by results asked for since this stage began."""
    if draft.snapshot.request.stop == "now":
        return STOPPED
    agent = draft.agent(target)
    if draft.deployment.settings.health is None:
        return DONE
    if agent.probe is None or agent.asked < target.look:
        problem = "no health check result yet" if agent.connected else "its agent is not connected"
    elif agent.probe.healthy:
        return DONE
    else:
        problem = f"its health check fails: {agent.probe.detail}"
    return _awaited(draft, target, problem, target.stage_since, "HEALTH")


def _awaited(draft: Draft, target: Target, problem: str, since: float, code: str, own_time: float = 0.0) -> Outcome:
    within = draft.limits.allow_within + own_time
    until = since + within
    if draft.now >= until:
        return Failed("HEALTH_CHECK", f"not in service within {within:g} s: {problem}")
    draft.wait(code, problem, target.instance, since=since, until=until)
    return WAIT


STAGES: dict[StageKind, Callable[[Draft, Target], Outcome]] = {
    StageKind.PREPARE: prepare,
    StageKind.SCRIPTS: scripts,
    StageKind.BLOCK: block,
    StageKind.ALLOW: allow,
    StageKind.SETTLE: settle,
    StageKind.READY: shift.ready,
    StageKind.INVOKE: shift.invoke,
    StageKind.SHIFT: holding.shift,
    StageKind.ARRANGE: arrange.arrange,
    StageKind.HOLD: arrange.hold,
    StageKind.FOLLOW: holding.follow,
    StageKind.ENLIST: blue_green.enlist,
    StageKind.GATE: blue_green.gate,
}
