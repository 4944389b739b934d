"""`apply`: a shiftwork.yml becomes applications, groups and configs. The same file again changes nothing."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.yamlmarks import Marked, locate, parse, plain
from shiftwork_coordinator.checking import check_group
from shiftwork_coordinator.model.config import (
    AllAtOnce,
    DeploymentConfig,
    MinimumHealthyHosts,
    Traffic,
    checked,
    full_name,
)
from shiftwork_coordinator.model.rows import CustomConfig, Group
from shiftwork_coordinator.model.settings import (
    DURATIONS,
    SIZES,
    ApplicationFile,
    ConfigSettings,
    GroupSettings,
)
from shiftwork_coordinator.pki import NAME
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Audit, Change, Put, Unchanged

TRIES = 5
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
        check_group(home, f"{wanted.application}/{name}", settings, {**known, **configs})
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
    """Instances whose traffic is shifted need no minimum: then it ends with the first that fails."""
    if settings.platform != "Server":
        return checked(_shifting(name, settings))
    traffic = _traffic(name, settings)
    minimum = settings.minimum_healthy_hosts
    if minimum is None:
        if isinstance(traffic, AllAtOnce):
            raise InvalidRequest(
                f"cannot define config {name!r}: platform Server needs minimum_healthy_hosts, canary or linear"
            )
        minimum, settings = 0, replace(settings, max_failed=settings.max_failed or 0)
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
    return checked(DeploymentConfig(name, hosts, settings.pace, settings.max_failed, settings.bake, traffic))


def _traffic(name: str, settings: ConfigSettings) -> Traffic:
    if settings.canary and settings.linear:
        raise InvalidRequest(
            f"cannot define config {name!r}: it is a canary or linear (or neither: all at once), not both",
            code="InvalidTrafficRoutingConfigurationException",
        )
    return settings.canary or settings.linear or AllAtOnce()


def _shifting(name: str, settings: ConfigSettings) -> DeploymentConfig:
    if settings.minimum_healthy_hosts is not None:
        raise InvalidRequest(
            f"cannot define config {name!r}: platform {settings.platform} takes canary or linear (or neither: all at"
            " once), and no minimum_healthy_hosts",
            code="InvalidTrafficRoutingConfigurationException",
        )
    traffic = _traffic(name, settings)
    hosts = MinimumHealthyHosts("HOST_COUNT", 0)
    return DeploymentConfig(name, hosts, max_failed=0, bake=settings.bake, traffic=traffic, platform=settings.platform)


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
    named = settings.instances.autoscaling
    copies = {name: copy for name, copy in found.copies.items() if name in named}
    wanted = replace(found, settings=settings, copies=copies)
    changes += [Unchanged(found, f"the group {label} was changed just now"), Put(wanted)]
    return Applied("group", label, "changed", ", ".join(_differences(found.settings, settings)))


def _differences(before: GroupSettings, after: GroupSettings) -> list[str]:
    return [f for f in GroupSettings.__struct_fields__ if getattr(before, f) != getattr(after, f)]
