"""`shiftwork deploy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shiftwork_coordinator.cli.functions import function_options, source, task_definition_option, zip_option
from shiftwork_coordinator.cli.options import Call, GroupName, api_command, parameter_option

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Api

BEHAVIORS = ("DISALLOW", "OVERWRITE", "RETAIN")


@click.command()
@click.argument("group", type=GroupName(), metavar="APPLICATION/GROUP")
@click.option(
    "--revision",
    default="",
    metavar="REV",
    help="sha256:…, s3://…, github:owner/repo@commit, https://…#sha256=… or file:///…#sha256=…; for a group of"
    " platform Lambda or ECS an AppSpec file.",
)
@function_options
@zip_option
@task_definition_option
@click.option("--config", metavar="NAME", help="Deployment config; default: the group's.")
@click.option("--description", metavar="TEXT", help="Shown with the deployment.")
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="For a revision that was not pushed: the statement; its signature lies in FILE.sig.",
)
@click.option("--no-wait", is_flag=True, help="Return once the deployment is created; print its id.")
@click.option("--queue", is_flag=True, help="Wait for a deployment that is active in this group, instead of refusing.")
@click.option(
    "--ignore-application-stop-failures",
    is_flag=True,
    help="Go on when ApplicationStop, BeforeBlockTraffic or AfterBlockTraffic of the installed revision fails.",
)
@click.option(
    "--file-exists-behavior",
    type=click.Choice(BEHAVIORS),
    help="When a file to install exists already and is no deployment's; default: the group's.",
)
@click.option("--appspec", metavar="NAME", help="The AppSpec file in the bundle; default: appspec.yml or appspec.yaml.")
@parameter_option
@click.option("--ignore-alarms", is_flag=True, help="Heed no alarm, to bring a fix while one is red.")
@api_command
def deploy(
    group: tuple[str, str],
    revision: str,
    function: str | None,
    alias: str | None,
    version: str | None,
    code: Path | None,
    task_definition: str,
    config: str | None,
    description: str | None,
    signature: Path | None,
    no_wait: bool,
    queue: bool,
    ignore_application_stop_failures: bool,
    file_exists_behavior: str | None,
    appspec: str | None,
    parameters: tuple[tuple[str, str], ...],
    ignore_alarms: bool,
    call: Call,
) -> int:
    """Deploy a revision and follow it to its end.

    Exit code 1 when it failed or was stopped, whether or not it was rolled back. Ctrl-C leaves it running.
    """
    wanted = {
        "application": group[0],
        "group": group[1],
        **source(call, group, revision, function or "", alias or "", version or "", code, task_definition),
        "config": config,
        "description": description,
        "queue": queue or None,
        "ignoreApplicationStopFailures": ignore_application_stop_failures or None,
        "fileExistsBehavior": file_exists_behavior,
        "appspec": appspec,
        "parameters": dict(parameters) or None,
        "ignoreAlarms": ignore_alarms or None,
    }
    if signature is not None:
        import msgspec

        from shiftwork_coordinator.cli import signatures

        wanted["signed"] = msgspec.to_builtins(signatures.read(signature))
    body = {key: value for key, value in wanted.items() if value is not None}
    return call.run(lambda api: _deploy(api, body, call, wait=not no_wait))


async def _deploy(api: Api, body: Mapping[str, object], call: Call, *, wait: bool) -> int:
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.views import Deployment
    from shiftwork_coordinator.cli.watch import Watch

    answer = await api.ask("POST", "/v1/deployments", body)
    created = answer.read(Deployment)
    if not wait:
        click.echo(answer.pretty() if call.json else created.deployment_id)
        return 0
    if not call.json:
        tell(f"Deployment {created.deployment_id} of {created.group} created ({created.deployment_config_name})")
    watch = Watch(api, silent=call.json)
    code = await watch.to_the_end(created.deployment_id)
    if call.json:
        click.echo((await watch.raw(created.deployment_id)).pretty())
    return code
