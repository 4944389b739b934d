"""`shiftwork upgrade`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from shiftwork_coordinator.cli.options import Call, Pair, api_command
from shiftwork_coordinator.cli.tokens import Duration

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Api

PIECE = 256 * 1024
PACKAGE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--package", "packages", multiple=True, type=PACKAGE, metavar="FILE",
    help="Give the coordinator this .deb or .rpm of the agent first. May be given more than once.",
)  # fmt: skip
@click.option("--version", metavar="V", help="The version to upgrade to; default: that of the first --package.")
@click.option("--instance", "instances", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="KEY=VALUE", help="Only those with all these tags.")
@click.option("--at-once", default="10%", show_default=True, metavar="N", help="How many at once: a count or a share.")
@click.option(
    "--max-failed", type=click.IntRange(0), default=0, show_default=True, help="Failures that do not halt it."
)
@click.option(
    "--settle", type=Duration(), metavar="TIME", help="How long a new agent must stay connected; default 10s."
)
@click.option(
    "--connect-within", type=Duration(), metavar="TIME",
    help="How long an agent has to connect as the new version before it puts its own back; default 1m.",
)  # fmt: skip
@click.option("--no-return", is_flag=True, help="Do not require the packages to go back to.")
@click.option("--no-wait", is_flag=True, help="Return once the upgrade is created; print its id.")
@click.option("--status", "shown", is_flag=False, flag_value="", metavar="[ID]", help="Show an upgrade, or the latest.")
@click.option("--stop", "stopped", metavar="ID", help="Start no further agent; those under way go on to their end.")
@api_command
def upgrade(
    packages: tuple[Path, ...],
    shown: str | None,
    stopped: str | None,
    no_wait: bool,
    call: Call,
    **wish: Any,
) -> int:
    """Upgrade agents, a batch at a time, the first one alone.

    An agent that does not come back as the new version is put back to its own one by itself, and the rest are left
    alone. Hooks and applications run on meanwhile. Exit code 1 when it failed or was stopped. Ctrl-C leaves it running.
    """
    if sum((shown is not None, stopped is not None, bool(packages))) > 1:
        raise click.UsageError("cannot do these together: --package, --status, --stop")
    if stopped is not None:
        return call.run(lambda api: _stop(api, stopped, call))
    if shown is not None:
        return call.run(lambda api: _show(api, shown, call))
    return call.run(lambda api: _upgrade(api, packages, wish, call, wait=not no_wait))


async def _upgrade(api: Api, packages: tuple[Path, ...], wish: dict[str, Any], call: Call, *, wait: bool) -> int:
    from shiftwork_coordinator.cli.output import tell

    given = [await _upload(api, path) for path in packages]
    for one in [] if call.json else given:
        known = "" if one.get("new", True) else ", which the coordinator had already"
        tell(f"Package of {one.get('version')} ({one.get('format')}, {one.get('machine')}){known}")
    answer = await api.ask("POST", "/v1/upgrades", _body(wish, str(given[0].get("version")) if given else None))
    created = answer.read(dict[str, Any])
    if not wait:
        click.echo(answer.pretty() if call.json else created.get("upgradeId", ""))
        return 0
    from shiftwork_coordinator.cli.upgrade_watch import watch

    return await watch(api, str(created["upgradeId"]), call)


def _body(wish: dict[str, Any], version: str | None) -> dict[str, Any]:
    at_once = wish["at_once"]
    wanted = {
        "version": wish["version"] or version,
        "instances": list(wish["instances"]) or None,
        "tags": dict(wish["tags"]) or None,
        "atOnce": int(at_once) if at_once.isdigit() else at_once,
        "maxFailed": wish["max_failed"],
        "settle": wish["settle"],
        "connectWithin": wish["connect_within"],
        "noReturn": wish["no_return"],
    }
    return {key: value for key, value in wanted.items() if value is not None}


async def _upload(api: Api, path: Path) -> dict[str, Any]:
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.progress import Progress
    from shiftwork_coordinator.clock import SystemClock

    size = path.stat().st_size
    progress = Progress(f"Uploading {path.name}", size, SystemClock(), tell)

    async def content() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
                progress(file.tell())

    answer = await api.upload("/v1/packages", content(), size)
    return answer.read(dict[str, Any])


async def _show(api: Api, upgrade_id: str, call: Call) -> int:
    from shiftwork_coordinator.cli.upgrade_watch import lines

    if not upgrade_id:
        known = (await api.ask("GET", "/v1/upgrades")).read(dict[str, list[dict[str, Any]]]).get("upgrades", [])
        if not known:
            click.echo("{}" if call.json else "No agents have been upgraded yet.")
            return 0
        upgrade_id = str(known[0]["upgradeId"])
    answer = await api.ask("GET", path_of(upgrade_id))
    if call.json:
        click.echo(answer.pretty())
    else:
        for line in lines(answer.read(dict[str, Any])):
            click.echo(line)
    return 0


async def _stop(api: Api, upgrade_id: str, call: Call) -> int:
    answer = await api.ask("POST", path_of(upgrade_id) + "/stop", {})
    under_way = answer.read(dict[str, Any]).get("overview", {}).get("InProgress", 0)
    click.echo(
        answer.pretty() if call.json else f"Upgrade {upgrade_id} asked to stop; {under_way} agents are under way."
    )
    return 0


def path_of(upgrade_id: str) -> str:
    return f"/v1/upgrades/{quote(upgrade_id, safe='')}"
