"""`shiftwork-agent`: join, run, status, local. Bodies import what they need when they run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from shiftwork_agent.layout import DEFAULT_CONFIG, DEFAULT_STATE
from shiftwork_contract.errors import Denied, ShiftworkError, Unavailable

INVALID, UNREACHABLE = 2, 3

state_option = click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_STATE, show_default=True,
    help="Where the agent keeps everything it must remember.",
)  # fmt: skip
config_option = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_CONFIG,
    show_default=True, help="The agent's settings.",
)  # fmt: skip
output_option = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs."
)


class Commands(click.Group):
    """Turns our errors into one line and an exit code: 2 for input, 3 for a coordinator that is away or refuses.

    `local` comes from its own module, imported only when it is asked for.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ShiftworkError as err:
            click.echo(f"shiftwork-agent: {err.message}", err=True)
            ctx.exit(UNREACHABLE if isinstance(err, Unavailable | Denied) else INVALID)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "local"])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name != "local" or importlib.util.find_spec("shiftwork_agent.local") is None:
            return super().get_command(ctx, name)
        from shiftwork_agent.local import local_command

        command: click.Command = local_command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftwork", prog_name="shiftwork-agent")
def main() -> None:
    """Runs deployments on this host for a Shiftwork coordinator."""


@main.command()
@click.argument("url")
@click.option("--token", default="", envvar="SHIFTWORK_JOIN_TOKEN", help="A token of `shiftwork token create`.")
@click.option("--wait-for-approval", "wait", is_flag=True, help="Without a token: wait until `shiftwork approve`.")
@click.option("--iam", is_flag=True, help="Without a token: by this host's AWS role, if `shiftwork trust` has it.")
@click.option("--name", default="", help="The instance's name; the host's by default, with --iam the instance's id.")
@click.option("--ca-fingerprint", default="", help="sha256:… of the coordinator's CA; the token's by default.")
@click.option("--address", default="", help="The IP address to announce and to bind the gate to.")
@click.option(
    "--coordinator", "coordinators", multiple=True, metavar="URL",
    help="Another address to try when URL does not answer; may be repeated.",
)  # fmt: skip
@click.option("--install-root", default="", help="A directory that is put before every destination.")
@click.option("--force", is_flag=True, help="Replace the identity that this state directory has.")
@state_option
@config_option
@output_option
def join(state: Path, config_file: Path, output: str, ca_fingerprint: str, **wish: Any) -> None:
    """Make a key on this host and get a certificate for it from the coordinator at URL."""
    import asyncio
    import json

    from shiftwork_agent import service
    from shiftwork_agent.join import Wish
    from shiftwork_agent.join import join as join_now
    from shiftwork_agent.layout import Layout

    def tell(line: str) -> None:
        click.echo(line, err=True)

    about = asyncio.run(join_now(Wish(fingerprint=ca_fingerprint, **wish), Layout(state), config_file, tell))
    started = service.start(state, config_file)
    if output == "json":
        answer = {"instance": about.instance, "name": about.name, "config": str(config_file), "service": started}
        click.echo(json.dumps(answer))
    else:
        click.echo(f"Joined as {about.name} ({about.instance}). Settings are in {config_file}.")
        click.echo(service.told(started))


@main.command()
@state_option
@config_option
def run(state: Path, config_file: Path) -> None:
    """Run the agent, until SIGTERM. Hooks that run then go on; the next agent takes them over.

    The process becomes the daemon: what only the command line and the settings file need is not kept in memory.
    """
    import os
    from importlib.metadata import version

    import msgspec

    from shiftwork_agent import config
    from shiftwork_agent.sources import proxy_environment

    found = config.load(config_file)
    os.environ.update(proxy_environment(found.proxy, found.no_proxy))
    settings = msgspec.json.encode(msgspec.structs.replace(found, proxy="")).decode()  # arguments are seen by everybody
    arguments = [version("shiftwork"), str(state), settings]
    isolated = ["-I"] if sys.flags.isolated else []
    os.execv(sys.executable, [sys.executable, *isolated, "-m", "shiftwork_agent.daemon", *arguments])


@main.command()
@state_option
@output_option
def status(state: Path, output: str) -> None:
    """Say who this agent is, what it does and what it keeps. Exit code 3 when it is not connected, or not running."""
    import msgspec

    from shiftwork_agent import screen
    from shiftwork_agent import status as status_file
    from shiftwork_agent.clock import SystemClock
    from shiftwork_agent.layout import Layout

    layout = Layout(state)
    try:
        found = status_file.read(layout) or screen.without_agent(layout)
        found = msgspec.structs.replace(found, usage=screen.usage(layout))
    except (ShiftworkError, OSError) as err:
        raise Unavailable(f"no agent runs on {state}: {err}") from err
    text = screen.describe(found, SystemClock().wall())
    click.echo(msgspec.json.encode(found).decode() if output == "json" else text)
    sys.exit(0 if found.connected else UNREACHABLE)
