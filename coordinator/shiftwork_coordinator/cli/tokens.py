"""`shiftwork token`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import click

from shiftwork_coordinator.cli.options import Call, GroupName, Pair, api_command

ROLES = ("viewer", "deployer", "approver", "admin")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """`90`, `90s`, `15m`, `24h` or `7d`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"cannot use {value!r} as a duration: write seconds, or 15m, 24h, 7d")
        return float(int(match[1]) * UNITS[match[2] or "s"])


@click.group()
def token() -> None:
    """Make, list and revoke tokens."""


@token.command("create")
@click.option("--agent", is_flag=True, help="A token to join an instance with.")
@click.option("--aws", is_flag=True, help="A key for AWS's SDKs, whose calls to CodeDeploy come here.")
@click.option(
    "--role", type=click.Choice(ROLES), help="A token for a person or a program, with this role. With --aws: deployer."
)
@click.option("--name", metavar="NAME", help="With --agent: the only instance that may use it. Else: whose it is.")
@click.option("--group", type=GroupName(), metavar="APPLICATION/GROUP", help="With --agent: where instances land.")
@click.option(
    "--tag", "tags", multiple=True, type=Pair(), metavar="KEY=VALUE", help="With --agent: the instance's tag."
)
@click.option("--ttl", type=Duration(), metavar="TIME", help="How long it can be used, like 15m, 24h or 7d.")
@click.option("--uses", type=click.IntRange(1), metavar="N", help="With --agent: how many instances may join with it.")
@api_command
def create(
    agent: bool,
    aws: bool,
    role: str | None,
    name: str | None,
    group: tuple[str, str] | None,
    tags: tuple[tuple[str, str], ...],
    ttl: float | None,
    uses: int | None,
    call: Call,
) -> None:
    """Make a token and print it; it is shown this once."""
    if (agent and (aws or role is not None)) or not (agent or aws or role is not None):
        raise click.UsageError("cannot make a token: say one of --agent, --role ROLE and --aws")
    if not agent and (tags or uses or group):
        raise click.UsageError("cannot use --group, --tag or --uses with --role or --aws: they belong to --agent")
    wanted = {
        "kind": "agent" if agent else "aws" if aws else "operator",
        "role": role,
        "name": name,
        "ttl": ttl,
        "uses": uses,
    }
    bound = {"group": "/".join(group) if group else None, "tags": dict(tags) or None}
    body = {key: value for key, value in {**wanted, **bound}.items() if value is not None}
    answer = call.ask("POST", "/v1/tokens", body)
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import moment, tags_text, tell

    made = answer.read(dict[str, Any])
    if made.get("group"):
        tell(f"For instances of {made['group']}: {tags_text(made.get('tags')) or 'by name'}")
    tell(f"Token {made.get('id', '')}, valid until {moment(made.get('expiresAt'))}. It is not shown again:")
    if aws:
        click.echo(f"AWS_ACCESS_KEY_ID={made.get('accessKeyId', '')}")
        click.echo(f"AWS_SECRET_ACCESS_KEY={made.get('secretAccessKey', '')}")
    else:
        click.echo(made.get("token", ""))


@token.command("list")
@api_command
def list_tokens(call: Call) -> None:
    """List tokens, without their secrets."""
    answer = call.ask("GET", "/v1/tokens")
    if call.json:
        click.echo(answer.pretty())
        return
    from shiftwork_coordinator.cli.output import table

    known = answer.read(dict[str, list[dict[str, Any]]]).get("tokens", [])
    table(("TOKEN", "KIND", "ROLE", "NAME", "GROUP", "USES LEFT", "UNTIL", "STATE"), map(_row, known))
    if not known:
        click.echo("No tokens.")


@token.command("revoke")
@click.argument("token_id", metavar="TOKEN")
@api_command
def revoke(token_id: str, call: Call) -> None:
    """Revoke a token, by the id that `list` shows."""
    answer = call.ask("DELETE", f"/v1/tokens/{quote(token_id, safe='')}")
    click.echo(answer.pretty() if call.json else f"Token {token_id} is revoked.")


def _row(known: dict[str, Any]) -> tuple[str, ...]:
    from shiftwork_coordinator.cli.output import moment

    named = [str(known.get(key) or "") for key in ("id", "kind", "role", "name", "group")]
    uses = "" if known.get("usesLeft") is None else str(known["usesLeft"])
    return (*named, uses, moment(known.get("expiresAt")), "revoked" if known.get("revokedAt") else "")
