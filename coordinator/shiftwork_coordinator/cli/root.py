"""The top of the command tree. Only the command that runs is imported: `shiftwork --help` reads this table alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

import click

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.cli.exits import INTERRUPTED, INVALID, READER_GONE, exit_code

HERE: Final = "shiftwork_coordinator.cli"
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "serve": (f"{HERE}.serve:serve", "Run the coordinator in this process."),
    "apply": (f"{HERE}.apply:apply", "Create or change applications, groups and configs."),
    "push": (f"{HERE}.push:push", "Upload a revision and print its id."),
    "revisions": (f"{HERE}.revisions:revisions", "List pushed revisions, newest first."),
    "sign": (f"{HERE}.sign:sign", "Sign a revision, for hosts that run only what was signed."),
    "plan": (f"{HERE}.plan:plan", "Show what a deployment would do; touch nothing."),
    "deploy": (f"{HERE}.deploy:deploy", "Deploy a revision and follow it to its end."),
    "sam": (f"{HERE}.sam:sam", "Deploy the functions of a SAM template together."),
    "status": (f"{HERE}.status:status", "Show a deployment, or those that are active."),
    "list": (f"{HERE}.status:list_deployments", "List deployments, newest first."),
    "logs": (f"{HERE}.logs:logs", "Print what the hooks of a deployment wrote."),
    "why": (f"{HERE}.status:why", "Say what a deployment waits for."),
    "stop": (f"{HERE}.steer:stop", "Stop a deployment."),
    "continue": (f"{HERE}.steer:continue_deployment", "End a deployment's wait or bake."),
    "rollback": (f"{HERE}.steer:rollback", "Go back to the last good revision."),
    "instances": (f"{HERE}.instances:instances", "List instances, or change their tags."),
    "launches": (f"{HERE}.launches:launches", "List what Auto Scaling groups launch or end, and what it waits for."),
    "approve": (f"{HERE}.approve:approve", "List the hosts that wait to join, or let one in."),
    "bootstrap": (f"{HERE}.bootstrap:bootstrap", "Install agents over SSH and join them, many hosts at once."),
    "revoke": (f"{HERE}.instances:revoke", "Shut an instance out for good."),
    "upgrade": (f"{HERE}.upgrade:upgrade", "Upgrade agents, a batch at a time, the first one alone."),
    "token": (f"{HERE}.tokens:token", "Make, list and revoke tokens."),
    "trust": (f"{HERE}.trust:trust", "Let instances join by a role of AWS."),
    "ecs": (f"{HERE}.ecs:ecs", "Prepare services of Amazon ECS."),
    "aws": (f"{HERE}.aws:aws", "Say what the coordinator needs of AWS."),
    "lab": ("shiftwork_coordinator.lab.cli:lab_group", "A whole system on this machine, to play with and to break."),
    "demo": ("shiftwork_coordinator.demo.cli:demo_command", "Start a lab and watch a deployment under traffic."),
}


class ReaderGone(Exception):
    """Nobody reads the output any more."""


class Root(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as err:
            raise ReaderGone from err  # click would end with 1, and that is a failed deployment's

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftwork", message="shiftwork %(version)s")
def root() -> None:
    """Deploy to a fleet, a batch at a time, while the service keeps answering.

    The coordinator is found through SHIFTWORK_URL and SHIFTWORK_TOKEN (and SHIFTWORK_CA), a context file, or its
    socket on its own host. Exit codes: 0 done; 1 the deployment failed, was stopped or rolled back; 2 invalid input
    or usage; 3 the coordinator cannot be reached or refuses.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends the process with its exit code; every error is a sentence on stderr."""
    _print_anything()
    try:
        result = root.main(args=args, prog_name="shiftwork", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as err:
        err.show()
        sys.exit(INVALID)
    except ShiftworkError as err:
        click.echo(f"shiftwork: {err}", err=True)
        sys.exit(exit_code(err))
    except (ReaderGone, BrokenPipeError):
        _end_quietly()
    except OSError as err:
        name = f" {err.filename}" if err.filename else ""
        click.echo(f"shiftwork: cannot use{name}: {err.strerror or err}", err=True)
        sys.exit(INVALID)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    sys.exit(result if isinstance(result, int) else 0)


def _end_quietly() -> NoReturn:
    """The reader has gone, as `head` does: nothing to report, and the interpreter must not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(READER_GONE)


def _print_anything() -> None:
    """In a locale without the character, `?` is better than a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
