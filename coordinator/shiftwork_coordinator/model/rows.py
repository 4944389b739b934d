"""The rows: all that the coordinator remembers. Frozen; changed by `msgspec.structs.replace`, then written whole.

Who writes what: the engine writes deployments, targets and lifecycle events that the coordinator itself carries out,
and adds commands; agents' reports write a command's status and its lifecycle events; operators write `Request`s;
performers write `Asked`. No column has two writers, so nothing is lost between reading and writing.
Times are Unix times in seconds from the coordinator's clock.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from shiftwork_contract.diagnostics import Diagnostics
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command, HostFacts
from shiftwork_contract.resource import Resource
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.config import DeploymentConfig
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.model.status import CommandStatus, DeploymentStatus, TargetStatus

Role = Literal["", "fleet", "original", "replacement"]
Creator = Literal["user", "codeDeployRollback", "autoscaling", "autoscalingTermination", "CodeDeployAutoUpdate"]
"""Who made a deployment, in CodeDeploy's words. Those in APART go to instances that an Auto Scaling group launches
or ends, the last one to those that were launched with what is outdated now."""
APART = frozenset({"autoscaling", "autoscalingTermination"})
EC2_ID = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all rows."""


class Deployment(Row, frozen=True):
    """One run. `serial` rises with creation over all deployments: it orders the queue and the agents' commands.

    `floor` is minimum healthy hosts in instances, computed once. `batch` is the number of the batch under way, 0
    before the first. `held_since`, `unsettled_since` and `alarms_unread_since` are when it began to wait for capacity,
    to know whether what it updated is in service, and for an alarm's answer. `halted_*` are set when it will fail or
    stop but targets are still finishing. `error_*` are final. `least_in_service` is the lowest count of targets in
    service since it started. `parameters` are variables for hooks; `previous_*` is what a rollback goes back to.
    `appspec_content` is the AppSpec of a platform without bundles, `functions` its hooks: the function for an event.
    `together` are the other deployments that were created with this one; since `arrived_at` it waits for them only.
    """

    id: str
    serial: int
    application: str
    group: str
    group_id: str
    revision: Revision
    config: DeploymentConfig
    settings: GroupSettings
    created_at: float
    status: DeploymentStatus = DeploymentStatus.CREATED
    platform: str = "Server"
    deployment_type: str = "IN_PLACE"
    creator: Creator = "user"
    created_by: str = ""
    description: str = ""
    ignore_stop_failures: bool = False
    file_exists_behavior: Literal["DISALLOW", "OVERWRITE", "RETAIN"] = "DISALLOW"
    rollback_on: tuple[str, ...] = ()
    rollback_of: str = ""
    rolled_back_by: str = ""
    rollback_note: str = ""
    previous_revision: Revision | None = None
    appspec_content: str = ""
    functions: dict[str, str] = {}
    parameters: dict[str, str] = {}
    previous_parameters: dict[str, str] = {}
    appspec: str = ""
    previous_appspec: str = ""
    started_at: float | None = None
    completed_at: float | None = None
    floor: int = 0
    batch: int = 0
    batches: int = 0
    bake_until: float | None = None
    held_since: float | None = None
    facts_since: float | None = None
    unsettled_since: float | None = None
    alarms_unread_since: float | None = None
    halted_code: str = ""
    halted_message: str = ""
    halted_at: float | None = None
    error_code: str = ""
    error_message: str = ""
    least_in_service: int | None = None
    together: tuple[str, ...] = ()
    arrived_at: float | None = None
    parked_until: float | None = None
    parked_reason: str = ""
    parked_times: int = 0

    @property
    def apart(self) -> bool:
        """Whether it runs beside the group's others: to instances that are none of theirs. What is good is not its to
        say."""
        return self.creator in APART


class Request(Row, frozen=True):
    """What an operator asked of a running deployment. `proceed_at`: end a wait or bake that began before this time."""

    deployment_id: str
    stop: Literal["", "stop", "now"] = ""
    stop_by: str = ""
    stop_rollback: bool | None = None
    proceed_at: float | None = None


class LifecycleEventRow(Row, frozen=True):
    event: str
    status: EventStatus = EventStatus.PENDING
    started_at: float | None = None
    ended_at: float | None = None
    diagnostics: Diagnostics = Diagnostics()
    revision: str = ""


class Target(Row, frozen=True):
    """One instance within one deployment, or one resource whose traffic is shifted, or (role fleet) a group that
    launches its instances: that counts nowhere among the targets, and is to be as before in the end. In blue/green an
    instance is an original or a replacement.

    `stage` indexes the itinerary. `batch` 0 = not chosen yet. `traffic` is what the engine wants of the balancers for
    it now ("" = nothing). `look` is the least `asked` number that an agent's reading must carry to count.
    `left_at` is when it left service to be changed. `was_in_service` and `installed_before` are facts from before the
    start. `cut` = requests in flight when it was touched nevertheless (policy `proceed`). `cancel` is what is wanted
    of its open command. `kept_out`: somebody else had taken it out of the balancer, so it stays out.
    `resource` is what is shifted; `weight` the share of traffic, 0 to 1, that its replacement is to have now (None =
    nothing is wanted yet), `weight_since` since when it has had that.
    `arranged` is how original and replacement are to stand now.
    """

    deployment_id: str
    instance: str
    address: str = ""
    cloud_id: str = ""
    role: Role = ""
    status: TargetStatus = TargetStatus.PENDING
    stage: int = 0
    stage_since: float = 0.0
    batch: int = 0
    traffic: Literal["", "in", "out"] = ""
    traffic_since: float = 0.0
    left_at: float | None = None
    kept_out: bool = False
    cancel: Literal["", "stop", "now"] = ""
    look: int = 0
    was_in_service: bool = False
    installed_before: str = ""
    cut: int | None = None
    resource: Resource | None = None
    weight: float | None = None
    weight_since: float | None = None
    arranged: Arrangement | None = None
    arranged_since: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    error_code: str = ""
    error_message: str = ""


class CommandRow(Row, frozen=True):
    """A command to an agent; `command.id` is made of deployment, instance and stage. The engine adds it, from
    then on only the agent's reports change it.

    `running` is the event under way, `running_since` and `running_limit` (seconds) bound it.
    """

    command: Command
    instance: str
    stage: int
    wanted_at: float
    status: CommandStatus = CommandStatus.WANTED
    accepted_at: float | None = None
    ended_at: float | None = None
    running: str = ""
    running_since: float | None = None
    running_limit: float = 3600.0
    ran: tuple[str, ...] = ()
    diagnostics: Diagnostics = Diagnostics()


class Asked(Row, frozen=True):
    """What a performer did for (instance, verb): `asked_at` is the last time the call returned without error, `value`
    the weight or arrangement that it was for. `refused`: `error` is one that only a person can mend."""

    deployment_id: str
    instance: str
    verb: Literal["register", "deregister", "weight", "arrange"]
    value: float | Arrangement | None = None
    asked_at: float | None = None
    tries: int = 0
    error: str = ""
    error_code: str = ""
    next_try: float | None = None
    refused: bool = False


class HookRun(Row, frozen=True):
    """A hook function's run at one event of one target. The engine adds it; the performer notes that it was invoked,
    and the first answer stands. `id` names the run to the function, which may see it twice after a crash."""

    deployment_id: str
    instance: str
    event: str
    id: str
    function: str
    wanted_at: float
    invoked_at: float | None = None
    tries: int = 0
    error: str = ""
    next_try: float | None = None
    status: Literal["", "Succeeded", "Failed"] = ""
    message: str = ""
    answered_at: float | None = None


class Installed(Row, frozen=True):
    """What one group has on one instance, as its agent last reported."""

    group_id: str
    instance: str
    installed: str = ""
    installed_by: str = ""


class Health(Row, frozen=True):
    """Whether the last deployment of the group that touched the instance succeeded there; written by the engine."""

    group_id: str
    instance: str
    healthy: bool


class Group(Row, frozen=True):
    """A deployment group. `last_good` moves with a deployment's success and is what a rollback targets. `copies` are
    the Auto Scaling groups that took the place of those in the settings, by the latter's names."""

    id: str
    application: str
    name: str
    settings: GroupSettings
    last_good: Revision | None = None
    last_good_deployment: str = ""
    last_good_parameters: dict[str, str] = {}
    last_good_appspec: str = ""
    copies: dict[str, str] = {}


class CustomConfig(Row, frozen=True):
    name: str
    config: DeploymentConfig


class StoredRevision(Row, frozen=True):
    """A pushed revision: its archive lies in the bundle store under `revision.identity`."""

    application: str
    revision: Revision
    size: int
    entries: int
    pushed_at: float
    pushed_by: str = ""
    description: str = ""


class Pin(Row, frozen=True):
    """What a place outside held when it was looked up for a deployment; `revision.etag` and `size` say which it was.

    Agents are shown what stands here and nothing else, with the coordinator's credentials.
    """

    revision: Revision
    pinned_at: float


class Token(Row, frozen=True):
    """A join token (kind agent), an operator's, or a key for AWS's SDKs. Only the hash of the secret is kept; of a key,
    whose secret must be known to check a signature, `sealed`. `uses_left` None = unlimited."""

    id: str
    kind: Literal["agent", "operator", "aws"]
    secret_hash: str
    created_at: float
    created_by: str = ""
    role: str = ""
    name: str = ""
    group: str = ""
    tags: dict[str, str] = {}
    expires_at: float | None = None
    uses_left: int | None = None
    revoked_at: float | None = None
    sealed: str = ""


class Instance(Row, frozen=True):
    """A joined host. `tags` come from the join token or an operator, never from the agent, which tells `agent_version`,
    `features` and `host` at each connection."""

    name: str
    address: str = ""
    tags: dict[str, str] = {}
    joined_at: float = 0.0
    revoked_at: float | None = None
    certificate_serial: str = ""
    previous_serial: str = ""
    agent_version: str = ""
    features: tuple[str, ...] = ()
    host: HostFacts = HostFacts()
    last_seen: float | None = None

    @property
    def cloud_id(self) -> str:
        """EC2's id of it, empty elsewhere. A name that is an id goes before what the agent tells."""
        return self.name if EC2_ID.fullmatch(self.name) else self.host.instance_id


class TrustedRole(Row, frozen=True):
    """A role of AWS whose holders may join. `role` may hold * and ?."""

    id: str
    account: str
    role: str
    tags: dict[str, str] = {}
    any_name: bool = False
    created_at: float = 0.0
    created_by: str = ""


class JoinRequest(Row, frozen=True):
    """A host that waits for an operator. `fingerprint` is of its key; `address` is what it announces, `remote` where
    it really asked from. Once approved, `certificate` waits for it; it is no secret."""

    fingerprint: str
    name: str
    csr: str
    address: str = ""
    remote: str = ""
    asked_at: float = 0.0
    heard_at: float = 0.0
    state: Literal["pending", "approved", "denied"] = "pending"
    decided_at: float | None = None
    certificate: str = ""
    serial: str = ""


class History(Row, frozen=True):
    """Something that happened, for people; `decide` never reads it. `data` holds only JSON values."""

    deployment_id: str
    at: float
    kind: str
    target: str = ""
    data: dict[str, object] = {}
