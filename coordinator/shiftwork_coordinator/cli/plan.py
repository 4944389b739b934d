"""`shiftwork plan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec

from shiftwork_coordinator.cli.exits import DONE, INVALID
from shiftwork_coordinator.cli.functions import function_options, source, task_definition_option
from shiftwork_coordinator.cli.options import Call, GroupName, api_command, parameter_option

Told = Mapping[str, Any]


@click.command()
@click.argument("group", type=GroupName(), metavar="APPLICATION/GROUP")
@click.option("--revision", default="", metavar="REV", help="As for `deploy`.")
@function_options
@task_definition_option
@click.option("--config", metavar="NAME", help="Deployment config; default: the group's.")
@parameter_option
@api_command
def plan(
    group: tuple[str, str],
    revision: str,
    function: str | None,
    alias: str | None,
    version: str | None,
    task_definition: str,
    config: str | None,
    parameters: tuple[tuple[str, str], ...],
    call: Call,
) -> int:
    """Show what a deployment would do; touch nothing.

    Batches, capacity at each step, balancer calls, problems. Exit code 2 when the deployment would be refused.
    """
    wanted = {"config": config, "parameters": dict(parameters)}
    what = source(call, group, revision, function or "", alias or "", version or "", task_definition=task_definition)
    body = {"application": group[0], "group": group[1], **what}
    answer = call.ask("POST", "/v1/plan", body | {key: value for key, value in wanted.items() if value})
    told = answer.read(dict[str, Any])
    problems = [problem if isinstance(problem, dict) else {"message": problem} for problem in _list(told, "problems")]
    if call.json:
        click.echo(answer.pretty())
    else:
        _heading(told)
        _signature(told)
        _sides(_list(told, "instances"))
        _members(_list(told, "instances"))
        _batches(_list(told, "batches"))
        _steps(_list(told, "steps"))
        _problems(problems)
    return INVALID if any(problem.get("fatal", True) for problem in problems) else DONE


def _list(told: Told, name: str) -> list[Any]:
    found = told.get(name)
    return found if isinstance(found, list) else []


def _heading(told: Told) -> None:
    from shiftwork_coordinator.cli.output import clean

    for name, words in (
        ("config", "deployment config"),
        ("parameters", "parameters"),
        ("balancers", "load balancers"),
        ("events", "events"),
    ):
        if told.get(name):
            click.echo(clean(f"{words}: {_value(told[name])}"))


def _signature(told: Told) -> None:
    """What it says of itself; whose it is, hosts decide."""
    if told.get("signed"):
        from shiftwork_contract.statement import Facts, line

        click.echo(line(msgspec.convert(told["signed"], Facts)))


def _sides(instances: list[Any]) -> None:
    """Which of two sets that stand already takes over from which."""
    from shiftwork_coordinator.cli.output import clean

    sides: dict[str, list[str]] = {"original": [], "replacement": []}
    for known in filter(lambda each: isinstance(each, dict) and each.get("role") in sides, instances):
        sides[known["role"]].append(str(known.get("instance", "")))
    if sides["replacement"]:
        for role, names in sides.items():
            click.echo(clean(f"{role}s: {', '.join(names)}"))


def _members(instances: list[Any]) -> None:
    """Those that are in EC2, by their place: a line for each Auto Scaling group and zone."""
    from shiftwork_coordinator.cli.output import clean

    places: dict[tuple[str, str], list[str]] = {}
    for known in filter(lambda each: isinstance(each, dict) and each.get("instanceId"), instances):
        name, id = str(known.get("instance", "")), str(known["instanceId"])
        place = str(known.get("autoScalingGroup", "")), str(known.get("zone", ""))
        places.setdefault(place, []).append(name if name == id else f"{name} ({id})")
    for (group, zone), names in sorted(places.items()):
        where = " in ".join(filter(None, (group or "instances", zone)))
        click.echo(clean(f"{where}: {', '.join(names)}"))


def _batches(batches: list[Any]) -> None:
    for batch in filter(lambda each: isinstance(each, dict), batches):
        names = ", ".join(map(str, _list(batch, "targets")))
        capacity = f"in service {batch.get('inService', '?')}, minimum {batch.get('minimum', '?')}"
        click.echo(f"batch {batch.get('number', '?')}: {names} ({capacity})")


def _steps(steps: list[Any]) -> None:
    from shiftwork_coordinator.cli.output import clean

    for number, step in enumerate(steps, 1):
        click.echo(clean(f"{number:>4}  {_step(step) if isinstance(step, dict) else step}"))


def _step(step: Told) -> str:
    """A step in one line: its own words where it has some, and the capacity after it."""
    capacity = {"inService": "in service", "minimum": "minimum"}
    after = ", ".join(f"{words} {step[key]}" for key, words in capacity.items() if step.get(key) is not None)
    rest = [_value(value) for key, value in step.items() if key not in capacity and value not in (None, "", [])]
    return "  ".join(rest) + (f"  ({after})" if after else "")


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={given}" for name, given in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _problems(problems: list[dict[str, Any]]) -> None:
    from shiftwork_coordinator.cli.output import clean

    for problem in problems:
        kind = "problem" if problem.get("fatal", True) else "note"
        who = f"{problem['instance']}: " if problem.get("instance") else ""
        click.echo(clean(f"{kind}: {who}{problem.get('message', '')}"))
    if not problems:
        click.echo("No problems found.")
