"""`shiftwork bootstrap`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

import click

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli import context
from shiftwork_coordinator.cli.exits import DONE, FAILED
from shiftwork_coordinator.cli.options import Call, GroupName, Pair, api_command
from shiftwork_coordinator.cli.tokens import Duration

if TYPE_CHECKING:
    from shiftwork_coordinator.bootstrap.fleet import Run
    from shiftwork_coordinator.bootstrap.targets import Target
    from shiftwork_coordinator.cli.client import Api

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Options:
    """The command line, but for the hosts and how to answer."""

    packages: tuple[Path, ...]
    group: tuple[str, str] | None
    name_from: str
    rejoin: bool
    identities: tuple[Path, ...]
    known_hosts: Path | None
    accept_new: bool
    ssh_config: Path | None
    sudo: bool | None
    ask_password: bool
    at_once: int
    timeout: float
    coordinator: str


@click.command()
@click.argument("hosts", nargs=-1, metavar="[[USER@]HOST[:PORT]]...")
@click.option(
    "--inventory", type=click.File(), metavar="FILE", help="Hosts, one a line, with KEY=VALUE tags; - = stdin."
)
@click.option("--package", "packages", multiple=True, type=FILE, metavar="FILE", help="A .deb or .rpm of the agent.")
@click.option("--tag", "tags", multiple=True, type=Pair(), metavar="KEY=VALUE", help="A tag for every instance.")
@click.option("--group", type=GroupName(), metavar="APPLICATION/GROUP", help="The deployment group they shall be in.")
@click.option(
    "--name-from", type=click.Choice(["hostname", "address"]), default="hostname", show_default=True,
    help="What the instance is called: as the host calls itself, or as you wrote it.",
)  # fmt: skip
@click.option("--coordinator", default="", metavar="URL", help="Where the agents shall connect; default: as you do.")
@click.option("--rejoin", is_flag=True, help="Also take hosts that belong to another coordinator, or were revoked.")
@click.option("--user", default="", metavar="USER", help="Who logs in where a host names nobody.")
@click.option("--identity", "identities", multiple=True, type=FILE, metavar="KEY", help="A private key to log in with.")
@click.option("--known-hosts", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--accept-new-host-keys", "accept_new", is_flag=True, help="Trust and remember hosts never seen before.")
@click.option("--ssh-config", type=FILE, metavar="FILE", help="Instead of ~/.ssh/config.")
@click.option("--sudo/--no-sudo", default=None, help="Become root with sudo; default: where the user is not root.")
@click.option("--ask-sudo-password", "ask_password", is_flag=True, help="Ask once for the password that sudo wants.")
@click.option("--at-once", type=click.IntRange(1, 500), default=20, show_default=True, metavar="N")
@click.option("--timeout", type=Duration(), default="5m", show_default=True, metavar="TIME", help="For each host.")
@api_command
def bootstrap(
    hosts: tuple[str, ...],
    inventory: TextIO | None,
    tags: tuple[tuple[str, str], ...],
    user: str,
    call: Call,
    **options: Any,
) -> int:
    """Install agents over SSH and join them, many hosts at once.

    A host that has the agent, belongs to this coordinator and is connected is left alone, so the same line can be run
    again. Host keys are verified; one bad host does not stop the rest.
    """
    from shiftwork_coordinator.bootstrap import targets

    named = [targets.parse(host) for host in hosts]
    listed = targets.inventory(inventory.read(), inventory.name) if inventory is not None else []
    full = targets.completed([*named, *listed], user, dict(tags))
    wanted = Options(**options)
    password = click.prompt("Password for sudo", hide_input=True, err=True) if wanted.ask_password else ""
    return call.run(lambda api: _bootstrap(api, full, wanted, password, silent=call.json))


async def _bootstrap(api: Api, targets: tuple[Target, ...], options: Options, password: str, *, silent: bool) -> int:
    from shiftwork_coordinator.cli.bootstrap_screen import as_json, summary

    run, watcher = await _prepared(api, options, password, silent=silent)
    try:
        with watcher:
            await run.over(targets)
    except asyncio.CancelledError:
        if not silent:
            summary(run.results, interrupted=len(targets) - len(run.results))
        raise
    if silent:
        click.echo(as_json(run.results, targets))
    else:
        summary(run.results)
    return FAILED if any(result.failed for result in run.results) else DONE


async def _prepared(api: Api, options: Options, password: str, *, silent: bool) -> tuple[Run, Any]:
    """Everything that can be refused before the first host is dialled."""
    from shiftwork_coordinator.bootstrap import facts, packages
    from shiftwork_coordinator.bootstrap.fleet import Pace, Run
    from shiftwork_coordinator.bootstrap.ssh import Access, SshDialer
    from shiftwork_coordinator.bootstrap.steps import Wish
    from shiftwork_coordinator.cli.bootstrap_screen import screen
    from shiftwork_coordinator.cli.bootstrapping import ApiCoordinator
    from shiftwork_coordinator.clock import SystemClock

    clock = SystemClock()
    coordinator = ApiCoordinator(api, clock, "/".join(options.group or ()))
    wish = Wish(
        packages=packages.load(options.packages),
        url=_dialled(options.coordinator, api.where),
        ca=facts.fingerprint(await coordinator.ca()),
        name_from=options.name_from,
        rejoin=options.rejoin,
        sudo=options.sudo,
        password=bool(password),
    )
    dialer = SshDialer(Access(options.identities, options.known_hosts, options.accept_new, options.ssh_config))
    await coordinator.check()
    pace = Pace(options.at_once, options.timeout)
    watcher = screen(clock, silent=silent)
    return Run(dialer, coordinator, wish, clock, watcher, pace, password), watcher


def _dialled(given: str, where: context.Where) -> str:
    """The coordinator's address as the agents shall use it."""
    url = (given or where.url).rstrip("/")
    parts = urlsplit(url)
    if (
        parts.scheme == "https"
        and parts.hostname
        and (given or parts.hostname not in ("localhost", "127.0.0.1", "::1"))
    ):
        return url
    shown = repr(given) if given else str(where)
    raise InvalidRequest(
        f"cannot send agents to {shown}: give the coordinator's address as the hosts see it, with --coordinator"
        " https://HOST:7070"
    )
