"""`apply`: a shiftwork.yml becomes applications, groups and configs. The same file again changes nothing."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.yamlmarks import Marked, locate, parse, plain
from shiftwork_coordinator import shifters
from shiftwork_coordinator.creation import DEFAULTS, config_named, refuse_other_platform
from shiftwork_coordinator.fleets import selectors
from shiftwork_coordinator.model.config import AllAtOnce, DeploymentConfig, MinimumHealthyHosts, checked, full_name
from shiftwork_coordinator.model.parameters import refuse_declared
from shiftwork_coordinator.model.rows import CustomConfig, Group
from shiftwork_coordinator.model.settings import (
    DURATIONS,
    ECS_HOOK_FIELDS,
    SIZES,
    ApplicationFile,
    ConfigSettings,
    GroupSettings,
    Health,
    Instances,
)
from shiftwork_coordinator.pki import NAME
from shiftwork_coordinator.shell.agents import Agents
from shiftwork_coordinator.shell.balancing import Balancing
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit, Change, Put, Unchanged

TRIES = 5
MOST_ALARMS = 10
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s?([kMGT]|[KMGT]i|)B")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_FREE = frozenset({"environment", "parameters", "tags", "ec2_tags", "ec2_tag_sets"})
"""Mappings whose keys are the user's own."""


class Applied(msgspec.Struct, frozen=True):
    """`change` is created, changed or unchanged; `detail` names what differs."""

    kind: str
    name: str
    change: str
    detail: str = ""


async def apply(home: Coordinator, text: str, file: str, who: str) -> list[Applied]:
    """All of the file or nothing of it. Raises InvalidRequest with the place in the file where that is known.

    Changes settings alone: what a deployment that succeeds meanwhile writes into its group stays.
    """
    wanted = read(text, file)
    configs = {name: _config(name, settings) for name, settings in wanted.configs.items()}
    for _ in range(TRIES):
        report, changes = await _compared(home, wanted, configs)
        count = sum(line.change != "unchanged" for line in report)
        if not count:
            return report
        try:
            await home.store.write(*changes, Audit(who, "apply", f"{file}: {count} changes", home.clock.now()))
        except Conflict:
            continue
        return report
    raise Conflict(f"cannot apply {file}: its groups kept being changed by others meanwhile; try again")


async def foreseen(home: Coordinator, text: str, file: str) -> list[Applied]:
    """What `apply` would report. Changes nothing."""
    wanted = read(text, file)
    configs = {name: _config(name, settings) for name, settings in wanted.configs.items()}
    return (await _compared(home, wanted, configs))[0]


async def _compared(
    home: Coordinator, wanted: ApplicationFile, configs: dict[str, DeploymentConfig]
) -> tuple[list[Applied], list[Change]]:
    """What differs from the rows, and the changes that make them equal."""
    known = await home.store.configs()
    for name, settings in wanted.groups.items():
        _check_group(home, f"{wanted.application}/{name}", settings, {**known, **configs})
    changes: list[Change] = []
    report = [_put_config(known, config, changes) for config in configs.values()]
    for name, settings in wanted.groups.items():
        found = await home.store.group(wanted.application, name)
        report.append(_put_group(found, wanted.application, name, settings, changes))
    return report, changes


def read(text: str, file: str) -> ApplicationFile:
    """The file with durations as seconds, sizes as bytes and full config names."""
    root = parse(text, file)
    if root is None:
        raise InvalidRequest(f"{file}:1:1: the file is empty; it needs at least `application: NAME`")

    def convert(value: Any) -> ApplicationFile:
        return msgspec.convert(numbers(value), ApplicationFile)

    try:
        found = convert(plain(root))
    except msgspec.ValidationError as err:
        problem, place = locate(root, str(err), convert)
        raise place.fail(problem) from err
    _check_names(root, found)
    groups = {name: replace(g, config=full_name(g.config)) if g.config else g for name, g in found.groups.items()}
    return replace(found, groups=groups)


def _check_names(root: Marked, found: ApplicationFile) -> None:
    for name in (found.application, *found.groups):
        if not NAME.fullmatch(name):
            raise root.fail(f"cannot use the name {name[:80]!r}: 1 to 63 letters, digits, dots, underscores, hyphens")


def numbers(value: Any) -> Any:
    """`value` with 500ms, 30s, 5m or 1h as seconds wherever a duration is due, and 500MB or 2GiB as bytes."""
    if isinstance(value, list):
        return [numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: inner if key in _FREE else _number(key, inner) for key, inner in value.items()}


def _number(key: str, value: Any) -> Any:
    """A group may be called `event` and a config `bake`: then there is a mapping."""
    if key in DURATIONS and isinstance(value, str):
        return _duration(value)
    return _size(value) if key in SIZES and isinstance(value, str) else numbers(value)


def _size(value: str) -> int | str:
    match = _SIZE.fullmatch(value)
    return round(float(match[1]) * _BYTES[match[2]]) if match else value


def _duration(value: str) -> float | str:
    """What is no duration stays as it is, so that it is refused with its place."""
    match = _DURATION.fullmatch(value)
    return float(match[1]) * _UNITS[match[2]] if match else value


def _config(name: str, settings: ConfigSettings) -> DeploymentConfig:
    if settings.platform != "Server":
        return checked(_shifting(name, settings))
    minimum = settings.minimum_healthy_hosts
    if settings.canary or settings.linear or minimum is None:
        raise InvalidRequest(
            f"cannot define config {name!r}: platform Server needs minimum_healthy_hosts, and no canary or linear;"
            " those are for `platform: Lambda`"
        )
    match = re.fullmatch(r"(\d+)\s*%", minimum) if isinstance(minimum, str) else None
    if isinstance(minimum, str) and not match:
        raise InvalidRequest(
            f'cannot define config {name!r}: minimum_healthy_hosts is a count such as 3 or a share such as "75%",'
            f" not {minimum!r}"
        )
    hosts = (
        MinimumHealthyHosts("FLEET_PERCENT", int(match[1]))
        if match
        else MinimumHealthyHosts("HOST_COUNT", int(minimum))
    )
    return checked(DeploymentConfig(name, hosts, settings.pace, settings.max_failed, settings.bake))


def _shifting(name: str, settings: ConfigSettings) -> DeploymentConfig:
    if settings.minimum_healthy_hosts is not None or (settings.canary and settings.linear):
        raise InvalidRequest(
            f"cannot define config {name!r}: platform {settings.platform} takes canary or linear (or neither: all at"
            " once), and no minimum_healthy_hosts",
            code="InvalidTrafficRoutingConfigurationException",
        )
    traffic = settings.canary or settings.linear or AllAtOnce()
    hosts = MinimumHealthyHosts("HOST_COUNT", 0)
    return DeploymentConfig(name, hosts, max_failed=0, bake=settings.bake, traffic=traffic, platform=settings.platform)


def _check_group(home: Coordinator, name: str, settings: GroupSettings, configs: dict[str, DeploymentConfig]) -> None:
    """Everything that can be found wrong without asking anybody."""
    config = config_named(settings.config or DEFAULTS[settings.platform], configs)
    refuse_other_platform(config, settings.platform)
    refuse_declared(name, settings.parameters, settings.environment)
    if settings.health is not None:
        _check_health(name, settings.health)
    _check_alarms(name, settings)
    if settings.platform != "Server":
        _check_shifting(name, settings)
    else:
        _refuse_of_services(name, settings)
        if settings.instances == Instances():
            raise InvalidRequest(
                f"cannot use the group {name}: `instances` needs one of {', '.join(Instances.__struct_fields__)}"
            )
        selectors.check(name, settings.instances)
        _check_blue_green(name, settings)
    Balancing("check", settings, (), Agents(home.clock, lambda instance: None), home.epoch)


def _check_blue_green(name: str, settings: GroupSettings) -> None:
    """CodeDeploy's rules: one group, a load balancer, and nothing besides the group's instances."""
    wanted = settings.blue_green
    if wanted is None:
        return
    only = replace(settings.instances, autoscaling=()) == Instances()
    problem = ""
    if len(settings.instances.autoscaling) != 1 or not only:
        problem = "`instances` must name one group in `autoscaling`, and nothing else"
    elif not settings.load_balancers:
        problem = "it needs `load_balancers`, by which traffic moves"
    elif (wanted.green == "swap") != bool(wanted.standby):
        problem = "`standby` belongs to `green: swap`, which needs it"
    elif wanted.standby in settings.instances.autoscaling:
        problem = f"`standby` must be another group than {wanted.standby}"
    if problem:
        raise InvalidRequest(
            f"cannot use the group {name} for blue/green: {problem}",
            code="InvalidBlueGreenDeploymentConfigurationException",
        )


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


def _check_shifting(name: str, settings: GroupSettings) -> None:
    """A platform without hosts has none of what belongs to hosts."""
    if settings.platform not in shifters.BUILT_IN:
        raise InvalidRequest(
            f"cannot use the group {name}: this version does not deploy to platform {settings.platform}",
            code="InvalidComputePlatformException",
        )
    default = GroupSettings()
    of_hosts = ("instances", "load_balancers", "health", "port", "quiet", "pace", "environment", "parameters")
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
    given = [field for field in ("ecs", "ready", "originals") if getattr(settings, field) != getattr(default, field)]
    given += [f"hooks.{field}" for field in ECS_HOOK_FIELDS if getattr(settings.hooks, field)]
    if given:
        raise InvalidRequest(f"cannot use the group {name}: {', '.join(given)} belong to platform ECS")


_AT_MOST = {"max_memory_percent": " and at most 100"}


def _check_health(name: str, check: Health) -> None:
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


def _put_config(known: dict[str, DeploymentConfig], config: DeploymentConfig, changes: list[Change]) -> Applied:
    if known.get(config.name) == config:
        return Applied("config", config.name, "unchanged")
    changes.append(Put(CustomConfig(config.name, config)))
    return Applied("config", config.name, "changed" if config.name in known else "created")


def _put_group(
    found: Group | None, application: str, name: str, settings: GroupSettings, changes: list[Change]
) -> Applied:
    label = f"{application}/{name}"
    if found is None:
        changes.append(Put(Group(str(uuid.uuid4()), application, name, settings)))
        return Applied("group", label, "created")
    if found.settings == settings:
        return Applied("group", label, "unchanged")
    changes += [Unchanged(found, f"the group {label} was changed just now"), Put(replace(found, settings=settings))]
    return Applied("group", label, "changed", ", ".join(_differences(found.settings, settings)))


def _differences(before: GroupSettings, after: GroupSettings) -> list[str]:
    return [f for f in GroupSettings.__struct_fields__ if getattr(before, f) != getattr(after, f)]
