"""`shiftwork launches`: instances on their way into Auto Scaling groups, or out of them."""

from __future__ import annotations

from typing import Any

import click

from shiftwork_coordinator.cli.options import Call, api_command


@click.command()
@api_command
def launches(call: Call) -> None:
    """List what Auto Scaling groups launch or end, and what it waits for."""
    answer = call.ask("GET", "/v1/launches")
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import clean, table, tell

    told = answer.read(dict[str, list[dict[str, Any]]])
    found = told.get("launches", [])
    table(("INSTANCE", "GROUP", "AUTO SCALING GROUP", "SINCE", "STATE", "WHY"), map(_row, found))
    if not found:
        click.echo("No Auto Scaling group launches or ends an instance just now.")
    for each in told.get("problems", []):
        where = f"{each['applicationName']}/{each['deploymentGroupName']}"
        tell(clean(f"What is launched for {where} is not looked after: {each['message']}"))


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    from shiftwork_coordinator.cli.output import moment

    where = f"{row['applicationName']}/{row['deploymentGroupName']}"
    state = STATES.get(str(row["outcome"]), str(row["transition"]))
    why = str(row["why"]) or (f"deployment {row['deploymentId']}" if row["deploymentId"] else "")
    return str(row["instanceId"]), where, str(row["autoScalingGroup"]), moment(row["since"]), state, why


STATES = {"CONTINUE": "let go on", "ABANDON": "given up"}
