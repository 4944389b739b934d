"""What `decide` is given: the rows of one deployment and the last observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from shiftwork_contract.messages import GateState, Probe, Quiet
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, HookRun, Installed, Request, Target


class TimedReading(msgspec.Struct, frozen=True):
    """A balancer's answer. `state` is a ports.TrafficState's value; `lasts` as in ports.Reading."""

    state: str
    in_flight: int | None
    generation: str
    out_by: str
    detail: str
    asked_at: float
    answered_at: float
    lasts: float = 0.0


class TrafficSeen(msgspec.Struct, frozen=True):
    """One target in one balancer: the last reading and the one before it."""

    balancer: str
    last: TimedReading
    before: TimedReading | None = None


class QuietSeen(msgspec.Struct, frozen=True):
    quiet: Quiet
    at: float


class AgentSeen(msgspec.Struct, frozen=True):
    """What the coordinator knows of an agent. `asked` tells which Watch the probe and quiet readings belong to.

    `awaited_since` is when this process began to listen: silence before it was the coordinator's own. `connected_at` is
    when the link that is open was opened: what happened before is still being told.
    """

    connected: bool = False
    last_seen: float | None = None
    awaited_since: float = 0.0
    connected_at: float = 0.0
    asked: int = 0
    probe: Probe | None = None
    probe_at: float | None = None
    quiet: QuietSeen | None = None
    quiet_before: QuietSeen | None = None
    gate: GateState | None = None


class AlarmSeen(msgspec.Struct, frozen=True):
    """An alarm's last answer. `changed_at` is when the alarm came into this state; `reason` is the alarm's own."""

    state: Literal["OK", "ALARM", "INSUFFICIENT_DATA", "UNREADABLE"]
    reason: str = ""
    changed_at: float | None = None


class Shifted(msgspec.Struct, frozen=True):
    """A resource's last answer. `weight` is the share of traffic that its replacement has, None = not to be told.
    `ready`: the replacement can take traffic. `fatal`: it never will, and `detail` says why. `members` are EC2's ids of
    the replacement's instances."""

    weight: float | None
    ready: bool
    asked_at: float
    fatal: bool = False
    detail: str = ""
    holds: frozenset[Arrangement] = frozenset()
    members: tuple[str, ...] = ()


class Joined(msgspec.Struct, frozen=True):
    """A joined instance, as a target would name it."""

    instance: str
    address: str
    cloud_id: str


class Companion(msgspec.Struct, frozen=True):
    """A deployment that was created together with this one. `back`: it ended badly, or will; `why` says so,
    and `along` that it was taken along by another."""

    id: str
    state: Literal["under way", "arrived", "succeeded", "back"]
    why: str = ""
    along: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a decision may depend on besides the time.

    `blocked_by` is the id of the deployment that must end before this one may start. `commands` are keyed by
    (instance, stage), `asked` by (instance, verb), `alarms` by name; one that was not read yet is not there,
    as with `shifted`. `hook_runs` are keyed by (instance, event). `health`:
    see rows.Health; absent = never deployed. `epoch` goes into commands. `joined` are instances by EC2's id, while new
    ones are waited for. `gone` tells of instances that do not run any more, as far as that is known:
    EC2's state, or "missing".
    """

    deployment: Deployment
    targets: Mapping[str, Target]
    epoch: int
    request: Request
    commands: Mapping[tuple[str, int], CommandRow] = {}
    asked: Mapping[tuple[str, str], Asked] = {}
    agents: Mapping[str, AgentSeen] = {}
    traffic: Mapping[str, tuple[TrafficSeen, ...]] = {}
    installed: Mapping[str, Installed] = {}
    health: Mapping[str, bool] = {}
    last_good: Revision | None = None
    balancers: tuple[str, ...] = ()
    alarms: Mapping[str, AlarmSeen] = {}
    shifted: Mapping[str, Shifted] = {}
    hook_runs: Mapping[tuple[str, str], HookRun] = {}
    blocked_by: str = ""
    companions: tuple[Companion, ...] = ()
    joined: Mapping[str, Joined] = {}
    gone: Mapping[str, str] = {}
