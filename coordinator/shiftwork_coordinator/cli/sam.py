"""`shiftwork sam`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shiftwork_coordinator.cli.exits import DONE, INVALID
from shiftwork_coordinator.cli.options import Call, Pair, api_command

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Api
    from shiftwork_coordinator.cli.sam_template import Options, Planned

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def sam() -> None:
    """Deploy the functions of a SAM template together.

    TEMPLATE is a SAM template or what CloudFormation makes of it. Each function with a DeploymentPreference gets a
    deployment group; they are deployed at once, and when one fails, all go back.
    """


def template_options(command: F) -> F:
    """What `plan` and `deploy` share, collected as `options`."""
    directory = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in (
        click.option("--answer", type=click.Choice(["call", "return"]), default="call", show_default=True,
                     help="How hook functions answer: by a call, as SAM's do, or by what they return."),
        click.option("--publish/--no-publish", default=True, show_default=True,
                     help="Publish code that lies here as a new version, or take the newest that is published."),
        click.option("--build-dir", type=directory, metavar="DIR", help="Where `sam build` left the functions' code."),
        click.option("--role-arn", default="", metavar="ARN", help="The role as which the coordinator acts."),
        click.option("--region", default="", metavar="REGION", help="The functions' region."),
        click.option("--stack-name", default="", metavar="NAME", help="The stack whose resources are looked up."),
        click.option("--application", default="", metavar="NAME", help="The application that gets the groups."),
        click.option("--parameter-overrides", "parameters", multiple=True, metavar="K=V…",
                     help="The template's parameters, one or several in one argument."),
        click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


@sam.command("plan")
@template_options
@api_command
def plan(call: Call, **given: Any) -> int:
    """Show groups, versions, steps and problems; touch nothing.

    Exit code 2 when the deployment would be refused.
    """
    planned = call.run(lambda api: _planned(api, given))
    _show(call, planned)
    return INVALID if planned.problems else DONE


@sam.command("deploy")
@template_options
@click.option("--no-wait", is_flag=True, help="Return once the deployments are created; print their ids.")
@api_command
def deploy(call: Call, no_wait: bool, **given: Any) -> int:
    """Apply the groups, publish new versions and shift all functions at once.

    Exit code 1 when one failed or was stopped: then all have gone back. Ctrl-C leaves them running.
    """
    return call.run(lambda api: _deploy(api, call, given, wait=not no_wait))


async def _planned(api: Api, given: dict[str, Any]) -> Planned:
    from shiftwork_coordinator.cli.sam_template import planned

    return await planned(api, _options(given))


async def _deploy(api: Api, call: Call, given: dict[str, Any], *, wait: bool) -> int:
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.sam_template import create
    from shiftwork_coordinator.cli.several import Several

    found = await _planned(api, given)
    if found.problems:
        _show(call, found)
        return INVALID
    if not call.json:
        for note in found.notes:
            tell(f"note: {note}")
    ids = await create(api, found, tell)
    if not ids and not call.json:
        click.echo("Nothing to deploy: every alias is at its newest version.")
    if not ids or not wait:
        _print(call, {"deployments": [{"deploymentId": id} for id in ids]}, ids)
        return DONE
    several = Several(api, silent=call.json)
    code, back = await several.to_the_end(ids)
    if call.json:
        _print(call, {"deployments": await several.raw(ids), "rollbacks": await several.raw(back)}, ())
    return code


def _options(given: dict[str, Any]) -> Options:
    from shiftwork_coordinator.cli.sam_template import Options

    pair = Pair("a template's parameter", "Stage=prod")
    words = [word for text in given.pop("parameters") for word in text.split()]
    return Options(**given, parameters=dict(pair.convert(word, None, None) for word in words))


def _print(call: Call, value: object, lines: Any) -> None:
    import json

    if call.json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        for line in lines:
            click.echo(line)


def _show(call: Call, found: Planned) -> None:
    from shiftwork_coordinator.cli.sam_template import lines, shown

    _print(call, shown(found), lines(found))
