"""A deployment group's settings, as `shiftwork.yml` states them. Durations are seconds.

A deployment keeps the settings it was created with; a later `apply` changes the next one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.messages import HealthCheck
from shiftwork_coordinator.model.config import Platform, TimeBasedCanary, TimeBasedLinear
from shiftwork_coordinator.model.parameters import Parameter

RollbackEvent = Literal["failure", "alarm", "stop"]
TriggerEvent = Literal[
    "DeploymentStart", "DeploymentSuccess", "DeploymentFailure", "DeploymentStop", "DeploymentRollback",
    "DeploymentReady", "InstanceStart", "InstanceSuccess", "InstanceFailure", "InstanceReady",
]  # fmt: skip
Process = Literal[
    "Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck", "InstanceRefresh",
    "ReplaceUnhealthy", "ScheduledActions",
]  # fmt: skip
"""What an Auto Scaling group does by itself and can be kept from doing, in AWS's words."""
Positive = Annotated[float, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Instances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Union of `names`, of the joined instances that match `tags`, and of what EC2 has: `ids`, members of the groups
    `autoscaling`, and what matches `ec2_tags`. Tags match with every key (AND) and one of its values (OR); with
    `ec2_tag_sets` instead, every set (AND) must match with anything in it (OR)."""

    tags: dict[str, list[str]] = {}
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    autoscaling: tuple[str, ...] = ()
    ec2_tags: dict[str, list[str]] = {}
    ec2_tag_sets: tuple[dict[str, list[str]], ...] = ()

    @property
    def in_ec2(self) -> bool:
        """Whether EC2 has to be asked who is meant."""
        return bool(self.ids or self.autoscaling or self.ec2_tags or self.ec2_tag_sets)

    def text(self) -> str:
        """For people: what is meant."""
        tags = [f"{key}={'|'.join(values)}" for key, values in self.tags.items()]
        there = [f"EC2 tag {key}={'|'.join(values)}" for key, values in self.ec2_tags.items()]
        sets = [" or ".join(f"{k}={'|'.join(v)}" for k, v in each.items()) for each in self.ec2_tag_sets]
        groups = [f"Auto Scaling group {name}" for name in self.autoscaling]
        return ", ".join([*tags, *self.names, *self.ids, *groups, *there, *(f"EC2 tags {one}" for one in sets)])


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The health check that agents run: the contract's `HealthCheck` in the words of the file. 0 = no threshold."""

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


class Quiet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"window": "for"}):
    """When a target that left traffic is taken to be quiet. `port` is watched by the agent where no balancer counts."""

    port: Port | None = None
    window: Positive = 1.0
    at_most: Positive = 60.0
    then: Literal["proceed", "fail"] = "proceed"


class Alarms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """CloudWatch alarms that stop a deployment while they are red, metric or composite; read every `every` seconds.

    `only_transitions`: only an alarm that turned red after the start counts. An alarm that cannot be read stops too,
    unless `ignore_unreadable`.
    """

    cloudwatch: tuple[str, ...] = ()
    ignore_unreadable: bool = False
    only_transitions: bool = False
    every: Annotated[float, msgspec.Meta(ge=1)] = 5.0
    region: str = ""
    role_arn: str = ""


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic of SNS, by its ARN, that is told of these events in CodeDeploy's words."""

    name: str
    sns: str
    events: tuple[TriggerEvent, ...]


class Aws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and as whom the group's resources are changed; empty = as the coordinator's environment says."""

    region: str = ""
    role_arn: str = ""


class AutoScaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`suspend`: processes of the Auto Scaling groups that rest while their instances are changed; the default is what
    CodeDeploy's documentation advises. `launch_hook`: what they launch gets what is good before it goes into service;
    `termination_hook`: what they end leaves its load balancers and is stopped in order first. `queue` is the ARN of one
    of SQS that hears of both, from EventBridge, or from the hooks themselves as `queue_role_arn`."""

    suspend: tuple[Process, ...] = ("AZRebalance", "AlarmNotification", "ScheduledActions", "ReplaceUnhealthy")
    launch_hook: bool = True
    termination_hook: bool = False
    queue: str = ""
    queue_role_arn: str = ""


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two target groups, by ARN, that take turns, and what shares its requests out between them: a `listener`, or a
    `rule` of one. In a deployment's row the first is the original's."""

    target_groups: tuple[str, str]
    listener: str = ""
    rule: str = ""


class BlueGreen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other instances take over from those in `instances`. New ones, where that is one Auto Scaling group: of a `copy`
    of it, or of `standby`, a second group which stands at size 0 and swaps with it at each deployment. Or `existing`
    ones, `replacements`: two sets of instances that stand already take turns. With `shift` by weights, and else as
    instances come into `load_balancers` and leave them."""

    green: Literal["copy", "swap", "existing"] = "copy"
    standby: str = ""
    shift: Weights | None = None
    replacements: Instances = Instances()


class FunctionHooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the functions that the AppSpec names as hooks answer: by what they return, or by calling
    PutLifecycleEventHookExecutionStatus within `within` seconds, as in CodeDeploy. Those that are named after an event
    are for AppSpecs that name none; the first three are for platform ECS."""

    before_install: str = ""
    after_install: str = ""
    after_allow_test_traffic: str = ""
    before_allow_traffic: str = ""
    after_allow_traffic: str = ""
    answer: Literal["return", "call"] = "return"
    within: Positive = 3600.0

    def named(self) -> dict[str, str]:
        """The functions by lifecycle event."""
        events = {"".join(word.title() for word in field.split("_")): field for field in HOOK_FIELDS}
        return {event: name for event, field in events.items() if (name := getattr(self, field))}


ECS_HOOK_FIELDS = ("before_install", "after_install", "after_allow_test_traffic")
HOOK_FIELDS = (*ECS_HOOK_FIELDS, "before_allow_traffic", "after_allow_traffic")


class Ecs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The service of a group of platform ECS; its deployment controller must be EXTERNAL. A replacement of which
    `most_failed_tasks` tasks stopped by themselves is given up."""

    cluster: str
    service: str
    load_balancers: tuple[Pair, ...] = ()
    most_failed_tasks: Annotated[int, msgspec.Meta(ge=1)] = 3


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Before traffic moves: `manual` waits for `shiftwork continue`, at most `wait` seconds, then stops."""

    manual: bool = False
    wait: Positive = 3600.0


class Originals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After traffic has moved: how long the originals stay, and what becomes of them then; None: those that stood
    already before are kept, others are terminated."""

    keep_for: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    then: Literal["terminate", "keep"] | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`start_within` and `event` as in CodeDeploy (5 min, 1 h). Cut off for `offline_for`, an agent starts no further
    event; heard last more than `silent_after` ago, a target is not in service."""

    start_within: Positive = 300.0
    event: Positive = 3600.0
    offline_for: Positive = 300.0
    silent_after: Positive = 60.0
    block_within: Positive = 30.0
    allow_within: Positive = 300.0
    healthy_wait: Positive = 600.0
    steady_within: Positive = 3600.0
    prepare_at_once: Annotated[int, msgspec.Meta(ge=1)] = 50


class GroupSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`port` is the application's, to match instances with servers of a balancer. `config` is a config's name; empty
    = the platform's default."""

    instances: Instances = Instances()
    platform: Platform = "Server"
    aws: Aws = Aws()
    autoscaling: AutoScaling = AutoScaling()
    blue_green: BlueGreen | None = None
    hooks: FunctionHooks = FunctionHooks()
    ecs: Ecs | None = None
    ready: Ready = Ready()
    originals: Originals = Originals()
    config: str = ""
    pace: Literal["batches", "sliding"] | None = None
    port: Port | None = None
    load_balancers: tuple[dict[str, dict[str, object]], ...] = ()
    health: Health | None = None
    quiet: Quiet = Quiet()
    rollback: tuple[RollbackEvent, ...] = ()
    alarms: Alarms = Alarms()
    triggers: tuple[Trigger, ...] = ()
    bake: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_failed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    limits: Limits = Limits()
    environment: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    file_exists_behavior: Literal["DISALLOW", "OVERWRITE", "RETAIN"] = "DISALLOW"
    compat: Literal["", "strict"] = ""

    @property
    def has_traffic_control(self) -> bool:
        return bool(self.load_balancers or self.weights) or self.platform != "Server"

    @property
    def weights(self) -> Weights | None:
        """By which the traffic of instances is moved, where that is wanted."""
        return self.blue_green.shift if self.blue_green else None

    @property
    def selectors(self) -> tuple[Instances, ...]:
        """Who is in the group: of two sets that take turns, both, the original first."""
        existing = self.blue_green is not None and self.blue_green.green == "existing"
        return (self.instances, self.blue_green.replacements) if self.blue_green and existing else (self.instances,)


def health_for(settings: GroupSettings, instance: str, address: str) -> HealthCheck | None:
    """The group's health check for one instance: `{instance}` and `{address}` stand for its name and address."""
    if settings.health is None:
        return None

    def filled(text: str) -> str:
        return text.replace("{instance}", instance).replace("{address}", address)

    check = settings.health
    asked = {"http": filled(check.http), "tcp": filled(check.tcp), "command": tuple(map(filled, check.command))}
    return HealthCheck(**{**msgspec.structs.asdict(check), **asked})


class ConfigSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A custom deployment config: a count such as 3, or a percentage such as "75%"; or, where traffic is shifted by
    weights, `canary` or `linear`."""

    minimum_healthy_hosts: int | str | None = None
    platform: Platform = "Server"
    canary: TimeBasedCanary | None = None
    linear: TimeBasedLinear | None = None
    pace: Literal["batches", "sliding"] = "batches"
    max_failed: int | None = None
    bake: float = 0.0


class ApplicationFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of a `shiftwork.yml`."""

    application: str
    groups: dict[str, GroupSettings] = {}
    configs: dict[str, ConfigSettings] = {}


DURATIONS = frozenset(
    {"interval", "timeout", "for", "at_most", "bake", "every", "within", "start_within", "event", "offline_for"}
    | {"silent_after", "block_within", "allow_within", "healthy_wait"}
    | {"wait", "keep_for", "steady_within"}
)
"""Keys whose value may be written `500ms`, `30s`, `5m` or `1h` instead of a number of seconds."""
SIZES = frozenset({"min_disk_free"})
"""Keys whose value may be written `500MB` or `2GiB` instead of a number of bytes."""
