"""`shiftwork aws`: what the coordinator needs of AWS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from shiftwork_coordinator.cli.options import Call, GroupName, api_command

if TYPE_CHECKING:
    from shiftwork_coordinator.aws.policy import Policy
    from shiftwork_coordinator.model.settings import GroupSettings

Names = tuple[tuple[str, str], ...]


@click.group()
def aws() -> None:
    """Say what the coordinator needs of AWS."""


@aws.command()
@click.argument("groups", metavar="[APPLICATION/GROUP]...", type=GroupName(), nargs=-1)
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The groups of this shiftwork.yml; no coordinator is asked.",
)
@click.option("--account", default="*", metavar="ID", help="The AWS account, 12 digits, for narrower resources.")
@click.option("--bucket", "buckets", multiple=True, metavar="NAME", help="A bucket of revisions; more than once.")
@click.option("--sam", is_flag=True, help="With what `shiftwork sam` needs: stacks, and functions' code.")
@click.option("--role", default="", metavar="ARN", help="Of this role that groups name, not of the coordinator itself.")
@api_command
def policy(
    groups: Names, file: Path | None, account: str, buckets: tuple[str, ...], sam: bool, role: str, call: Call
) -> None:
    """Print the least IAM policy for what groups use.

    Without groups: for all of them. The document is on stdout, ready for `aws iam put-role-policy`; what it cannot
    know, and the roles that it does not speak of, are on stderr.
    """
    from shiftwork_coordinator.aws.policy import policies

    found = policies(_settings(groups, file, call), account, buckets, sam=sam)
    if call.json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode({"policies": found})).decode())
    else:
        _print(found, role)


def _settings(groups: Names, file: Path | None, call: Call) -> list[GroupSettings]:
    if file is None:
        return [_asked(name, call) for name in groups or _all(call)]
    from shiftwork_contract.errors import InvalidRequest
    from shiftwork_coordinator.applying import read

    told = read(file.read_text(encoding="utf-8"), str(file))
    if absent := [pair for pair in groups if pair[0] != told.application or pair[1] not in told.groups]:
        raise InvalidRequest(f"cannot find the deployment group {'/'.join(absent[0])} in {file}")
    names = [name for _, name in groups] or list(told.groups)
    return [told.groups[name] for name in names]


def _all(call: Call) -> Names:
    told = call.ask("GET", "/v1/applications").read(dict[str, list[dict[str, Any]]])
    return tuple((one["applicationName"], name) for one in told["applications"] for name in one["groups"])


def _asked(name: tuple[str, str], call: Call) -> GroupSettings:
    import msgspec

    from shiftwork_coordinator.model.settings import GroupSettings

    path = "/".join(["/v1/groups", *(quote(part, safe="") for part in name)])
    return msgspec.convert(call.ask("GET", path).read(dict[str, Any])["settings"], GroupSettings)


def _print(found: list[Policy], role: str) -> None:
    import msgspec

    from shiftwork_contract.errors import InvalidRequest
    from shiftwork_coordinator.cli.output import tell

    chosen = next((one for one in found if one.role == role), None)
    others = [one.role for one in found if one.role and one.role != role]
    if chosen is None and role:
        known = ", ".join(others) or "none"
        raise InvalidRequest(f"cannot print a policy for {role}: no group acts as it; their roles: {known}")
    if chosen is None:
        tell("These groups need nothing of AWS.")
        return
    click.echo(msgspec.json.format(msgspec.json.encode(chosen.document)).decode())
    for note in chosen.notes:
        tell(f"Note: {note}.")
    for other in others:
        tell(f"Groups act as {other} too: --role {other}")
