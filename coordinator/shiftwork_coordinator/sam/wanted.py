"""What a template wants of deployments, and the settings that say it to a coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shiftwork_coordinator.model.config import PREDEFINED, PREFIX


class Wanted(msgspec.Struct, frozen=True):
    """One function's deployments. `logical` is its name in the template, `group` that of its deployment group; `code`
    is where its code lies, as written, empty where that is not a path. `untold`: what of this could not be told, and is
    empty here."""

    logical: str
    group: str
    function: str
    alias: str
    config: str
    before: str = ""
    after: str = ""
    alarms: tuple[str, ...] = ()
    ignore_unreadable: bool = False
    rollback: tuple[str, ...] = ("failure", "alarm", "stop")
    triggers: tuple[dict[str, Any], ...] = ()
    code: str = ""
    untold: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """`problems` forbid a deployment; `notes` say what is left out or done otherwise."""

    wanted: tuple[Wanted, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def config_of(kind: str) -> str:
    """SAM's names of CodeDeploy's presets lack the prefix; any other name is a config of one's own."""
    full = f"{PREFIX}Lambda{kind}"
    return full if full in PREDEFINED else kind


def settings(wanted: Sequence[Wanted], application: str, *, region: str, role: str, answer: str) -> dict[str, Any]:
    """The groups as a shiftwork.yml would state them."""
    groups = {one.group: _group(one, {"region": region, "role_arn": role}, answer) for one in wanted}
    return {"application": application, "groups": groups}


def _group(one: Wanted, at: dict[str, str], answer: str) -> dict[str, Any]:
    hooks = {"before_allow_traffic": one.before, "after_allow_traffic": one.after, "answer": answer}
    alarms = {"cloudwatch": list(one.alarms), "ignore_unreadable": one.ignore_unreadable, **at}
    group: dict[str, Any] = {"platform": "Lambda", "config": one.config, "aws": at, "hooks": hooks}
    if one.alarms:
        group["alarms"] = alarms
    if one.triggers:
        group["triggers"] = list(one.triggers)
    return {**group, "rollback": [event for event in one.rollback if event != "alarm" or one.alarms]}
