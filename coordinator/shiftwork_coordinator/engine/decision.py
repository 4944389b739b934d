"""What `decide` returns: rows to write, things to do, why it waits, when to look again."""

from __future__ import annotations

import msgspec

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.actions import Action
from shiftwork_coordinator.model.rows import CommandRow, Deployment, History, HookRun, LifecycleEventRow, Target


class Reason(msgspec.Struct, frozen=True, rename="camel"):
    """Why something waits. `target` is empty when it is the whole deployment; `until` is the deadline, if any."""

    code: str
    message: str
    target: str = ""
    since: float | None = None
    until: float | None = None


class Rollback(msgspec.Struct, frozen=True):
    """A new deployment to be created with this one's end: `skip` maps instances to why they need nothing."""

    revision: Revision
    skip: dict[str, str]


class Decision(msgspec.Struct, frozen=True):
    """`targets`, `commands` and `events` hold what changed. Written in one transaction, then `actions` are done."""

    deployment: Deployment
    targets: tuple[Target, ...] = ()
    commands: tuple[CommandRow, ...] = ()
    events: tuple[tuple[str, LifecycleEventRow], ...] = ()
    hook_runs: tuple[HookRun, ...] = ()
    health: tuple[tuple[str, bool], ...] = ()
    history: tuple[History, ...] = ()
    actions: tuple[Action, ...] = ()
    reasons: tuple[Reason, ...] = ()
    wake_at: float | None = None
    rollback: Rollback | None = None
    last_good: bool = False
    in_service: dict[str, bool | None] = {}
