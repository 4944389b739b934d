"""The service that a lab with AWS comes with: two task definitions, a load balancer with a test listener, a hook that
asks there, an alarm on what clients see, and the group for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shiftwork_coordinator.lab import lifecycle
from shiftwork_coordinator.lab.aws import balancer_sample, sample
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import Lab

APPLICATION, GROUP = "catalog", "live"
GROUP_NAME = f"{APPLICATION}/{GROUP}"
CLUSTER, SERVICE, CONTAINER, PORT = "lab", "catalog", "app", 8080
CONFIG = "LabCanary25Percent"
DESIRED = 2
MAY_HAVE = (1, 4)
"""Tasks between which the service's auto scaling may choose."""
CHECK = """
import os, urllib.error, urllib.request

def main(event, context):
    try:
        urllib.request.urlopen(os.environ["TEST_URL"], timeout=5).close()
    except urllib.error.HTTPError as err:
        told = err.read().decode().strip()
        return {"status": "Failed", "message": f"the test listener answers {err.code}: {told}"}
    return {"status": "Succeeded"}
"""
DEFECT = "cannot read the price list: unknown column 'prise'\n"


class Made(NamedTuple):
    """ARNs, but for the names of service, hook and alarm. `definitions` are of v1 and v2."""

    service: str
    groups: tuple[str, str]
    listener: str
    test_listener: str
    definitions: tuple[str, str]
    hook: str
    alarm: str
    first: str

    @property
    def pair(self) -> dict[str, Any]:
        return {"target_groups": list(self.groups), "listener": self.listener, "test_listener": self.test_listener}


def make(lab: Lab, name: str = SERVICE, *, desired: int = DESIRED, check: str = CHECK, **second: Any) -> Made:
    """Everything in the stand-in, v1 running and the primary once its tasks are healthy. `second` is what is special
    about v2's container (`command`, `environment`)."""
    network = balancer_sample.network(lab)
    balancer, groups, listeners = _balanced(lab, name, network)
    urls = balancer_sample.urls(lab)
    hook, alarm = f"check-{name}", f"{name}-5xx"
    sample.hook(client(lab, "lambda"), sample.role(lab), hook, check, TEST_URL=urls[listeners[1]])
    balancer_sample.alarm(lab, alarm, balancer)
    definitions = definition(lab, name, "v1"), definition(lab, name, "v2", **second)
    first = _service(lab, name, desired, definitions[0], groups[0], network)
    return Made(name, groups, *listeners, definitions, hook, alarm, first)


def _balanced(lab: Lab, name: str, network: Mapping[str, Any]) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """A load balancer, its two target groups, and the main and the test listener, which send to the first."""
    api = client(lab, "elbv2")
    balancer = api.create_load_balancer(Name=name, Subnets=network["subnets"])["LoadBalancers"][0]["LoadBalancerArn"]
    blue, green = (
        balancer_sample.target_group(api, f"{name}-{color}", network["vpc"], "ip", PORT) for color in ("blue", "green")
    )
    forward = [{"Type": "forward", "TargetGroupArn": blue}]
    main, test = (
        api.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=forward)
        for port in (80, 8080)
    )
    return balancer, (blue, green), (main["Listeners"][0]["ListenerArn"], test["Listeners"][0]["ListenerArn"])


def url(lab: Lab, made: Made) -> str:
    """Where the service's requests go."""
    return balancer_sample.urls(lab)[made.listener]


def definition(lab: Lab, family: str, version: str, **special: Any) -> str:
    """A further revision; `special` is what its container has besides."""
    app = {
        "name": CONTAINER, "image": f"lab-application:{version}", "memory": 128, "essential": True,
        "portMappings": [{"containerPort": PORT}], **special,
    }  # fmt: skip
    told = client(lab, "ecs").register_task_definition(
        family=family, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
        containerDefinitions=[app],
    )  # fmt: skip
    return str(told["taskDefinition"]["taskDefinitionArn"])


def _service(lab: Lab, name: str, desired: int, definition: str, group: str, network: Mapping[str, Any]) -> str:
    """Its first task set, made the primary once it is steady; with auto scaling."""
    api = client(lab, "ecs")
    api.create_cluster(clusterName=CLUSTER)
    api.create_service(
        cluster=CLUSTER, serviceName=name, desiredCount=desired, deploymentController={"type": "EXTERNAL"}
    )
    first = api.create_task_set(
        cluster=CLUSTER, service=name, taskDefinition=definition, launchType="FARGATE", externalId="v1",
        networkConfiguration={"awsvpcConfiguration": {"subnets": network["subnets"]}},
        loadBalancers=[{"targetGroupArn": group, "containerName": CONTAINER, "containerPort": PORT}],
    )["taskSet"]["taskSetArn"]  # fmt: skip
    api.update_service_primary_task_set(cluster=CLUSTER, service=name, primaryTaskSet=first)
    least, most = MAY_HAVE
    client(lab, "application-autoscaling").register_scalable_target(
        ServiceNamespace="ecs", ResourceId=f"service/{CLUSTER}/{name}", ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=least, MaxCapacity=most,
    )  # fmt: skip
    return str(first)


def write(lab: Lab, made: Made, traffic: Mapping[str, Any] | None = None, **settings: object) -> Path:
    """`shiftwork-ecs.yml`, whose config moves traffic as `traffic` says (`{"canary": …}`), all at once without;
    `settings` are added to the group's."""
    group = {
        "platform": "ECS",
        "config": CONFIG if traffic else "ECSAllAtOnce",
        "ecs": {"cluster": CLUSTER, "service": made.service, "load_balancers": [made.pair]},
        "hooks": {"after_allow_test_traffic": made.hook},
        "alarms": {"cloudwatch": [made.alarm], "every": "1s"},
        "rollback": ["failure", "alarm"],
        **settings,
    }
    configs = {CONFIG: {"platform": "ECS", **traffic}} if traffic else {}
    whole = {"application": APPLICATION, "groups": {GROUP: group}, "configs": configs}
    path = lab.directory / "shiftwork-ecs.yml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


def await_healthy(lab: Lab, made: Made, within: float = 30.0) -> None:
    """Raises Unavailable when the first task set is not steady by then."""

    def steady() -> bool:
        told = client(lab, "ecs").describe_services(cluster=CLUSTER, services=[made.service])["services"][0]
        return [one["stabilityStatus"] for one in told["taskSets"]] == ["STEADY_STATE"]

    lifecycle.wait_until(steady, f"the tasks of {made.service} to be healthy", lambda line: None, within)
