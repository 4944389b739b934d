"""`shiftwork lab`: a whole system on this machine, to play with and to break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import click

from shiftwork_coordinator.lab import application, bundles, interrupts, lifecycle, plan
from shiftwork_coordinator.lab.aws import fleet_sample, sample, service_sample
from shiftwork_coordinator.lab.runtime import Verb

directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=lifecycle.default_directory, show_default="per user"
)
INSTANCES = 2
"""Of the Auto Scaling group that a lab with AWS comes with."""
output_option = click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group("lab")
def lab_group() -> None:
    """Instances, a load balancer and a coordinator on this machine: containers, or processes without Docker."""


@lab_group.command("up")
@click.option("--instances", default=4, show_default=True, type=click.IntRange(1, plan.MOST))
@click.option(
    "--runtime",
    "kind",
    type=click.Choice(list(lifecycle.RUNTIMES)),
    help="Default: docker, else process. With --aws: tasks and instances; default: process.",
)
@click.option("--aws", is_flag=True, help="A stand-in for AWS, whose groups launch the instances; no Docker is needed.")
@directory_option
@output_option
def up(instances: int, kind: str | None, aws: bool, directory: Path, output: str) -> None:
    """Start a lab and say how to reach it."""
    if aws:
        _up_aws(directory, output, contained=kind == "docker")
        return
    with interrupts.raised():
        lab = lifecycle.up(directory, instances, lifecycle.runtime(kind), _say)
    settings, revisions = application.write(lab), bundles.make_all(lab.directory / "bundles")
    if output == "json":
        click.echo((directory / plan.FILE).read_text())
        return
    click.echo(f"The lab runs ({lab.runtime}, {instances} instances). The application is at {lab.balancer_url}")
    click.echo("For the shiftwork command:")
    for name, value in lab.environment().items():
        click.echo(f"  export {name}={value}")
    click.echo("To deploy the application that comes with it (v1, v2, and v3, which is broken):")
    click.echo(f"  shiftwork apply -f {settings}")
    click.echo(f"  shiftwork push {revisions['v1']} --application {application.APPLICATION}")
    click.echo(f"  shiftwork deploy {application.GROUP_NAME} --revision sha256:…")


def _up_aws(directory: Path, output: str, *, contained: bool) -> None:
    with interrupts.raised():
        lab = lifecycle.aws_up(directory, _say, contained=contained)
        settings = sample.make(lab)
        service = service_sample.make(lab)
        service_settings = service_sample.write(lab, service, {"canary": {"percentage": 25, "interval": 10}})
        fleet = fleet_sample.make(lab, INSTANCES)
        fleet_settings, revisions = fleet_sample.write(lab, fleet), bundles.make_all(lab.directory / "bundles")
        service_sample.await_healthy(lab, service)
        fleet_sample.await_agents(lab, fleet)
    if output == "json":
        click.echo((directory / plan.FILE).read_text())
        return
    click.echo(f"The lab runs. AWS's stand-in is at {lab.aws_url}")
    click.echo("For the shiftwork command, the aws command and every AWS SDK:")
    for name, value in {**lab.environment(), **lab.aws_environment()}.items():
        click.echo(f"  export {name}={value}")
    click.echo(f"To shift the traffic of the function that comes with it ({sample.FUNCTION}, versions 1 and 2):")
    click.echo(f"  shiftwork apply -f {settings}")
    click.echo(
        f"  shiftwork deploy {sample.GROUP_NAME} --function {sample.FUNCTION} --alias {sample.ALIAS} --version 2"
    )
    click.echo(f"To replace the tasks of the service that comes with it, at {service_sample.url(lab, service)}:")
    click.echo(f"  shiftwork apply -f {service_settings}")
    click.echo(f"  shiftwork deploy {service_sample.GROUP_NAME} --task-definition {service_sample.SERVICE}:2")
    click.echo(f"To deploy to the Auto Scaling group {fleet_sample.NAME}, at {fleet_sample.url(lab, fleet)}:")
    click.echo(f"  shiftwork apply -f {fleet_settings}")
    click.echo(f"  shiftwork push {revisions['v1']} --application {fleet_sample.APPLICATION}")
    click.echo(f"  shiftwork deploy {fleet_sample.GROUP_NAME} --revision sha256:…")


@lab_group.command("down")
@directory_option
def down(directory: Path) -> None:
    """End the lab and remove everything of it."""
    lab = plan.load(directory)
    lifecycle.down(lab)
    click.echo(f"Lab {lab.name} is gone.")


@lab_group.command("status")
@directory_option
@output_option
def status(directory: Path, output: str) -> None:
    """What runs, what is paused, cut off or stopped."""
    lab = plan.load(directory)
    statuses = lifecycle.runtime_of(lab).statuses(lab)
    if output == "json":
        where = {"awsUrl": lab.aws_url} if lab.aws else {"balancerUrl": lab.balancer_url}
        described = {"name": lab.name, "runtime": lab.runtime, "url": lab.url, **where}
        click.echo(json.dumps({**described, "statuses": statuses}))
        return
    addresses = {instance.name: instance.address for instance in lab.instances}
    addresses |= {"coordinator": lab.url, "balancer": lab.balancer_url, "aws": lab.aws_url if lab.aws else ""}
    for name, state in statuses.items():
        click.echo(f"{name:<14}{state:<10}{addresses.get(name, '')}")


@lab_group.command("fault")
@click.argument("verb", type=click.Choice(get_args(Verb)))
@click.argument("target")
@directory_option
def fault(verb: Verb, target: str, directory: Path) -> None:
    """Do harm, or undo it. TARGET is an instance, agent:INSTANCE, coordinator or balancer.

    A killed agent or coordinator is started again a second later, as systemd would; a killed instance or balancer
    stays down until `resume`. `cut` takes a host off the network, `heal` puts it back.
    """
    lab = plan.load(directory)
    lifecycle.runtime_of(lab).fault(lab, verb, target)
    click.echo(f"{verb} {target}: done")
