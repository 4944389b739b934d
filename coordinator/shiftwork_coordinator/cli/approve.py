"""`shiftwork approve`: who asks to join without a token, and what is decided."""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import quote

import click

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli.options import Call, Pair, api_command

LEAST = 32
"""Hex digits of a fingerprint that stand for the whole: nobody makes a second key with the same 128 bits."""


@click.command()
@click.argument("who", required=False, metavar="[INSTANCE|FINGERPRINT]")
@click.option("--fingerprint", metavar="SHA256", help="With INSTANCE: what its host has printed.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="KEY=VALUE", help="A tag of the new instance.")
@click.option("--deny", is_flag=True, help="Turn it away instead.")
@api_command
def approve(
    who: str | None, fingerprint: str | None, tags: tuple[tuple[str, str], ...], deny: bool, call: Call
) -> None:
    """List the hosts that wait to join, or let one in.

    Compare the fingerprint with the one that `shiftwork-agent join --wait-for-approval` printed on the host.
    """
    answer = call.ask("GET", "/v1/join/requests")
    told = answer.read(dict[str, Any])
    if who is None:
        if deny or fingerprint or tags:
            raise click.UsageError("cannot decide: name the INSTANCE or the FINGERPRINT")
        click.echo(answer.pretty()) if call.json else _list(told)
        return
    found = _found(told.get("requests", []), who, fingerprint)
    if not deny and not (fingerprint or _hex(who)):
        _compare(found)
    path = f"/v1/join/requests/{quote(found['fingerprint'], safe='')}/" + ("deny" if deny else "approve")
    done = call.ask("POST", path, {} if deny else {"name": found["instance"], "tags": dict(tags)})
    click.echo(done.pretty() if call.json else f"{found['instance']} is {'denied' if deny else 'approved'}.")


def _list(told: dict[str, Any]) -> None:
    from shiftwork_coordinator.cli.output import clean, table, tell

    table(("INSTANCE", "ADDRESS", "ASKS FROM", "FOR", "FINGERPRINT"), map(_row, told.get("requests", [])))
    if not told.get("requests"):
        click.echo("No host waits to join. One asks with")
        click.echo(
            "  shiftwork-agent join https://HOST:7070 --wait-for-approval --ca-fingerprint"
            f" {clean(str(told.get('caFingerprint', '')))}"
        )
    else:
        tell("Let one in with `shiftwork approve FINGERPRINT`, if its host shows the same.")


def _row(known: dict[str, Any]) -> tuple[str, ...]:
    from shiftwork_coordinator.cli.output import duration
    from shiftwork_coordinator.clock import SystemClock

    since = duration(max(0.0, SystemClock().now() - known.get("askedAt", 0.0)))
    return (
        str(known.get("instance", "")),
        str(known.get("address") or ""),
        str(known.get("remote", "")),
        since,
        str(known.get("fingerprint", "")),
    )


def _hex(text: str) -> str:
    """The digits of a fingerprint that is long enough; empty when it is something else."""
    digits = text.removeprefix("sha256:").replace(":", "").lower()
    return digits if re.fullmatch(rf"[0-9a-f]{{{LEAST},64}}", digits) else ""


def _found(requests: list[dict[str, Any]], who: str, fingerprint: str | None) -> dict[str, Any]:
    """The one request that is meant. Raises InvalidRequest when it is none, or not the only one."""
    wanted = fingerprint if fingerprint is not None else who if _hex(who) else ""
    if wanted and not _hex(wanted):
        raise InvalidRequest(f"cannot use {wanted!r} as a fingerprint: write sha256: and {LEAST} to 64 hex digits")
    named = [each for each in requests if _hex(who) or each["instance"] == who]
    found = [each for each in named if each["fingerprint"].removeprefix("sha256:").startswith(_hex(wanted))]
    if named and not found:
        raise InvalidRequest(
            f"cannot decide on {who}: no host that asks by this name has a key with the fingerprint {wanted}; asked"
            f" for is {', '.join(each['fingerprint'] for each in named)}: deny what is not yours"
        )
    if not found:
        raise InvalidRequest(f"cannot find a host that asks to join as {who}; `shiftwork approve` shows those that do")
    if len(found) > 1:
        raise InvalidRequest(f"cannot tell which {who} is meant: {len(found)} hosts ask; give the fingerprint")
    return found[0]


def _compare(found: dict[str, Any]) -> None:
    """A name is what the host says of itself; only the key's fingerprint shows which host it is."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            f"cannot approve {found['instance']} by its name alone: anybody may ask by any name; give --fingerprint"
            " with what its host has printed"
        )
    click.echo(f"{found['instance']} asks from {found['remote']} with a key of the fingerprint", err=True)
    click.echo(f"  {found['fingerprint']}", err=True)
    click.confirm("Does its host show the same?", abort=True, err=True)
