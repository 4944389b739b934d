"""decide(snapshot, now) -> what becomes of instances that an Auto Scaling group launches or ends. Pure.

A new instance gets what is good before it goes into service, at once, whatever the group's own deployment is doing;
what has become outdated by then is updated afterwards. A revision that does not come up must not be launched for ever:
after MOST_FAILED instances in a row the next ones are neither given up nor let in. They wait, for people to look at
them and for another revision. An instance that is ended is let go in every case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from shiftwork_coordinator.model.launches import Launch, LaunchSnapshot
from shiftwork_coordinator.model.status import TargetStatus

MOST_FAILED = 2
"""Instances in a row that are given up for one revision."""
JOIN_WITHIN = 600.0
"""Seconds from the launch until an agent must have joined: what AWS waits by itself with CodeDeploy's hooks."""
By = Literal["autoscaling", "autoscalingTermination", "CodeDeployAutoUpdate"]
"""The creators, in CodeDeploy's words, of deployments that are begun here."""
BEAT_EVERY = 200.0
"""Seconds: a third of the hook's timeout."""


class Begin(msgspec.Struct, frozen=True):
    """A deployment to these instances. What is followed up is not remembered any more."""

    creator: By
    launches: tuple[Launch, ...]


class LaunchDecision(msgspec.Struct, frozen=True):
    """`put` and `delete` come before everything else. `answer` tells AWS the outcome, `beat` to wait longer."""

    put: tuple[Launch, ...] = ()
    delete: tuple[Launch, ...] = ()
    begin: tuple[Begin, ...] = ()
    answer: tuple[Launch, ...] = ()
    beat: tuple[Launch, ...] = ()


def decide(snapshot: LaunchSnapshot, now: float) -> LaunchDecision:
    draft = _Draft(snapshot, now)
    for id, waiting in snapshot.waiting.items():
        row = draft.row(id, waiting.leaving) or Launch(
            snapshot.group.id, id, waiting.leaving, waiting.scaling_group, since=now, beat_at=now
        )
        draft.keep(_leaving(draft, row) if row.leaving else _arriving(draft, row))
    outdated = [row for row in snapshot.launches if not _waits(snapshot, row) and _is_outdated(draft, row)]
    return draft.decision(outdated)


class _Draft:
    def __init__(self, snapshot: LaunchSnapshot, now: float) -> None:
        self.snapshot, self.now = snapshot, now
        good = snapshot.group.last_good
        self.good = good.identity if good else ""
        self.rows = {(row.cloud_id, row.leaving): row for row in snapshot.launches}
        self.ready: list[Launch] = []

    def row(self, id: str, leaving: bool) -> Launch | None:
        return self.rows.get((id, leaving))

    def keep(self, row: Launch) -> None:
        self.rows[row.cloud_id, row.leaving] = row

    def failed(self) -> int:
        """How many instances in a row were given up with what is good."""
        return sum(row.outcome == "ABANDON" and row.revision == self.good for row in self.rows.values())

    def forget(self, rows: Iterable[Launch]) -> None:
        for row in list(rows):
            self.rows.pop((row.cloud_id, row.leaving), None)

    def decision(self, outdated: list[Launch]) -> LaunchDecision:
        """What has nothing to wait for is forgotten; what is begun together is one deployment."""
        self.forget(row for row in list(self.rows.values()) if row not in outdated and self._over(row))
        before = {(row.cloud_id, row.leaving): row for row in self.snapshot.launches}
        asked = [row for row in self.rows.values() if _waits(self.snapshot, row)]
        late = [row for row in asked if not row.outcome and self.now >= row.beat_at + BEAT_EVERY]
        for row in late:
            self.keep(replace(row, beat_at=self.now))
        return LaunchDecision(
            put=tuple(row for key, row in self.rows.items() if row != before.get(key)),
            delete=tuple(row for key, row in before.items() if key not in self.rows),
            begin=(
                *_begin("autoscaling", [row for row in self.ready if not row.leaving]),
                *_begin("autoscalingTermination", [row for row in self.ready if row.leaving]),
                *_begin("CodeDeployAutoUpdate", outdated),
            ),
            answer=tuple(row for row in asked if row.outcome),
            beat=tuple(late),
        )

    def _over(self, row: Launch) -> bool:
        """Whether nothing follows for an instance that waits no longer."""
        if _waits(self.snapshot, row):
            return False
        if row.outcome == "ABANDON":
            return row.revision != self.good
        if row.leaving or row.cloud_id not in self.snapshot.serving:
            return row.leaving or not row.outcome or self.now >= row.beat_at + JOIN_WITHIN
        return not self.snapshot.active and self.snapshot.installed.get(row.cloud_id, "") == self.good


def _begin(creator: By, rows: list[Launch]) -> list[Begin]:
    """One for each Auto Scaling group: two may be behind different load balancers."""
    groups = dict.fromkeys(row.scaling_group for row in rows)
    return [Begin(creator, tuple(row for row in rows if row.scaling_group == name)) for name in groups]


def _waits(snapshot: LaunchSnapshot, row: Launch) -> bool:
    waiting = snapshot.waiting.get(row.cloud_id)
    return waiting is not None and waiting.leaving == row.leaving


def _arriving(draft: _Draft, row: Launch) -> Launch:
    seen = draft.snapshot
    if row.outcome:
        return row
    if row.scaling_group in seen.passed:
        return _let_in(draft, row, f"deployment {seen.active} sees to it")
    if not draft.good:
        return _let_in(draft, row, "no deployment to the group has succeeded yet")
    if row.deployment_id and (row.deployment_id, row.cloud_id) not in seen.ended:
        return row
    if row.scaling_group in seen.kept:
        return replace(row, why=f"waiting for the end of {seen.active}, which replaces its group")
    if row.deployment_id and row.revision == draft.good:
        return _ended(draft, row)
    if row.cloud_id in seen.joined:
        row = replace(row, revision=draft.good, deployment_id="", why="")
        draft.ready.append(row)
        return row
    if draft.now >= row.since + JOIN_WITHIN:
        return _failed(draft, row, f"no agent joined within {JOIN_WITHIN:g} s; does the image install and join one?")
    return replace(row, why="waiting for its agent to join")


def _ended(draft: _Draft, row: Launch) -> Launch:
    ended = draft.snapshot.ended[row.deployment_id, row.cloud_id]
    if ended.status is not TargetStatus.SUCCEEDED:
        return _failed(draft, row, ended.message or f"{row.deployment_id} did not succeed there")
    draft.forget(each for each in draft.rows.values() if each.outcome == "ABANDON")
    return _let_in(draft, row, "")


def _failed(draft: _Draft, row: Launch, why: str) -> Launch:
    """Given up, or kept for people when that has not helped."""
    row = replace(row, revision=draft.good)
    if (failed := draft.failed()) < MOST_FAILED:
        return replace(row, outcome="ABANDON", why=why)
    kept = f"{failed} instances before it failed with the same revision: it is kept waiting until another one succeeds"
    return replace(row, why=f"{why}; {kept}")


def _let_in(draft: _Draft, row: Launch, why: str) -> Launch:
    return replace(row, outcome="CONTINUE", why=why, beat_at=draft.now)


def _leaving(draft: _Draft, row: Launch) -> Launch:
    """Hooks on the way out are a courtesy: nothing keeps an instance that is to go."""
    seen, id = draft.snapshot, row.cloud_id
    if row.outcome:
        return row
    if row.deployment_id:
        return replace(row, outcome="CONTINUE") if (row.deployment_id, id) in seen.ended else row
    idle = id not in seen.joined or not seen.installed.get(id) or not draft.good
    if idle or id in seen.taken or row.scaling_group in seen.passed | seen.kept:
        return replace(row, outcome="CONTINUE", why="nothing is stopped there")
    draft.ready.append(row)
    return row


def _is_outdated(draft: _Draft, row: Launch) -> bool:
    """Whether it came into service while the group's deployment was under way, and has not got what is good now."""
    seen = draft.snapshot
    if row.leaving or row.outcome == "ABANDON" or seen.active or not draft.good:
        return False
    there = row.cloud_id in seen.serving and row.cloud_id in seen.joined
    return there and seen.installed.get(row.cloud_id, "") != draft.good
