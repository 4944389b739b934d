"""`shiftwork instances` and `revoke`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli.options import Call, Pair, api_command


@click.group(invoke_without_command=True)
@click.pass_context
@api_command
def instances(ctx: click.Context, call: Call) -> None:
    """List instances, or change their tags."""
    if ctx.invoked_subcommand is not None:
        return
    answer = call.ask("GET", "/v1/instances")
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import table

    known = answer.read(dict[str, list[dict[str, Any]]]).get("instances", [])
    in_ec2 = any(row.get("instanceId") for row in known)
    table((*HEAD, "EC2") if in_ec2 else HEAD, [(*_row(row), *([_place(row)] if in_ec2 else ())) for row in known])
    if not known:
        click.echo("No instances yet: `shiftwork token create --agent` makes a token to join with.")


@instances.command("tag")
@click.argument("instance")
@click.argument("tags", nargs=-1, type=Pair(), metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take this tag off. May be given more than once.")
@api_command
def tag(instance: str, tags: tuple[tuple[str, str], ...], remove: tuple[str, ...], call: Call) -> None:
    """Set tags on an instance, or take some off."""
    wanted: dict[str, str | None] = {**dict(tags), **dict.fromkeys(remove)}
    if not wanted:
        raise InvalidRequest(f"cannot tag {instance}: no tag is given; write KEY=VALUE, or --remove KEY")
    answer = call.ask("POST", f"/v1/instances/{quote(instance, safe='')}/tags", {"tags": wanted})
    if call.json:
        click.echo(answer.pretty())
    else:
        from shiftwork_coordinator.cli.output import tags_text

        click.echo(f"{instance}: {tags_text(answer.read(dict[str, Any]).get('tags'))}")


@click.command()
@click.argument("instance")
@api_command
def revoke(instance: str, call: Call) -> None:
    """Shut an instance out for good.

    Its connection is closed and its certificate is no longer accepted. It can only join anew.
    """
    answer = call.ask("POST", f"/v1/instances/{quote(instance, safe='')}/revoke", {})
    click.echo(answer.pretty() if call.json else f"{instance} is revoked.")


HEAD = ("INSTANCE", "ADDRESS", "AGENT", "SINCE", "LAST SEEN", "LOAD", "MEMORY", "DISK", "VERSION", "TAGS")


def _row(known: dict[str, Any]) -> tuple[str, ...]:
    from shiftwork_coordinator.cli.output import moment, tags_text

    state = "revoked" if known.get("revokedAt") else "connected" if known.get("connected") else "not connected"
    return (
        str(known.get("instance", "")),
        str(known.get("address") or ""),
        state,
        moment(known.get("connectedSince")),
        moment(known.get("lastSeen")),
        *_readings(known.get("readings") or {}),
        str(known.get("agentVersion") or ""),
        tags_text(known.get("tags")),
    )


def _place(known: dict[str, Any]) -> str:
    return " ".join(filter(None, (known.get("instanceId"), known.get("zone") or known.get("region"))))


def _readings(told: dict[str, Any]) -> tuple[str, str, str]:
    """Load with the CPUs it is for, memory in use, disk in use: as last told, empty where an agent tells none."""
    from shiftwork_coordinator.cli.output import size

    if not told.get("memoryTotalBytes"):  # an agent that is older than these numbers, or has not spoken yet
        return "", "", ""
    load = f"{told.get('load1', 0.0):.2f} / {told.get('cpus', 0)}"
    memory = f"{told.get('memoryUsedPercent', 0.0):.0f}% of {size(told['memoryTotalBytes'])}"
    disk = f"{told.get('diskUsedPercent', 0.0):.0f}%, {size(told.get('diskFreeBytes', 0))} free"
    return load, memory, disk
