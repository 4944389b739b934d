"""What travels over the link between an agent and the coordinator, as JSON text frames of a WebSocket.

The agent opens the link and speaks first (`Hello`); the coordinator answers `Welcome` with the protocol version both
understand. Nothing newer than that is sent; an unknown kind is answered `Unsupported` and otherwise ignored, unknown
fields are ignored. Times are seconds; wall-clock times are Unix time and only for people.

A *report* carries `seq`, rising by one per agent state directory. The agent keeps reports until `Acknowledge(seq)`,
which means: everything up to `seq` is durable. After a reconnect it sends the unacknowledged ones again; the
coordinator ignores what it has. Everything else is a reading: the latest one counts, lost ones do not matter.

`epoch` fences: it rises whenever another coordinator process takes over. Agents remember the highest one they saw and
refuse anything with a lower one.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from shiftwork_contract.diagnostics import Diagnostics
from shiftwork_contract.errors import ContractViolation
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.revision import Revision

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1
T = TypeVar("T")
MAX_MESSAGE = 1 << 20
"""Bytes of one frame, both ways. Hook output is sent in pieces of at most 64 KiB."""


class Message(msgspec.Struct, frozen=True, tag_field="kind", rename="camel"):
    """Anything sent over the link; the JSON member `kind` is the class name."""


# Both ways


class Unsupported(Message, frozen=True, tag=True):
    what: str


# From the agent


class GroupState(msgspec.Struct, frozen=True, rename="camel"):
    """What one deployment group has on this host. `installed` moves when Install succeeds; empty = nothing."""

    group_id: str
    installed: str = ""
    installed_by: str = ""
    last_sequence: int = 0


class HostFacts(msgspec.Struct, frozen=True, rename="camel"):
    """What the host is: `machine` as `uname -m` says, `system` and `version` as /etc/os-release does (`debian`, `12`).
    `package` is the format in which the agent was installed, empty when it came otherwise. The last three are those
    of an EC2 instance, as its metadata service told the agent."""

    machine: str = ""
    system: str = ""
    version: str = ""
    package: Literal["", "deb", "rpm"] = ""
    instance_id: str = ""
    region: str = ""
    zone: str = ""


class Hello(Message, frozen=True, tag=True):
    """First message on a new link. `unfinished` are commands that were accepted and have not ended."""

    protocol_min: int
    protocol_max: int
    agent_version: str
    boot_id: str
    next_seq: int
    epoch_seen: int = 0
    features: tuple[str, ...] = ()
    groups: tuple[GroupState, ...] = ()
    unfinished: tuple[str, ...] = ()
    host: HostFacts = HostFacts()


class Heartbeat(Message, frozen=True, tag=True):
    """Every `Welcome.heartbeat` seconds. Loads and sizes inform; nothing is decided by them unless a group asks.

    `disk_*` are of the file system that holds the agent's state; `agent_cpu_seconds` counts since the agent's start,
    `uptime` since the host's.
    """

    load1: float = 0.0
    memory_used_percent: float = 0.0
    disk_free_bytes: int = 0
    agent_rss_bytes: int = 0
    cpus: int = 0
    memory_total_bytes: int = 0
    disk_used_percent: float = 0.0
    agent_cpu_seconds: float = 0.0
    uptime: float = 0.0


class Probe(msgspec.Struct, frozen=True, rename="camel"):
    """The group's health check as the agent runs it, after its thresholds."""

    healthy: bool
    detail: str = ""


class Quiet(msgspec.Struct, frozen=True, rename="camel"):
    """The agent's view of traffic on the group's port: `busy` connections moved data within `for` seconds.

    `known` is false when nothing listens on the port in the agent's network namespace: unknown is never quiet.
    `established` counts all open connections to the port, idle ones included.
    """

    known: bool
    busy: int = 0
    detail: str = ""
    established: int = 0


class GateState(msgspec.Struct, frozen=True, rename="camel"):
    """The gate as balancers see it. `refused` counts consecutive 503 answers since it closed, `passed` consecutive 200
    answers since it opened, from the checker that got the fewest; `checkers` is how many addresses asked at all.
    `since` is seconds since the gate last changed; `problem` is set when the gate cannot listen."""

    open: bool
    since: float
    refused: int = 0
    passed: int = 0
    checkers: int = 0
    problem: str = ""


class Observed(Message, frozen=True, tag=True):
    """A reading for a watched group, sent at each change and at least every `Watch.every` seconds.

    `asked` echoes the highest `Watch.asked`/`SetGate.asked` the agent had handled before it took the reading.
    `quiet` is there only when it is a new look: two that arrive are two looks, also when they saw the same.
    """

    group_id: str
    asked: int
    probe: Probe | None = None
    quiet: Quiet | None = None
    gate: GateState | None = None


class Accepted(Message, frozen=True, tag=True):
    """The command is in the journal: from here it runs once, whatever is restarted."""

    seq: int
    command_id: str


class Refused(Message, frozen=True, tag=True):
    """The command will never run. `code`: STALE_EPOCH, STALE_SEQUENCE, EXPIRED, UNSUPPORTED, INVALID."""

    seq: int
    command_id: str
    code: str
    message: str


class EventStarted(Message, frozen=True, tag=True):
    """`limit`: the event ends within this many seconds, by its scripts' own timeouts and `Command.event_limit`."""

    seq: int
    command_id: str
    event: str
    at: float
    limit: float = 3600.0


class EventEnded(Message, frozen=True, tag=True):
    """`revision` names the revision that the scripts came from; empty when none ran."""

    seq: int
    command_id: str
    event: str
    status: EventStatus
    at: float
    diagnostics: Diagnostics
    revision: str = ""
    started_at: float = 0.0


class Output(Message, frozen=True, tag=True):
    """Bytes of hook output, as written. `offset` counts the bytes of this event's output before these."""

    seq: int
    command_id: str
    event: str
    offset: int
    data: bytes


class CommandEnded(Message, frozen=True, tag=True):
    """Last report of a command. `status`: Succeeded, Failed, or Skipped when it was cancelled before its next event.

    `ran` names the events that were started, in order. For a prepare command that failed, `diagnostics` says why.
    """

    seq: int
    command_id: str
    status: EventStatus
    at: float
    ran: tuple[str, ...] = ()
    diagnostics: Diagnostics = Diagnostics()
    group: GroupState | None = None


class Upgraded(Message, frozen=True, tag=True):
    """How an upgrade stands, told at each change and after each reconnect. `message` says why.

    `state`: fetching; installing (the agent will be restarted); done (this agent is the new version); returned (the new
    one did not work, this is the one before); refused (nothing was changed).
    """

    id: str
    state: Literal["fetching", "installing", "done", "returned", "refused"]
    message: str = ""


class RenewCertificate(Message, frozen=True, tag=True):
    """A CSR in PEM for the same key and name, over the live link."""

    csr: str


# From the coordinator


class Welcome(Message, frozen=True, tag=True):
    protocol: int
    epoch: int
    instance: str
    heartbeat: float = 30.0


class Acknowledge(Message, frozen=True, tag=True):
    seq: int


class Command(msgspec.Struct, frozen=True, rename="camel"):
    """A run of consecutive lifecycle events of one deployment on one instance.

    `prepare` without events: fetch, verify and unpack the revision, check AppSpec and install plan, change nothing
    that serves. `sequence` rises per group and instance: a higher one cancels what a lower one has not started.
    Limits: the first event must start within `start_within` of receipt; one event (all its scripts) lasts at most
    `event_limit`; cut off from the coordinator for longer than `offline_for`, no further event is started.
    `keep` names revisions that must stay in the host's store. `appspec` names the AppSpec file, empty for the usual
    names. `file_exists_behavior` is DISALLOW, OVERWRITE or RETAIN; another one fails Install where it would count.
    `compat` strict: CodeDeploy's quirks, as docs/compatibility.md lists them.
    """

    id: str
    deployment_id: str
    group_id: str
    application: str
    group: str
    sequence: int
    revision: Revision
    events: tuple[str, ...] = ()
    prepare: bool = False
    creator: str = "user"
    start_within: float = 300.0
    event_limit: float = 3600.0
    offline_for: float = 300.0
    ignore_stop_failures: bool = False
    file_exists_behavior: str = "DISALLOW"
    environment: dict[str, str] = {}
    keep: tuple[str, ...] = ()
    appspec: str = ""
    compat: Literal["", "strict"] = ""


class RunCommand(Message, frozen=True, tag=True):
    """Run this once. Sent again after a reconnect until it is `Accepted`, `Refused` or ended."""

    epoch: int
    command: Command


class CancelCommand(Message, frozen=True, tag=True):
    """Start no further event of it. With `now` the running hook is ended too (TERM, 5 s, KILL); else it may finish."""

    epoch: int
    command_id: str
    now: bool = False


class HealthCheck(msgspec.Struct, frozen=True, rename="camel"):
    """One of `http` (URL, healthy = 2xx or 3xx), `tcp` (host:port) or `command` (argv, healthy = exit 0).

    Healthy after `healthy` passes in a row, unhealthy after `unhealthy` failures in a row; before that, no result.
    Thresholds, 0 = none: an answer beyond one fails (load over one minute per CPU; bytes free where the agent keeps its
    state; memory in use). Agents that do not know them ignore them, and so does a gate: taking a loaded host out would
    load the others.
    """

    http: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    interval: float = 1.0
    timeout: float = 2.0
    healthy: int = 2
    unhealthy: int = 2
    max_load_per_cpu: float = 0.0
    min_disk_free: int = 0
    max_memory_percent: float = 0.0


class QuietCheck(msgspec.Struct, frozen=True, rename="camel"):
    port: int
    window: float = 1.0
    """A connection is busy when it moved data within this many seconds."""


class Watch(Message, frozen=True, tag=True):
    """Report on this group until `Unwatch`; a later Watch of the group replaces it. Not kept over an agent restart."""

    epoch: int
    group_id: str
    asked: int
    health: HealthCheck | None = None
    quiet: QuietCheck | None = None
    every: float = 5.0


class Unwatch(Message, frozen=True, tag=True):
    epoch: int
    group_id: str


class SetGate(Message, frozen=True, tag=True):
    """The gate that balancers ask for this group's health: 200 while `open` and the health check passes, else 503.

    Kept over restarts of the agent. `listen` is host:port; an empty `listen` takes the gate away.
    """

    epoch: int
    group_id: str
    asked: int
    listen: str
    path: str
    open: bool
    health: HealthCheck | None = None


class Package(msgspec.Struct, frozen=True, rename="camel"):
    """A package of the agent: `path` is the coordinator's, `sha256` hex."""

    version: str
    path: str
    sha256: str
    size: int


class Upgrade(Message, frozen=True, tag=True):
    """Become `package.version`: fetch the package, check it, install it in a unit of its own, and put `previous` back
    unless the new agent is connected within `connect_within` seconds.

    Sent again after a reconnect until an `Upgraded` says how it ended. One under way or over is not begun twice.
    """

    epoch: int
    id: str
    package: Package
    previous: Package | None = None
    connect_within: float = 60.0


class Certificate(Message, frozen=True, tag=True):
    """The renewed certificate in PEM, and the CA that signed it."""

    certificate: str
    ca: str


FromAgent = (
    Hello | Heartbeat | Observed | Accepted | Refused | EventStarted | EventEnded | Output | CommandEnded
    | RenewCertificate | Upgraded | Unsupported
)  # fmt: skip
FromCoordinator = (
    Welcome | Acknowledge | RunCommand | CancelCommand | Watch | Unwatch | SetGate | Upgrade | Certificate | Unsupported
)
Report = Accepted | Refused | EventStarted | EventEnded | Output | CommandEnded

_encoder = msgspec.json.Encoder()
_from_agent = msgspec.json.Decoder(FromAgent)
_from_coordinator = msgspec.json.Decoder(FromCoordinator)


class _Kind(msgspec.Struct):
    kind: str


_KINDS_FROM_AGENT = frozenset(t.__name__ for t in FromAgent.__args__)
_KINDS_FROM_COORDINATOR = frozenset(t.__name__ for t in FromCoordinator.__args__)


def encode(message: Message) -> str:
    return _encoder.encode(message).decode()


def from_agent(text: str | bytes) -> FromAgent:
    """Decodes; an unknown kind comes back as `Unsupported(kind)`. Raises ContractViolation for anything malformed."""
    return _decode(_from_agent, _KINDS_FROM_AGENT, text)


def from_coordinator(text: str | bytes) -> FromCoordinator:
    """Like `from_agent`, for the other direction."""
    return _decode(_from_coordinator, _KINDS_FROM_COORDINATOR, text)


def _decode(decoder: msgspec.json.Decoder[T], known: frozenset[str], text: str | bytes) -> T | Unsupported:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as err:
        try:
            kind = msgspec.json.decode(text, type=_Kind).kind
        except (msgspec.MsgspecError, RecursionError):
            kind = ""
        if kind and kind not in known:
            return Unsupported(kind[:64])
        raise ContractViolation(f"cannot read a {kind or 'message'}: {err}") from err
