"""What version 0.1.0 reads: its messages of protocol 1, and what its agent keeps on disk. Never changed: whatever is
written today must still be read with this.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class ErrorCode(StrEnum):
    SUCCESS = "Success"
    SCRIPT_MISSING = "ScriptMissing"
    SCRIPT_NOT_EXECUTABLE = "ScriptNotExecutable"
    SCRIPT_TIMED_OUT = "ScriptTimedOut"
    SCRIPT_FAILED = "ScriptFailed"
    UNKNOWN_ERROR = "UnknownError"


class Diagnostics(msgspec.Struct, frozen=True, rename="camel", omit_defaults=False):
    error_code: ErrorCode = ErrorCode.SUCCESS
    script_name: str = ""
    message: str = ""
    log_tail: str = ""


class EventStatus(StrEnum):
    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    UNKNOWN = "Unknown"


class BundleType(StrEnum):
    TAR = "tar"
    TGZ = "tgz"
    ZIP = "zip"
    DIRECTORY = "directory"


class Revision(msgspec.Struct, frozen=True, rename="camel"):
    identity: str
    url: str
    digest_of: Literal["tree", "archive"] = "tree"
    bundle_type: BundleType = BundleType.TGZ
    archive_sha256: str = ""
    size: int = 0


class Message(msgspec.Struct, frozen=True, tag_field="kind", rename="camel"):
    pass


class Unsupported(Message, frozen=True, tag=True):
    what: str


class GroupState(msgspec.Struct, frozen=True, rename="camel"):
    group_id: str
    installed: str = ""
    installed_by: str = ""
    last_sequence: int = 0


class Hello(Message, frozen=True, tag=True):
    protocol_min: int
    protocol_max: int
    agent_version: str
    boot_id: str
    next_seq: int
    epoch_seen: int = 0
    features: tuple[str, ...] = ()
    groups: tuple[GroupState, ...] = ()
    unfinished: tuple[str, ...] = ()


class Heartbeat(Message, frozen=True, tag=True):
    load1: float = 0.0
    memory_used_percent: float = 0.0
    disk_free_bytes: int = 0
    agent_rss_bytes: int = 0


class Probe(msgspec.Struct, frozen=True, rename="camel"):
    healthy: bool
    detail: str = ""


class Quiet(msgspec.Struct, frozen=True, rename="camel"):
    known: bool
    busy: int = 0
    detail: str = ""


class GateState(msgspec.Struct, frozen=True, rename="camel"):
    open: bool
    since: float
    refused: int = 0
    passed: int = 0
    checkers: int = 0
    problem: str = ""


class Observed(Message, frozen=True, tag=True):
    group_id: str
    asked: int
    probe: Probe | None = None
    quiet: Quiet | None = None
    gate: GateState | None = None


class Accepted(Message, frozen=True, tag=True):
    seq: int
    command_id: str


class Refused(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    code: str
    message: str


class EventStarted(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    event: str
    at: float
    limit: float = 3600.0


class EventEnded(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    event: str
    status: EventStatus
    at: float
    diagnostics: Diagnostics
    revision: str = ""
    started_at: float = 0.0


class Output(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    event: str
    offset: int
    data: bytes


class CommandEnded(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    status: EventStatus
    at: float
    ran: tuple[str, ...] = ()
    diagnostics: Diagnostics = Diagnostics()
    group: GroupState | None = None


class RenewCertificate(Message, frozen=True, tag=True):
    csr: str


class Welcome(Message, frozen=True, tag=True):
    protocol: int
    epoch: int
    instance: str
    heartbeat: float = 30.0


class Acknowledge(Message, frozen=True, tag=True):
    seq: int


class Command(msgspec.Struct, frozen=True, rename="camel"):
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
    file_exists_behavior: Literal["DISALLOW", "OVERWRITE", "RETAIN"] = "DISALLOW"
    environment: dict[str, str] = {}
    keep: tuple[str, ...] = ()


class RunCommand(Message, frozen=True, tag=True):
    epoch: int
    command: Command


class CancelCommand(Message, frozen=True, tag=True):
    epoch: int
    command_id: str
    now: bool = False


class HealthCheck(msgspec.Struct, frozen=True, rename="camel"):
    http: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    interval: float = 1.0
    timeout: float = 2.0
    healthy: int = 2
    unhealthy: int = 2


class QuietCheck(msgspec.Struct, frozen=True, rename="camel"):
    port: int
    window: float = 1.0


class Watch(Message, frozen=True, tag=True):
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
    epoch: int
    group_id: str
    asked: int
    listen: str
    path: str
    open: bool
    health: HealthCheck | None = None


class Certificate(Message, frozen=True, tag=True):
    certificate: str
    ca: str


FromAgent = (
    Hello | Heartbeat | Observed | Accepted | Refused | EventStarted | EventEnded | Output | CommandEnded
    | RenewCertificate | Unsupported
)  # fmt: skip


FromCoordinator = (
    Welcome | Acknowledge | RunCommand | CancelCommand | Watch | Unwatch | SetGate | Certificate | Unsupported
)  # fmt: skip


Report = Accepted | Refused | EventStarted | EventEnded | Output | CommandEnded


class Identity(msgspec.Struct, frozen=True):
    instance: str
    name: str
    renew_at: float
    expires: float


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    coordinators: tuple[str, ...]
    name: str = ""
    install_root: str = ""
    address: str = ""
    output_limit: int = 64 << 20
    keep_commands: int = 50
    log_format: str = "text"
    log_level: str = "info"


class Result(msgspec.Struct, frozen=True):
    script: int
    outcome: Literal[
        "succeeded", "failed", "signalled", "timed_out", "cancelled", "missing", "link", "not_executable",
        "no_user", "user_denied", "not_started", "interrupted",
    ]  # fmt: skip
    number: int
    size: int


class Whereabouts(msgspec.Struct, frozen=True):
    boot_id: str
    pid: int
    start_time: str


class About(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    identity: str
    tree: str
    size: int
    entries: int
    appspec_names: tuple[str, ...]
    shape: int


class Context(msgspec.Struct, frozen=True):
    type: str
    user: str = ""
    range: str = ""


Kind = Literal["file", "link", "dir"]


class Thing(msgspec.Struct, frozen=True):
    kind: Literal["file", "link", "dir", "other"]
    mode: int = 420
    uid: int = 0
    gid: int = 0


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    acls: tuple[str, ...] = ()
    context: Context | None = None


class Owned(msgspec.Struct, frozen=True, omit_defaults=True):
    path: str
    kind: Kind
    original: str = ""


class Put(msgspec.Struct, frozen=True, omit_defaults=True):
    path: str
    kind: Kind
    staged: str
    swap: bool = True
    aside: str = ""
    source: str = ""
    original: str = ""
    save: str = ""
    mode: int = 493
    look: Look = Look()


class Drop(msgspec.Struct, frozen=True):
    path: str
    aside: str


class Adjust(msgspec.Struct, frozen=True):
    path: str
    look: Look
    before: Thing


class Plan(msgspec.Struct, frozen=True):
    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    adjusts: tuple[Adjust, ...] = ()
    leave: tuple[str, ...] = ()
    owned: tuple[Owned, ...] = ()


class Installed(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    group_id: str
    installed: str = ""
    installed_by: str = ""
    last_sequence: int = 0
    owned: tuple[Owned, ...] = ()


class Change(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    bundle: str
    plan: Plan
    after: Installed


class Written(Message, frozen=True, tag=True):
    seq: int
    command_id: str
    event: str
    offset: int
    length: int


class Acked(Message, frozen=True, tag=True):
    seq: int


class Reported(Message, frozen=True, tag=True):
    command_id: str
    event: str
    size: int


class Begun(Message, frozen=True, tag=True):
    epoch: int
    boot_id: str
    uptime: float
    command: Command


class Cancelled(Message, frozen=True, tag=True):
    command_id: str
    now: bool
    why: str


class EpochSeen(Message, frozen=True, tag=True):
    epoch: int


class Highest(Message, frozen=True, tag=True):
    group_id: str
    sequence: int


Record = Begun | Cancelled | EpochSeen | Highest | Acked | Written | Reported | Report
