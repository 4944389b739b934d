"""The Auto Scaling group that a lab with AWS comes with: behind a load balancer, perhaps with a standby, and the group
for it in `shiftwork.yml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shiftwork_coordinator.lab import lifecycle, operator
from shiftwork_coordinator.lab.aws import balancer_sample
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.plan import APP_PORT, Lab

APPLICATION, GROUP = "web", "production"
GROUP_NAME = f"{APPLICATION}/{GROUP}"
NAME, STANDBY = "web-blue", "web-green"
CONFIG = "HalfAtATime"
SHIFTING = "LabShift"
ALARM = "web-5xx"
IMAGE = "ami-12c6146b"
"""One that moto knows; nothing is made of it."""
RESTS = "AlarmNotification"
"""A process that somebody has suspended before any deployment, and that is to stay so."""


class Made(NamedTuple):
    """`standby` is the name of a second group, at size 0; empty without one. The rest are ARNs; `others` is a second
    target group, which no listener knows, where there is one."""

    targets: str
    listener: str
    desired: int
    standby: str
    others: str = ""

    @property
    def shift(self) -> dict[str, object]:
        return {"target_groups": [self.targets, self.others], "listener": self.listener}


def make(lab: Lab, desired: int, *, standby: bool = False, weighed: bool = False) -> Made:
    """Everything in the stand-in; the instances come in their time. `weighed`: with a second target group."""
    network = balancer_sample.network(lab)
    elb, api = client(lab, "elbv2"), client(lab, "autoscaling")
    targets = _target_group(elb, APPLICATION, network["vpc"])
    others = _target_group(elb, f"{APPLICATION}-too", network["vpc"]) if weighed else ""
    made = elb.create_load_balancer(Name=APPLICATION, Subnets=network["subnets"])
    balancer = made["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": targets}],
    )["Listeners"][0]["ListenerArn"]  # fmt: skip
    balancer_sample.alarm(lab, ALARM, balancer)
    client(lab, "ec2").create_launch_template(
        LaunchTemplateName=APPLICATION, LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "t3.micro"}
    )
    for name, size in ((NAME, desired), *([(STANDBY, 0)] if standby else [])):
        api.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=min(1, size), MaxSize=2 * desired, DesiredCapacity=size,
            LaunchTemplate={"LaunchTemplateName": APPLICATION, "Version": "$Latest"}, TargetGroupARNs=[targets],
            VPCZoneIdentifier=",".join(network["subnets"]),
            Tags=[{"Key": "Role", "Value": "web", "PropagateAtLaunch": True}],
        )  # fmt: skip
        api.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[RESTS])
    return Made(targets, str(listener), desired, STANDBY if standby else "", others)


def _target_group(elb: Any, name: str, vpc: str) -> str:
    made = balancer_sample.target_group(elb, name, vpc, "instance", APP_PORT)
    elb.modify_target_group(TargetGroupArn=made, HealthCheckIntervalSeconds=5, HealthyThresholdCount=2)
    return made


def write(lab: Lab, made: Made, traffic: Mapping[str, Any] | None = None, **settings: object) -> Path:
    """`shiftwork-asg.yml`; `settings` are added to the group's. With `traffic` (`{"canary": …}`) there is a config
    LabShift that moves it so."""
    group = {
        "instances": {"autoscaling": [NAME]},
        "config": CONFIG,
        "port": APP_PORT,
        "load_balancers": [{"elbv2": {"target_group": made.targets}}],
        "health": {"http": f"http://{{address}}:{APP_PORT}/", "interval": "250ms", "healthy": 2, "unhealthy": 3},
        "quiet": {"port": APP_PORT, "for": "200ms", "at_most": "20s"},
        "rollback": ["failure"],
        **settings,
    }
    path = lab.directory / "shiftwork-asg.yml"
    whole = {"application": APPLICATION, "groups": {GROUP: group}, "configs": {SHIFTING: traffic} if traffic else {}}
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


def groups(lab: Lab) -> list[Mapping[str, Any]]:
    return list(client(lab, "autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"])


def url(lab: Lab, made: Made) -> str:
    """Where the application's requests go."""
    return balancer_sample.urls(lab)[made.listener]


def await_agents(lab: Lab, made: Made, within: float = 120.0) -> None:
    """Raises Unavailable when not all instances are in service with an agent by then."""

    def joined() -> bool:
        every = [one for group in groups(lab) for one in group["Instances"]]
        there = {one["InstanceId"] for one in every if one["LifecycleState"] == "InService"}
        return len(there) == made.desired and there <= operator.connected(lab)

    lifecycle.wait_until(joined, f"the agents of {NAME} to join", lambda line: None, within)
