"""`shiftwork-agent local`: deploy a bundle to this host, without a coordinator."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import click
import msgspec

from shiftwork_agent import hooks, logs, status
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import load_if_there
from shiftwork_agent.layout import DEFAULT_CONFIG, DEFAULT_STATE, Layout
from shiftwork_agent.local_run import Deployment, EventResult, LocalRun, Wish
from shiftwork_agent.trust import Policy
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.revision import BundleType, Signed
from shiftwork_contract.terminal import clean

FAILED = 1


@click.command("local")
@click.option(
    "--bundle", type=click.Path(path_type=Path), required=True, help="A directory, or a tar, tgz or zip archive."
)
@click.option("--events", default="", help="Comma-separated lifecycle events; all in the standard order by default.")
@click.option("--application", default="local", show_default=True, help="APPLICATION_NAME of the scripts.")
@click.option(
    "--group", default="LocalFleet", show_default=True, help="Deployment group: what is installed is its own."
)
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_STATE / "local", show_default=True,
    help="All that is remembered between two calls.",
)  # fmt: skip
@click.option(
    "--file-exists-behavior", metavar="DISALLOW|OVERWRITE|RETAIN", default="DISALLOW", show_default=True,
    help="What to do with files at the destination that others have put there.",
)  # fmt: skip
@click.option("--appspec", default="", help="Name of the AppSpec file; appspec.yml or appspec.yaml by default.")
@click.option(
    "--compat", type=click.Choice(["strict"]), help="Reproduce CodeDeploy's quirks that a bundle may depend on."
)
@click.option(
    "--type", "type", type=click.Choice([kind.value for kind in BundleType]), help="Told from the name by default."
)
@click.option(
    "--install-root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), show_default=True,
    help="Put before every destination.",
)  # fmt: skip
@click.option(
    "--signature", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The statement that was signed; the signature lies next to it, in FILE.sig.",
)  # fmt: skip
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_CONFIG,
    show_default=True, help="The agent's settings: what needs a signature, where may be installed.",
)  # fmt: skip
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs."
)
def local_command(
    bundle: Path, events: str, state: Path, install_root: Path, output: str, signature: Path | None, config_file: Path,
    **given: Any,
) -> None:  # fmt: skip
    """Deploy a bundle to this host, without a coordinator. Exits with 1 if the deployment failed."""
    settings = load_if_there(config_file)
    layout = Layout(state.absolute())
    try:
        layout.create()
    except OSError as err:
        raise InvalidRequest(f"cannot write to {state}: {err.strerror}; name another directory with --state") from err
    held = status.lock(layout)
    wish = Wish(
        bundle=bundle,
        events=tuple(event.strip() for event in events.split(",") if event.strip()),
        install_root=str(install_root.absolute()),
        signed=_signed(signature) if signature else None,
        policy=Policy(settings.require_signed, settings.allowed_signers, settings.rollback_window),
        destinations=settings.allowed_destinations,
        **{name: value for name, value in given.items() if value is not None},
    )
    told = _tell if output == "text" else _say_nothing
    try:
        with logs.shown():
            deployment = asyncio.run(_interruptible(LocalRun(wish, layout, SystemClock(), told)))
    except OSError as err:
        raise InvalidRequest(f"cannot deploy {bundle}: {err}") from err
    except asyncio.CancelledError:
        raise click.ClickException("ended by SIGTERM") from None
    finally:
        os.close(held)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(deployment), indent=2).decode())
    else:
        click.echo(f"{deployment.deployment_id}  {deployment.status}")
    if deployment.status == "Failed":
        click.get_current_context().exit(FAILED)


def _signed(statement: Path) -> Signed:
    signature = statement.with_name(f"{statement.name}.sig")
    try:
        return Signed(statement.read_text("ascii"), signature.read_text("ascii"))
    except (OSError, UnicodeError) as err:
        raise InvalidRequest(f"cannot read the signature {signature} of {statement}: {err}") from err


async def _interruptible(run: LocalRun) -> Deployment:
    """SIGTERM ends the running script and the deployment, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run.run()


def _tell(result: EventResult, directory: Path) -> None:
    click.echo(f"{result.lifecycle_event_name}  {result.status}")
    output = hooks.read_output(directory, 0, hooks.output_size(directory))
    for line in output.decode("utf-8", "replace").splitlines():
        click.echo(f"    {clean(line)}")
    if result.status is EventStatus.FAILED:
        click.echo(clean(f"    {result.diagnostics.error_code}: {result.diagnostics.message}"), err=True)


def _say_nothing(result: EventResult, directory: Path) -> None:
    pass
