"""Which agents are upgraded next, which have been, and whether to go on. Pure, like `decide`.

An agent that is being upgraded ends in one of three ways: it is connected as the new version, said done and stayed
connected (Succeeded); it was put back or refused (Failed); or its time is over (Failed). One whose turn has not come
is started, waits for a reason that ends by itself, or is skipped. So an upgrade always ends.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from shiftwork_contract.messages import Package, Upgrade
from shiftwork_coordinator.engine.batches import natural
from shiftwork_coordinator.engine.decision import Reason
from shiftwork_coordinator.model.status import (
    DECIDED,
    DEPLOYMENT_MOVES,
    ENDED,
    TARGET_MOVES,
    DeploymentStatus,
    TargetStatus,
    move,
)
from shiftwork_coordinator.model.upgrades import (
    AgentPackage,
    AgentUpgrade,
    AgentUpgradeTarget,
    HostSeen,
    UpgradeSnapshot,
)

AWAY_FOR = 300.0
"""Seconds for which an agent that is not connected is waited for before it is skipped."""
FETCH_WITHIN = 900.0
"""Seconds that an agent gets for fetching two packages and for what the package manager does with them."""
CURRENT, AWAY, STOPPED, HALTED = "CURRENT", "AWAY", "STOPPED", "HALTED"
TOO_MANY_FAILED, NONE_UPGRADED = "TOO_MANY_FAILED", "NONE_UPGRADED"


class UpgradeDecision(msgspec.Struct, frozen=True):
    """`targets` holds those that changed; `wanted` what each agent under way is to be told, once per link."""

    upgrade: AgentUpgrade
    targets: tuple[AgentUpgradeTarget, ...] = ()
    wanted: dict[str, Upgrade] = {}
    reasons: tuple[Reason, ...] = ()
    wake_at: float | None = None


class _Hold(msgspec.Struct, frozen=True):
    """Why a target is not started. Without `skip` it waits, at the longest until `until`."""

    code: str
    message: str
    skip: bool = True
    until: float | None = None


def decide(snapshot: UpgradeSnapshot, now: float) -> UpgradeDecision:
    upgrade = snapshot.upgrade
    if upgrade.status in ENDED:
        return UpgradeDecision(upgrade)
    targets = {name: _judged(snapshot, target, now) for name, target in snapshot.targets.items()}
    why = _over(upgrade, targets.values())
    holds = {} if why else _holds(snapshot, targets.values(), now)
    for name, hold in holds.items():
        if hold.skip:
            targets[name] = _ended(targets[name], TargetStatus.SKIPPED, hold.code, hold.message, now)
    if why:
        targets = {name: _skipped_by(why, target, now) for name, target in targets.items()}
    upgrade, started = _started(snapshot, targets, holds, now)
    targets |= started
    changed = tuple(t for name, t in targets.items() if t != snapshot.targets[name])
    upgrade = _concluded(upgrade, targets.values(), now)
    return UpgradeDecision(
        upgrade,
        changed,
        _wanted(snapshot, targets.values()),
        _reasons(snapshot, targets.values(), holds),
        _wake_at(snapshot, targets.values(), holds, now),
    )


# One target


def _judged(snapshot: UpgradeSnapshot, target: AgentUpgradeTarget, now: float) -> AgentUpgradeTarget:
    """A target under way, ended when it has."""
    if target.status is not TargetStatus.IN_PROGRESS:
        return target
    seen, upgrade = snapshot.hosts.get(target.instance, HostSeen(joined=False)), snapshot.upgrade
    state = seen.told.state if seen.told and seen.connected else ""
    if not seen.joined:
        return _ended(target, TargetStatus.FAILED, "REVOKED", "it was revoked meanwhile", now)
    if state in ("returned", "refused") and seen.told is not None:
        return _ended(target, TargetStatus.FAILED, state.upper(), seen.told.message or state, now)
    if _works(upgrade, seen) and now >= seen.connected_at + upgrade.settle:
        return _ended(target, TargetStatus.SUCCEEDED, "", "", now)
    if now >= _deadline(upgrade, target):
        return _ended(target, TargetStatus.FAILED, "TIMED_OUT", _no_end(upgrade, target, seen), now)
    return target


def _works(upgrade: AgentUpgrade, seen: HostSeen) -> bool:
    return seen.connected and seen.version == upgrade.version and seen.told is not None and seen.told.state == "done"


def _deadline(upgrade: AgentUpgrade, target: AgentUpgradeTarget) -> float:
    """Twice the time to connect: as the new version, and as the one before it."""
    return (target.started_at or 0.0) + FETCH_WITHIN + 2 * upgrade.connect_within + upgrade.settle


def _no_end(upgrade: AgentUpgrade, target: AgentUpgradeTarget, seen: HostSeen) -> str:
    limit = _deadline(upgrade, target) - (target.started_at or 0.0)
    if not seen.connected:
        return f"it has not come back within {limit:g} s; look at the host: journalctl -u 'shiftwork-agent*'"
    last = f"it said {seen.told.state!r}" if seen.told else "it never answered"
    return f"it did not settle as {upgrade.version} within {limit:g} s: {last}, and is {seen.version}"


def _ended(target: AgentUpgradeTarget, status: TargetStatus, code: str, reason: str, now: float) -> AgentUpgradeTarget:
    after = move(TARGET_MOVES, target.status, status)
    return replace(target, status=after, code=code, reason=reason, completed_at=now)


def _skipped_by(why: tuple[str, str], target: AgentUpgradeTarget, now: float) -> AgentUpgradeTarget:
    if target.status is not TargetStatus.PENDING:
        return target
    return _ended(target, TargetStatus.SKIPPED, *why, now)


# Which may start


def _holds(snapshot: UpgradeSnapshot, targets: Iterable[AgentUpgradeTarget], now: float) -> dict[str, _Hold]:
    pending = (t.instance for t in targets if t.status is TargetStatus.PENDING)
    found = ((name, _hold(snapshot, snapshot.hosts.get(name, HostSeen(joined=False)), now)) for name in pending)
    return {name: hold for name, hold in found if hold is not None}


def _hold(snapshot: UpgradeSnapshot, seen: HostSeen, now: float) -> _Hold | None:
    upgrade = snapshot.upgrade
    if not seen.joined:
        return _Hold("REVOKED", "it was revoked")
    if seen.version == upgrade.version:
        return _Hold(CURRENT, f"it is {upgrade.version} already")
    if not seen.connected:
        until = max(upgrade.created_at, seen.silent_since) + AWAY_FOR
        return _Hold(AWAY, "its agent is not connected", skip=now >= until, until=until)
    if not seen.able:
        return _Hold("UNABLE", UNABLE)
    missing = missing_package(snapshot, seen)
    if missing:
        return _Hold("NO_PACKAGE", missing)
    if seen.busy:
        return _Hold("BUSY", f"deployment {seen.busy} has it as a target", skip=False)
    return None


UNABLE = "its agent takes no upgrade from here: no package, no systemd, too old, or it runs only what is signed"


def missing_package(snapshot: UpgradeSnapshot, seen: HostSeen) -> str:
    """Which package of those that this agent needs is not there, and what to do; empty when none is missing."""
    needed = [snapshot.upgrade.version] + ([] if snapshot.upgrade.no_return else [seen.version])
    missing = [version for version in needed if seen.key(version) not in snapshot.packages]
    if not missing:
        return ""
    what = f"the {seen.host.package} package of version {missing[0]} for {seen.host.machine}"
    back = " (to go back to)" if missing[0] != snapshot.upgrade.version else ""
    return f"{what}{back} is not at the coordinator; give it with --package"


def _started(
    snapshot: UpgradeSnapshot, targets: dict[str, AgentUpgradeTarget], holds: dict[str, _Hold], now: float
) -> tuple[AgentUpgrade, dict[str, AgentUpgradeTarget]]:
    """The next batch, once nothing of the one before it is under way."""
    upgrade = snapshot.upgrade
    ready = [t for t in targets.values() if t.status is TargetStatus.PENDING and t.instance not in holds]
    if not ready or any(t.status is TargetStatus.IN_PROGRESS for t in targets.values()):
        return upgrade, {}
    first = sorted(ready, key=lambda t: natural(t.instance))[: upgrade.at_once if upgrade.batch else 1]
    upgrade = replace(upgrade, batch=upgrade.batch + 1)
    return upgrade, {
        t.instance: replace(
            t,
            status=move(TARGET_MOVES, t.status, TargetStatus.IN_PROGRESS),
            batch=upgrade.batch,
            from_version=snapshot.hosts[t.instance].version,
            started_at=now,
        )
        for t in first
    }


# The whole


def _over(upgrade: AgentUpgrade, targets: Iterable[AgentUpgradeTarget]) -> tuple[str, str] | None:
    """Why nothing more is started, as a code and a sentence."""
    failed = [t.instance for t in targets if t.status is TargetStatus.FAILED]
    if len(failed) > upgrade.max_failed:
        names = ", ".join(sorted(failed, key=natural)[:5])
        return HALTED, f"the upgrade halted: {len(failed)} failed ({names}), at most {upgrade.max_failed} may"
    return (STOPPED, f"{upgrade.stop_by} stopped the upgrade") if upgrade.stop_by else None


def _concluded(upgrade: AgentUpgrade, targets: Iterable[AgentUpgradeTarget], now: float) -> AgentUpgrade:
    """Ended when every target has."""
    if any(t.status not in DECIDED for t in targets):
        return upgrade
    why = _over(upgrade, targets)
    there = [t for t in targets if t.status is TargetStatus.SUCCEEDED or t.code == CURRENT]
    status, code, message = DeploymentStatus.SUCCEEDED, "", ""
    if why:
        halted = why[0] == HALTED
        status = DeploymentStatus.FAILED if halted else DeploymentStatus.STOPPED
        code, message = (TOO_MANY_FAILED if halted else "MANUAL_STOP"), why[1]
    elif not there:
        status, code = DeploymentStatus.FAILED, NONE_UPGRADED
        message = f"no agent became {upgrade.version}; each target says why"
    status = move(DEPLOYMENT_MOVES, upgrade.status, status)
    return replace(upgrade, status=status, error_code=code, error_message=message, completed_at=now)


def _wanted(snapshot: UpgradeSnapshot, targets: Iterable[AgentUpgradeTarget]) -> dict[str, Upgrade]:
    """To those under way that have not spoken of it over the link that is open."""
    found = {}
    for target in targets:
        seen = snapshot.hosts.get(target.instance, HostSeen())
        message = _message(snapshot, target, seen)
        if target.status is TargetStatus.IN_PROGRESS and seen.connected and seen.told is None and message is not None:
            found[target.instance] = message
    return found


def _message(snapshot: UpgradeSnapshot, target: AgentUpgradeTarget, seen: HostSeen) -> Upgrade | None:
    upgrade = snapshot.upgrade
    package = snapshot.packages.get(seen.key(upgrade.version))
    previous = None if upgrade.no_return else snapshot.packages.get(seen.key(target.from_version))
    if package is None:
        return None
    return Upgrade(
        snapshot.epoch, upgrade.id, _sent(package), _sent(previous) if previous else None, upgrade.connect_within
    )


def _sent(package: AgentPackage) -> Package:
    return Package(package.version, f"/v1/agent/packages/sha256:{package.sha256}", package.sha256, package.size)


def _reasons(
    snapshot: UpgradeSnapshot, targets: Iterable[AgentUpgradeTarget], holds: dict[str, _Hold]
) -> tuple[Reason, ...]:
    found = [_reason(snapshot, t) for t in targets if t.status is TargetStatus.IN_PROGRESS]
    waiting = [(name, hold) for name, hold in holds.items() if not hold.skip]
    found += [Reason(hold.code, hold.message, name, until=hold.until) for name, hold in waiting]
    return tuple(found)


def _reason(snapshot: UpgradeSnapshot, target: AgentUpgradeTarget) -> Reason:
    seen, upgrade = snapshot.hosts.get(target.instance, HostSeen()), snapshot.upgrade
    until = _deadline(upgrade, target)
    if _works(upgrade, seen):
        settled = seen.connected_at + upgrade.settle
        message = f"it is connected as {upgrade.version}, and must stay so"
        return Reason("SETTLING", message, target.instance, seen.connected_at, settled)
    if not seen.connected:
        return Reason("INSTALLING", "its agent is away, being replaced", target.instance, target.started_at, until)
    told = seen.told.state if seen.told else "asked"
    return Reason("INSTALLING", f"its agent says: {told}", target.instance, target.started_at, until)


def _wake_at(
    snapshot: UpgradeSnapshot, targets: Iterable[AgentUpgradeTarget], holds: dict[str, _Hold], now: float
) -> float | None:
    upgrade = snapshot.upgrade
    times = [hold.until for hold in holds.values() if hold.until is not None]
    for target in targets:
        if target.status is TargetStatus.IN_PROGRESS:
            seen = snapshot.hosts.get(target.instance, HostSeen())
            times.append(_deadline(upgrade, target))
            times += [seen.connected_at + upgrade.settle] if _works(upgrade, seen) else []
    return min((time for time in times if time > now), default=None)
