"""`shiftwork demo`: a whole system is started, something is shown under traffic, and nothing is left behind."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copytree, rmtree

import click
import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.demo.report import Shown
from shiftwork_coordinator.demo.scenarios import DEFAULT, SCENARIOS, Scenario
from shiftwork_coordinator.demo.stage import Stage
from shiftwork_coordinator.lab import interrupts, lifecycle, plan
from shiftwork_coordinator.lab.plan import Lab


@click.command("demo")
@click.argument("scenario", type=click.Choice(list(SCENARIOS)), default=DEFAULT)
@click.option("--instances", default=4, show_default=True, type=click.IntRange(1, plan.MOST))
@click.option("--runtime", "kind", type=click.Choice(list(lifecycle.RUNTIMES)), help="Default: docker, else process.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--list", "listed", is_flag=True, help="Name the scenarios and end.")
def demo_command(scenario: str, instances: int, kind: str | None, output: str, listed: bool) -> None:
    """Start a lab, show SCENARIO under traffic, remove the lab. Exit code 0 when all of it held."""
    if listed:
        for name, each in SCENARIOS.items():
            click.echo(f"{name:<24}{each.summary}")
        return
    try:
        with interrupts.raised():
            shown = _show(SCENARIOS[scenario], instances, kind, as_json=output == "json")
    except interrupts.Interrupted as err:
        click.echo("Interrupted; nothing is left behind.", err=True)
        sys.exit(128 + err.number)
    _print(shown, as_json=output == "json")
    sys.exit(1 if shown.problems else 0)


def _show(scenario: Scenario, instances: int, kind: str | None, *, as_json: bool) -> Shown:
    if instances < scenario.fewest:
        raise InvalidRequest(f"cannot show this with {instances} instances: it takes at least {scenario.fewest}")
    if scenario.aws and kind == "docker":
        raise InvalidRequest("cannot show this in containers: it needs none; leave --runtime out")
    with _lab(None if scenario.aws else instances, kind) as lab:
        shown = scenario.run(Stage(lab, _say, sys.stderr if as_json else None))
        if shown.problems:
            lifecycle.runtime_of(lab).keep_logs(lab)
            _keep(lab.logs)
        _say("Removing the lab ...")
    return shown


@contextmanager
def _lab(instances: int | None, kind: str | None) -> Iterator[Lab]:
    """A lab in a directory of its own, with AWS's stand-in instead of instances where no number of them is given.

    Afterwards nothing is left of it but, where something went wrong, its logs.
    """
    directory = Path(tempfile.mkdtemp(prefix="shiftwork-demo-"))
    with ExitStack() as stack:
        stack.push(lambda kind, *_: _end(directory, kind is not None and not issubclass(kind, KeyboardInterrupt)))
        if instances is None:
            yield lifecycle.aws_up(directory / "lab", _say)
        else:
            yield lifecycle.up(directory / "lab", instances, lifecycle.runtime(kind), _say)


def _end(directory: Path, failed: bool) -> None:
    with interrupts.ignored():
        if (directory / "lab" / plan.FILE).exists():
            lab = plan.load(directory / "lab")
            if failed:
                lifecycle.runtime_of(lab).keep_logs(lab)
                _keep(lab.logs)
            lifecycle.down(lab)
        elif failed and (logs := directory / "lab" / "logs").exists():
            _keep(logs)
        rmtree(directory, ignore_errors=True)


def _keep(logs: Path) -> None:
    kept = tempfile.mkdtemp(prefix="shiftwork-demo-logs-")
    copytree(logs, kept, dirs_exist_ok=True)
    _say(f"The logs are kept in {kept}")


def _print(shown: Shown, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(shown.report).decode())
    else:
        click.echo("\n".join(shown.lines))
    for problem in shown.problems:
        click.echo(f"DID NOT HOLD: {problem}", err=True)


def _say(line: str) -> None:
    click.echo(line, err=True)
