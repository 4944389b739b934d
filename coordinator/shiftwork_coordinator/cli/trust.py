"""`shiftwork trust`: roles of AWS whose holders may join without a token."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from shiftwork_coordinator.cli.options import Call, Pair, api_command


@click.group()
def trust() -> None:
    """Let instances join by a role of AWS."""


@trust.command("iam")
@click.option("--account", required=True, metavar="ID", help="The AWS account, 12 digits.")
@click.option("--role", required=True, metavar="NAME", help="The role's name, or a pattern like 'web-*'.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="KEY=VALUE", help="A tag of such instances.")
@click.option("--any-name", is_flag=True, help="They may choose a name; else it is the EC2 instance's id.")
@api_command
def iam(account: str, role: str, tags: tuple[tuple[str, str], ...], any_name: bool, call: Call) -> None:
    """Trust the instances that hold a role.

    They join with `shiftwork-agent join URL --ca-fingerprint sha256:… --iam`.
    """
    answer = call.ask("POST", "/v1/trust", {"account": account, "role": role, "tags": dict(tags), "any_name": any_name})
    if call.json:
        click.echo(answer.pretty())
    else:
        click.echo(f"Instances with the role {role} of {account} may join (trust {answer.read(dict[str, Any])['id']}).")


@trust.command("list")
@api_command
def list_trusted(call: Call) -> None:
    """List the roles that are trusted."""
    answer = call.ask("GET", "/v1/trust")
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import clean, moment, table, tags_text, tell

    told = answer.read(dict[str, Any])
    rows = [
        (
            *(str(each[key]) for key in ("id", "account", "role")),
            "any" if each.get("anyName") else "the instance's id",
            tags_text(each.get("tags")),
            moment(each.get("createdAt")),
            str(each.get("createdBy", "")),
        )
        for each in told.get("trusted", [])
    ]
    table(("TRUST", "ACCOUNT", "ROLE", "NAME", "TAGS", "SINCE", "BY"), rows)
    if not rows:
        click.echo("No role is trusted.")
    tell(f"The CA's fingerprint is {clean(str(told.get('caFingerprint', '')))}")


@trust.command("remove")
@click.argument("trust_id", metavar="TRUST")
@api_command
def remove(trust_id: str, call: Call) -> None:
    """Trust a role no longer, by the id that `list` shows; who has joined stays."""
    answer = call.ask("DELETE", f"/v1/trust/{quote(trust_id, safe='')}")
    click.echo(answer.pretty() if call.json else f"Trust {trust_id} is removed; instances that joined by it stay.")
