"""`shiftwork revisions`."""

from __future__ import annotations

from typing import Any

import click

from shiftwork_coordinator.cli.options import Call, api_command

HEAD = ("REVISION", "APPLICATION", "SIZE", "PUSHED", "BY", "SIGNED BY", "SEQUENCE", "UNTIL", "DESCRIPTION")


@click.command()
@click.option("--application", metavar="APP", help="Only those of this application.")
@api_command
def revisions(application: str | None, call: Call) -> None:
    """List pushed revisions, newest first."""
    answer = call.ask("GET", "/v1/revisions", application=application)
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import table

    known = answer.read(dict[str, list[dict[str, Any]]]).get("revisions", [])
    table(HEAD, map(_row, known))
    if not known:
        click.echo("No revisions yet: `shiftwork push` uploads one.")


def _row(known: dict[str, Any]) -> tuple[str, ...]:
    """The id in full: it is what `deploy` takes."""
    from shiftwork_coordinator.cli.output import moment, size

    signed = known.get("signed") or {}
    return (
        str(known.get("revision", {}).get("identity", "")),
        str(known.get("application", "")),
        size(int(known.get("size") or 0)),
        moment(known.get("pushedAt")),
        str(known.get("pushedBy") or ""),
        str(signed.get("signer", "-")),
        str(signed.get("sequence", "")),
        moment(signed["expires"]) if signed else "",
        str(known.get("description") or ""),
    )
