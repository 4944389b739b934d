"""What is wrong with a deployment group's settings, found without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator import shifters
from shiftwork_coordinator.creation import DEFAULTS, config_named, refuse_other_platform, refuse_unweighed
from shiftwork_coordinator.fleets import selectors
from shiftwork_coordinator.model.config import DeploymentConfig
from shiftwork_coordinator.model.parameters import refuse_declared
from shiftwork_coordinator.model.settings import (
    ECS_HOOK_FIELDS,
    AutoScaling,
    BlueGreen,
    GroupSettings,
    Health,
    Instances,
    Trigger,
    Weights,
)
from shiftwork_coordinator.shell.agents import Agents
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import Coordinator

MOST_ALARMS = 10
MOST_TRIGGERS = 10
QUEUE = re.compile(r"arn:aws[\w-]*:sqs:[a-z0-9-]+:\d{12}:[\w-]{1,80}(\.fifo)?", re.ASCII)
BALANCER_ARN = re.compile(r"arn:aws[\w-]*:elasticloadbalancing:[a-z0-9-]+:\d{12}:([a-z-]+)/[\w./-]+", re.ASCII)
TOPIC = re.compile(r"arn:aws[\w-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]{1,256}", re.ASCII)


def check_group(home: Coordinator, name: str, settings: GroupSettings, configs: dict[str, DeploymentConfig]) -> None:
    """Everything that can be found wrong without asking anybody."""
    config = config_named(settings.config or DEFAULTS[settings.platform], configs)
    refuse_unweighed(refuse_other_platform(config, settings.platform), settings)
    refuse_declared(name, settings.parameters, settings.environment)
    if settings.health is not None:
        check_health(name, settings.health)
    _check_alarms(name, settings)
    check_triggers(name, settings.triggers)
    if settings.platform != "Server":
        _check_shifting(name, settings)
    else:
        _refuse_of_services(name, settings)
        if settings.instances == Instances():
            raise InvalidRequest(
                f"cannot use the group {name}: `instances` needs one of {', '.join(Instances.__struct_fields__)}"
            )
        for wanted in settings.selectors:
            selectors.check(name, wanted)
        _check_blue_green(name, settings)
        _check_queue(name, settings.autoscaling)
    Balancing("check", settings, (), Agents(home.clock, lambda instance: None), home.epoch)


def _check_blue_green(name: str, settings: GroupSettings) -> None:
    """CodeDeploy's rules: one group and nothing besides its instances, or two sets; and a load balancer."""
    wanted = settings.blue_green
    if wanted is not None and (problem := next(_wrong_of(settings, wanted), "")):
        raise InvalidRequest(
            f"cannot use the group {name} for blue/green: {problem}",
            code="InvalidBlueGreenDeploymentConfigurationException",
        )


def _wrong_of(settings: GroupSettings, wanted: BlueGreen) -> Iterator[str]:
    only = replace(settings.instances, autoscaling=()) == Instances()
    if wanted.green != "existing" and (len(settings.instances.autoscaling) != 1 or not only):
        yield "`instances` must name one group in `autoscaling`, and nothing else"
    if wanted.green == "existing" and not settings.load_balancers:
        yield "it needs `load_balancers`, by which traffic moves"
    if bool(settings.load_balancers) == bool(wanted.shift):
        yield "it needs either `load_balancers` or `shift`, by which traffic moves"
    if (wanted.green == "swap") != bool(wanted.standby):
        yield "`standby` belongs to `green: swap`, which needs it"
    if wanted.standby in settings.instances.autoscaling:
        yield f"`standby` must be another group than {wanted.standby}"
    if wanted.shift and (problem := _wrong_weights(wanted.shift)):
        yield problem
    if (wanted.green == "existing") != (wanted.replacements != Instances()):
        yield "`replacements` belongs to `green: existing`, which needs it: it selects instances as `instances` does"
    elif wanted.green == "existing":
        yield from _wrong_sets(settings, settings.instances, wanted.replacements)


def _wrong_sets(settings: GroupSettings, one: Instances, other: Instances) -> Iterator[str]:
    if one == other:
        yield "`replacements` selects the same as `instances`; give each of the two sets a tag, or names, of its own"
    for field in ("names", "ids", "autoscaling"):
        if both := [value for value in getattr(one, field) if value in getattr(other, field)]:
            yield f"{both[0]} stands in `{field}` of `instances` and of `replacements`; keep it in one of them"
    if settings.originals.then != "terminate":
        return
    for wanted in settings.selectors:
        if wanted.autoscaling:
            yield (
                f"`originals.then: terminate` is not for instances of the Auto Scaling group {wanted.autoscaling[0]},"
                " which would launch others; keep them, or use `green: swap`, which empties the group"
            )
        if wanted.tags or wanted.names:
            yield "`originals.then: terminate` is for instances that `ids` or `ec2_tags` select; keep the others"


def _check_queue(name: str, settings: AutoScaling) -> None:
    problem = ""
    if settings.queue and not QUEUE.fullmatch(settings.queue):
        problem = f"`autoscaling.queue` is {settings.queue[:120]!r} and must be arn:aws:sqs:REGION:ACCOUNT:NAME"
    elif settings.queue_role_arn and not settings.queue:
        problem = "`autoscaling.queue_role_arn` is for the `queue` that hooks tell; name that too"
    elif settings.queue and not (settings.launch_hook or settings.termination_hook):
        problem = "`autoscaling.queue` hears of hooks, and both hooks are off"
    if problem:
        raise InvalidRequest(f"cannot use the group {name}: {problem}", code="InvalidAutoScalingGroupException")


def _wrong_weights(given: Weights) -> str:
    """Why they cannot be used; empty when they can."""
    if bool(given.listener) == bool(given.rule):
        return "`shift` needs the ARN of a `listener` or of a `rule`, one of them"
    routes, groups = {given.listener: "listener", given.rule: "listener-rule"}, given.target_groups
    for arn, kind in {**routes, **dict.fromkeys(groups, "targetgroup")}.items():
        found = BALANCER_ARN.fullmatch(arn)
        if arn and (found is None or found[1] != kind):
            return f"`shift` needs an ARN arn:aws:elasticloadbalancing:REGION:ACCOUNT:{kind}/…, not {arn!r}"
    return "`shift.target_groups` must be two, and names one twice" if len(set(groups)) == 1 else ""


def _check_alarms(name: str, settings: GroupSettings) -> None:
    """CodeDeploy's limits: 10 alarms, names of 1 to 255 characters, none twice."""
    names = settings.alarms.cloudwatch
    if len(names) > MOST_ALARMS:
        raise InvalidRequest(
            f"cannot watch {len(names)} alarms for {name}: at most {MOST_ALARMS}; join some in a composite alarm",
            code="AlarmsLimitExceededException",
        )
    wrong = next((n for n in names if not 1 <= len(n) <= 255 or names.count(n) > 1), None)
    if wrong is not None:
        raise InvalidRequest(
            f"cannot watch the alarm {wrong[:80]!r} for {name}: a name has 1 to 255 characters and stands there once",
            code="InvalidAlarmConfigException",
        )
    if "alarm" in settings.rollback and not names:
        raise InvalidRequest(
            f"cannot roll {name} back on an alarm: it watches none; name some in `alarms: {{cloudwatch: [...]}}`",
            code="InvalidAutoRollbackConfigException",
        )


def check_triggers(name: str, triggers: Sequence[Trigger]) -> None:
    """CodeDeploy's limits: 10 triggers, each of a name of its own and with a topic and at least one event."""
    if len(triggers) > MOST_TRIGGERS:
        raise InvalidRequest(
            f"cannot use {len(triggers)} triggers for {name}: at most {MOST_TRIGGERS}; let topics tell each other",
            code="TriggerTargetsLimitExceededException",
        )
    names = [trigger.name for trigger in triggers]
    for one in triggers:
        if not (TOPIC.fullmatch(one.sns) and one.events and one.name and names.count(one.name) == 1):
            raise InvalidRequest(
                f"cannot use the trigger {one.name[:80]!r} for {name}: it needs a name of its own, the ARN of a topic"
                " in `sns` (arn:aws:sns:REGION:ACCOUNT:NAME) and at least one of `events`",
                code="InvalidTriggerConfigException",
            )


def _check_shifting(name: str, settings: GroupSettings) -> None:
    """A platform without hosts has none of what belongs to hosts."""
    if settings.platform not in shifters.BUILT_IN:
        raise InvalidRequest(
            f"cannot use the group {name}: this version does not deploy to platform {settings.platform}",
            code="InvalidComputePlatformException",
        )
    default = GroupSettings()
    of_hosts = (
        "instances", "load_balancers", "health", "port", "quiet", "pace", "environment", "parameters", "autoscaling",
        "blue_green",
    )  # fmt: skip
    if given := [field for field in of_hosts if getattr(settings, field) != getattr(default, field)]:
        raise InvalidRequest(
            f"cannot use the group {name}: {', '.join(given)} belong to hosts, and {settings.platform} has none"
        )
    if settings.platform == "ECS":
        _check_service(name, settings)
    else:
        _refuse_of_services(name, settings)


def _check_service(name: str, settings: GroupSettings) -> None:
    def refuse(problem: str) -> InvalidRequest:
        return InvalidRequest(f"cannot use the group {name}: {problem}", code="InvalidECSServiceException")

    ecs = settings.ecs
    if ecs is None or not (ecs.cluster and ecs.service):
        raise refuse("platform ECS needs `ecs: {cluster: …, service: …, load_balancers: […]}`")
    if not ecs.load_balancers:
        raise refuse("`ecs.load_balancers` needs at least one: traffic is shifted by its listener")
    groups = [group for pair in ecs.load_balancers for group in pair.target_groups]
    if twice := next((group for group in groups if groups.count(group) > 1), ""):
        raise refuse(f"target group {twice} stands in `ecs.load_balancers` twice; each load balancer needs its own two")
    routes = [route for pair in ecs.load_balancers for route in _routes(pair)]
    if twice := next((route for route in routes if routes.count(route) > 1), ""):
        raise refuse(f"{twice} stands in `ecs.load_balancers` twice; requests and tests need listeners of their own")


def _routes(pair: Pair) -> list[str]:
    return [route for route in (pair.rule or pair.listener, pair.test_rule or pair.test_listener) if route]


def _refuse_of_services(name: str, settings: GroupSettings) -> None:
    default = GroupSettings()
    foreign = ("ecs",) if settings.blue_green else ("ecs", "ready", "originals")
    given = [field for field in foreign if getattr(settings, field) != getattr(default, field)]
    given += [f"hooks.{field}" for field in ECS_HOOK_FIELDS if getattr(settings.hooks, field)]
    if given:
        raise InvalidRequest(
            f"cannot use the group {name}: {', '.join(given)} belong to platform ECS"
            + ("" if settings.platform != "Server" or settings.blue_green else " or to `blue_green`")
        )


_AT_MOST = {"max_memory_percent": " and at most 100"}


def check_health(name: str, check: Health) -> None:
    def refuse(problem: str) -> InvalidRequest:
        return InvalidRequest(f"cannot use the health check of {name}: {problem}")

    given = [kind for kind in ("http", "tcp", "command") if getattr(check, kind)]
    limits = [field for field in ("max_load_per_cpu", "min_disk_free", "max_memory_percent") if getattr(check, field)]
    if len(given) > 1 or not (given or limits):
        raise refuse(f"give one of http, tcp, command, not {', '.join(given) or 'none'}")
    text = " ".join((check.http, check.tcp, *check.command))
    if unknown := set(re.findall(r"\{(\w*)\}", text)) - {"address", "instance"}:
        raise refuse(f"{{{unknown.pop()}}} stands for nothing; {{address}} and {{instance}} are filled in")
    if check.http and not check.http.startswith(("http://", "https://")):
        raise refuse(f"{check.http!r} is no http:// or https:// URL")
    if check.tcp and not re.fullmatch(r".+:([1-9]\d{0,4})", check.tcp):
        raise refuse(f"{check.tcp!r} is not host:port")
    for field in ("interval", "timeout", "healthy", "unhealthy"):
        if getattr(check, field) <= 0:
            raise refuse(f"{field} is {getattr(check, field):g} and must be more than 0")
    for field in limits:
        if getattr(check, field) < 0 or (field == "max_memory_percent" and check.max_memory_percent > 100):
            raise refuse(f"{field} is {getattr(check, field):g}; give more than 0" + _AT_MOST.get(field, ""))
