"""From EC2's members to the joined instances that they are. Pure; nothing is chosen silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.ports import Member

STOPPED = frozenset({"stopping", "stopped"})
IN_A_GROUP = frozenset({"", "InService", "EnteringStandby", "Standby"})
"""States in an Auto Scaling group of an instance that is to have the revision; what comes or goes is not taken."""
NAMED = 20
"""Instances that an error names; of more it tells how many."""


class Chosen(msgspec.Struct, frozen=True):
    """`instances` run and have an agent. `stopped` are members by the name of their target. `members` are both, by
    that name. `left` are not taken: they come or go."""

    instances: Sequence[Instance] = ()
    stopped: Mapping[str, Member] = {}
    members: Mapping[str, Member] = {}
    left: Sequence[Member] = ()


def tied(group: str, members: Iterable[Member], known: Iterable[Instance]) -> Chosen:
    """Raises InvalidRequest that names every running member without a joined agent, or with two."""
    rows = list(known)
    claims = _claims(row for row in rows if row.revoked_at is None)
    by_fate: dict[str, list[Member]] = {"run": [], "stopped": [], "left": []}
    for member in members:
        by_fate[_fate(member)].append(member)
    _refuse_doubles(group, [*by_fate["run"], *by_fate["stopped"]], claims)
    _refuse_missing(group, [m for m in by_fate["run"] if m.id not in claims], rows)
    stopped = {claims[m.id][0].name if m.id in claims else m.id: m for m in by_fate["stopped"]}
    running = {claims[m.id][0].name: m for m in by_fate["run"]}
    return Chosen([claims[m.id][0] for m in by_fate["run"]], stopped, {**running, **stopped}, by_fate["left"])


def _fate(member: Member) -> str:
    if member.state not in STOPPED | {"running"} or member.lifecycle not in IN_A_GROUP:
        return "left"
    return "stopped" if member.state in STOPPED else "run"


def _claims(rows: Iterable[Instance]) -> dict[str, list[Instance]]:
    claims: dict[str, list[Instance]] = {}
    for row in rows:
        if row.cloud_id:
            claims.setdefault(row.cloud_id, []).append(row)
    return claims


def _refuse_doubles(group: str, members: Sequence[Member], claims: Mapping[str, list[Instance]]) -> None:
    doubles = [(m.id, " and ".join(row.name for row in claims[m.id])) for m in members if len(claims.get(m.id, ())) > 1]
    if doubles:
        told = "; ".join(f"{names} both say that they are {id}" for id, names in doubles[:NAMED])
        raise InvalidRequest(
            f"cannot deploy to {group}: {told}; `shiftwork instances` shows when each was last seen,"
            " `shiftwork revoke INSTANCE` shuts the wrong one out",
            code="AGENT_ISSUE",
        )


def _refuse_missing(group: str, members: Sequence[Member], rows: Sequence[Instance]) -> None:
    if not members:
        return
    before = _claims(rows)
    named = ", ".join(f"{m.id} ({_last_seen(before.get(m.id, []))})" for m in members[:NAMED])
    more = f" and {len(members) - NAMED} more" if len(members) > NAMED else ""
    raise InvalidRequest(
        f"cannot deploy to {group}: {len(members)} of its running instances have no agent here: {named}{more};"
        " join them (`shiftwork bootstrap`, or `shiftwork-agent join --iam` at their start), or choose others",
        code="AGENT_ISSUE",
    )


def _last_seen(rows: Sequence[Instance]) -> str:
    """Of those that were revoked, since no other claims the id."""
    if not rows:
        return "none ever joined"
    last = max(rows, key=lambda row: row.last_seen or 0.0)
    when = f"{datetime.fromtimestamp(last.last_seen, UTC):%Y-%m-%d %H:%M:%S} UTC" if last.last_seen else "never"
    return f"{last.name} was revoked, last seen {when}"
