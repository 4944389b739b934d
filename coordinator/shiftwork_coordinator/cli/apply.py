"""`shiftwork apply`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli.options import Call, api_command


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    default="shiftwork.yml",
    show_default=True,
    metavar="FILE",
    help="`-` reads standard input.",
)
@api_command
def apply(file: Path, call: Call) -> None:
    """Create or change applications, groups and configs.

    Prints what changed. What the file does not name stays as it is.
    """
    answer = call.ask("POST", "/v1/apply", {"file": str(file), "text": _text(file)})
    if call.json:
        click.echo(answer.pretty())
        return
    changes = answer.read(dict[str, list[dict[str, object]]]).get("changes", [])
    for change in changes:
        detail = f": {change['detail']}" if change.get("detail") else ""
        click.echo(f"{change.get('kind', '')} {change.get('name', '')} {change.get('change', '')}{detail}")
    if not changes:
        click.echo("Nothing to change.")


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise InvalidRequest(f"cannot read {file}: byte {err.start} is not UTF-8") from err
