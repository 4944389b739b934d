"""`shiftwork ecs`: services of Amazon ECS, looked at with the caller's own AWS credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from shiftwork_coordinator.ecs_init import Behind, Plan
    from shiftwork_coordinator.shifters.asking import Ask


@click.group()
def ecs() -> None:
    """Prepare services of Amazon ECS."""


@ecs.command()
@click.argument("service", metavar="CLUSTER/SERVICE")
@click.option("--name", metavar="NAME", help="The new service's name; default: the old one's with -external.")
@click.option("--region", default="", metavar="REGION", help="Default: as AWS_REGION or the profile says.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def init(service: str, name: str | None, region: str, output: str) -> None:
    """Print how a service gets the EXTERNAL deployment controller; touch nothing.

    Reads AWS with the credentials of this shell: ecs:DescribeServices, elasticloadbalancing:Describe*,
    application-autoscaling:DescribeScalableTargets.
    """
    import asyncio

    import msgspec

    from shiftwork_coordinator.model.settings import Aws
    from shiftwork_coordinator.shifters import asking

    cluster, slash, old = service.partition("/")
    if not (cluster and slash and old) or "/" in old:
        raise click.UsageError(f"cannot use {service!r} as a service: write CLUSTER/SERVICE, like prod/web")
    found = asyncio.run(_planned(asking.of(Aws(region=region)), cluster, old, name or f"{old}-external"))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found, old)


async def _planned(ask: Ask, cluster: str, old: str, name: str) -> Plan:
    from shiftwork_contract.errors import InvalidRequest
    from shiftwork_coordinator import ecs_init

    told = await ask("ecs", "describe_services", cluster=cluster, services=[old], include=["TAGS"])
    if not told["services"] or told["services"][0].get("status") != "ACTIVE":
        raise InvalidRequest(f"cannot read service {old} of cluster {cluster}: it is not there, or not active")
    service = told["services"][0]
    primary: dict[str, Any] = next((s for s in service.get("taskSets") or () if s["status"] == "PRIMARY"), {})
    service = {**service, **{key: primary[key] for key in (*ecs_init.OF_TASK_SET, "loadBalancers") if primary.get(key)}}
    groups = [b["targetGroupArn"] for b in service.get("loadBalancers") or () if b.get("targetGroupArn")]
    behind = [await _behind(ask, group) for group in groups]
    scales = await ask(
        "application-autoscaling", "describe_scalable_targets", ServiceNamespace="ecs",
        ResourceIds=[f"service/{cluster}/{old}"],
    )  # fmt: skip
    return ecs_init.plan(service, behind, name, scales=bool(scales["ScalableTargets"]))


async def _behind(ask: Ask, group: str) -> Behind:
    """The listener, or the rule of one, that forwards to a target group."""
    from shiftwork_coordinator.ecs_init import Behind
    from shiftwork_coordinator.shifters.forwards import Route

    found = await ask("elbv2", "describe_target_groups", TargetGroupArns=[group])
    for balancer in found["TargetGroups"][0].get("LoadBalancerArns", []):
        for one in (await ask("elbv2", "describe_listeners", LoadBalancerArn=balancer))["Listeners"]:
            listener = one["ListenerArn"]
            if group in Route(listener, one.get("DefaultActions", [])).weights:
                return Behind(group, listener)
            for rule in (await ask("elbv2", "describe_rules", ListenerArn=listener))["Rules"]:
                if group in Route(rule["RuleArn"], rule["Actions"]).weights:
                    return Behind(group, listener, rule["RuleArn"])
    return Behind(group)


def _print(found: Plan, old: str) -> None:
    cluster, name = found.create_service["cluster"], found.create_service["serviceName"]
    click.echo(f"# Nothing has been changed. How {old} of {cluster} becomes {name}, which Shiftwork can deploy to.")
    for note in found.notes:
        click.echo(f"# Note: {note}.")
    _section("1. service.json: aws ecs create-service --cli-input-json file://service.json", found.create_service)
    _section("2. task-set.json: aws ecs create-task-set --cli-input-json file://task-set.json", found.create_task_set)
    click.echo(f"\n# 3. aws ecs update-service-primary-task-set --cluster {cluster} --service {name} \\")
    click.echo("#        --primary-task-set TASK-SET-ARN-FROM-2")
    click.echo("\n# 4. shiftwork.yml: shiftwork apply -f shiftwork.yml")
    click.echo(_yaml({"application": old, "groups": {"live": found.group}}))
    click.echo(f"# 5. When {name} serves: aws ecs delete-service --force --cluster {cluster} --service {old}")


def _section(title: str, value: dict[str, Any]) -> None:
    import json

    click.echo(f"\n# {title}")
    click.echo(json.dumps(value, indent=2, default=str))


def _yaml(value: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False).rstrip()
