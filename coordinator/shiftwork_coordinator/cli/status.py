"""`shiftwork status`, `list` and `why`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shiftwork_coordinator.cli.options import Call, GroupName, api_command, deployment_path

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Answer, Api
    from shiftwork_coordinator.cli.views import Deployment, Target


@click.command()
@click.argument("deployment", required=False)
@api_command
def status(deployment: str | None, call: Call) -> None:
    """Show a deployment, or those that are active.

    Without an id: the active deployments, or the latest one when none is active.
    """
    if deployment is None:
        call.run(lambda api: _current(api, call))
        return
    answer = call.ask("GET", deployment_path(deployment))
    if call.json:
        click.echo(answer.pretty())
    else:
        _detail(answer)


async def _current(api: Api, call: Call) -> None:
    from shiftwork_coordinator.cli.views import Deployments

    answer = await api.ask("GET", "/v1/deployments", active=True)
    found = answer.read(Deployments).deployments
    if not found:
        answer = await api.ask("GET", "/v1/deployments", limit=1)
        found = answer.read(Deployments).deployments
    if call.json:
        click.echo(answer.pretty())
    elif len(found) == 1:
        _detail(await api.ask("GET", deployment_path(found[0].deployment_id)))
    else:
        _rows(found)


@click.command("list")
@click.option("--group", type=GroupName(), metavar="APPLICATION/GROUP", help="Only this deployment group's.")
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@api_command
def list_deployments(group: tuple[str, str] | None, active: bool, limit: int, call: Call) -> None:
    """List deployments, newest first."""
    from shiftwork_coordinator.cli.views import Deployments

    application, name = group or (None, None)
    answer = call.ask("GET", "/v1/deployments", application=application, group=name, active=active or None, limit=limit)
    if call.json:
        click.echo(answer.pretty())
    else:
        _rows(answer.read(Deployments).deployments)


@click.command()
@click.argument("deployment")
@api_command
def why(deployment: str, call: Call) -> None:
    """Say what a deployment waits for.

    One line per reason: who waits, for what, how long already, until when at most.
    """
    from shiftwork_coordinator.cli.views import Waiting
    from shiftwork_coordinator.cli.words import reason
    from shiftwork_coordinator.clock import SystemClock

    answer = call.ask("GET", deployment_path(deployment, "why"))
    if call.json:
        click.echo(answer.pretty())
        return
    waiting = answer.read(dict[str, list[Waiting]]).get("waiting", [])
    for each in waiting:
        click.echo(reason(each, SystemClock().now()))
    if not waiting:
        click.echo("It waits for nothing.")


def _rows(found: tuple[Deployment, ...]) -> None:
    from shiftwork_coordinator.cli.output import moment, short, table

    head = ("DEPLOYMENT", "GROUP", "STATUS", "CREATED", "REVISION", "BY")
    rows = [
        (
            each.deployment_id,
            each.group,
            each.status,
            moment(each.create_time),
            short(each.revision.identity) if each.revision else "",
            each.created_by or each.creator,
        )
        for each in found
    ]
    table(head, rows)
    if not rows:
        click.echo("No deployments yet.")


def _detail(answer: Answer) -> None:
    from shiftwork_coordinator.cli.output import clean, moment, table
    from shiftwork_coordinator.cli.views import Deployment
    from shiftwork_coordinator.cli.words import progress, reasons, summary, traffic
    from shiftwork_coordinator.clock import SystemClock

    view, now = answer.read(Deployment), SystemClock().now()
    click.echo(clean(f"{view.deployment_id} {view.group}: {progress(view)}"))
    click.echo(clean(_about(view)))
    click.echo(f"started {moment(view.start_time)}, ended {moment(view.complete_time)}")
    table(
        ("TARGET", "STATUS", "BATCH", "EVENT", "TIME", "TRAFFIC", "AGENT"),
        [_row(target, now) for target in view.targets],
    )
    for line in traffic(view):
        click.echo(line)
    for line in reasons(view, now, most=10):
        click.echo(f"waiting: {line}")
    if view.ended:
        click.echo("\n".join(summary(view)))
    if view.rolled_back_by:
        click.echo(f"Rolled back by {view.rolled_back_by}")


def _about(view: Deployment) -> str:
    from shiftwork_coordinator.cli.output import short

    revision = f"revision {short(view.revision.identity)}" if view.revision else ""
    by = f"by {view.created_by or view.creator}" if view.created_by or view.creator else ""
    note = f"({view.description})" if view.description else ""
    info = view.rollback_info
    of = (
        f"rollback of {info.rollback_triggering_deployment_id}"
        if info and info.rollback_triggering_deployment_id
        else ""
    )
    given = " ".join(f"{name}={value}" for name, value in view.parameters.items())
    return ", ".join(part for part in (revision, view.deployment_config_name, given, by, of, note) if part)


def _row(target: Target, now: float) -> tuple[str, ...]:
    from shiftwork_coordinator.cli.words import event_time, presence

    event = target.current()
    name = event.lifecycle_event_name if event else target.stands
    batch = str(target.batch) if target.batch else ""
    agent = presence(target.agent, now)
    return target.shown, target.status, batch, name, event_time(event, now), target.traffic or "", agent
