"""`shiftwork stop`, `continue` and `rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shiftwork_coordinator.cli.options import Call, api_command, deployment_path

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Answer, Api


@click.command()
@click.argument("deployment")
@click.option("--now", is_flag=True, help="End running hooks too, instead of waiting for the event that runs.")
@click.option("--rollback/--no-rollback", default=None, help="Afterwards go back, or not; default: as the group says.")
@api_command
def stop(deployment: str, now: bool, rollback: bool | None, call: Call) -> None:
    """Stop a deployment.

    No further lifecycle event begins. Does not wait for the end: `shiftwork status` shows it.
    """
    answer = call.ask("POST", deployment_path(deployment, "stop"), {"now": now, "rollback": rollback})
    _answered(answer, call, "asked to stop")


@click.command("continue")
@click.argument("deployment")
@click.option("--now", is_flag=True, help="End the wait or the bake that is under way, instead of only approving.")
@api_command
def continue_deployment(deployment: str, now: bool, call: Call) -> None:
    """End a deployment's wait or bake."""
    answer = call.ask("POST", deployment_path(deployment, "continue"), {"now": now})
    _answered(answer, call, "asked to continue")


@click.command()
@click.argument("deployment")
@click.option("--no-wait", is_flag=True, help="Return once the rollback is asked for; print the deployment's id.")
@api_command
def rollback(deployment: str, no_wait: bool, call: Call) -> int:
    """Go back to the last good revision.

    A new deployment does it; a deployment that still runs is stopped first. Exit code 1 when the rollback failed.
    """
    return call.run(lambda api: _rollback(api, deployment, call, wait=not no_wait))


async def _rollback(api: Api, deployment: str, call: Call, *, wait: bool) -> int:
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.views import Deployment
    from shiftwork_coordinator.cli.watch import Watch

    answer = await api.ask("POST", deployment_path(deployment, "rollback"), {})
    asked = answer.read(Deployment)
    if not wait:
        click.echo(answer.pretty() if call.json else asked.deployment_id)
        return 0
    if not call.json:
        stopping = asked.deployment_id == deployment
        tell(f"Stopping {deployment} first" if stopping else f"Rolling back: deployment {asked.deployment_id}")
    watch = Watch(api, silent=call.json)
    code, last = await watch.rollback_to_the_end(deployment, asked.deployment_id)
    if call.json:
        click.echo((await watch.raw(last)).pretty())
    return code


def _answered(answer: Answer, call: Call, what: str) -> None:
    from shiftwork_coordinator.cli.views import Deployment

    if call.json:
        click.echo(answer.pretty())
        return
    view = answer.read(Deployment)
    others = f", and what was deployed together with it: {', '.join(view.together)}" if view.together else ""
    click.echo(f"Deployment {view.deployment_id} of {view.group} {what}; it is {view.status}{others}.")
