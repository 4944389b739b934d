"""The least policy: what it allows, on what, to whom."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.aws.policy import COPIES, Policy, policies
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Deployment
from shiftwork_coordinator.model.settings import (
    Alarms,
    AutoScaling,
    Aws,
    BlueGreen,
    Ecs,
    FunctionHooks,
    GroupSettings,
    Instances,
    Originals,
    Weights,
)
from shiftwork_coordinator.scaling_groups import copy_name

ACCOUNT, REGION = "123456789012", "eu-west-1"
ELB = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}"
HERE = Aws(region=REGION)


def own(*groups: GroupSettings, **more: Any) -> Policy:
    (found,) = policies(groups, ACCOUNT, **more)
    assert found.role == ""
    return found


def allowed(policy: Policy) -> dict[str, Any]:
    """Resources by action, which stands in one statement alone."""
    found: dict[str, Any] = {}
    for statement in policy.document["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            assert action not in found
            found[action] = statement["Resource"]
    return found


def test_target_groups_and_classic_balancers_are_named() -> None:
    balancers = ({"elbv2": {"target_groups": ["web", f"{ELB}:targetgroup/api/7"]}}, {"elb": {"load_balancer": "old"}})
    found = allowed(own(GroupSettings(aws=HERE, load_balancers=balancers)))
    assert found["elasticloadbalancing:RegisterTargets"] == [
        f"{ELB}:targetgroup/api/7",
        f"{ELB}:targetgroup/web/*",
    ]
    assert found["elasticloadbalancing:DeregisterInstancesFromLoadBalancer"] == [f"{ELB}:loadbalancer/old"]
    assert (
        found["elasticloadbalancing:DescribeTargetHealth"]
        == found["elasticloadbalancing:DescribeInstanceHealth"]
        == "*"
    )


def test_balancers_that_are_not_of_aws_need_nothing() -> None:
    assert policies([GroupSettings(load_balancers=({"haproxy": {"endpoint": "unix:///x", "backend": "b"}},))]) == []


def test_fleets() -> None:
    tagged = GroupSettings(Instances(ec2_tags={"Role": ["web"]}))
    assert allowed(own(tagged)) == {"ec2:DescribeInstances": "*"}
    quiet = AutoScaling(launch_hook=False)
    scaled = GroupSettings(Instances(autoscaling=("web-blue",)), autoscaling=quiet, aws=HERE)
    group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/web-blue"
    assert allowed(own(scaled)) == {
        "ec2:DescribeInstances": "*",
        "autoscaling:DescribeAutoScalingGroups": "*",
        "autoscaling:SuspendProcesses": [group],
        "autoscaling:ResumeProcesses": [group],
        "autoscaling:CreateOrUpdateTags": [group],
        "autoscaling:DeleteTags": [group],
    }
    left = AutoScaling((), launch_hook=False)
    held = GroupSettings(Instances(autoscaling=("web-blue",)), autoscaling=left, aws=HERE)
    assert set(allowed(own(held))) == {"ec2:DescribeInstances", "autoscaling:DescribeAutoScalingGroups"}


def test_hooks_of_fleets_and_their_queue() -> None:
    queue, told = f"arn:aws:sqs:{REGION}:{ACCOUNT}:launches", f"arn:aws:iam::{ACCOUNT}:role/tells"
    settings = AutoScaling((), queue=queue, queue_role_arn=told)
    found = allowed(own(GroupSettings(Instances(autoscaling=("web",)), autoscaling=settings, aws=HERE)))
    group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/web"
    for action in ("PutLifecycleHook", "DeleteLifecycleHook", "CompleteLifecycleAction"):
        assert found[f"autoscaling:{action}"] == [group]
    assert found["sqs:ReceiveMessage"] == found["sqs:DeleteMessage"] == [queue] and found["iam:PassRole"] == [told]


def test_blue_green() -> None:
    prefix = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/"
    two = GroupSettings(Instances(autoscaling=("blue",)), blue_green=BlueGreen("swap", "green"), aws=HERE)
    found = allowed(own(two))
    assert found["autoscaling:UpdateAutoScalingGroup"] == [f"{prefix}blue", f"{prefix}green"]
    assert not {"autoscaling:CreateAutoScalingGroup", "iam:PassRole", "ec2:RunInstances"} & set(found)
    policy = own(GroupSettings(Instances(autoscaling=("blue",)), blue_green=BlueGreen(), aws=HERE))
    found = allowed(policy)
    assert found["autoscaling:CreateAutoScalingGroup"] == [f"{prefix}blue", f"{prefix}shiftwork-*"]
    assert found["autoscaling:AttachLoadBalancerTargetGroups"] == found["autoscaling:DeleteAutoScalingGroup"]
    assert found["iam:PassRole"] == [f"arn:aws:iam::{ACCOUNT}:role/*"]
    conditions = {s["Action"][0]: s["Condition"] for s in policy.document["Statement"] if "Condition" in s}
    assert conditions["iam:PassRole"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    assert any("launch template" in note for note in policy.notes)


def test_weights_of_a_listener_or_of_a_rule() -> None:
    groups = (f"{ELB}:targetgroup/blue/1", f"{ELB}:targetgroup/green/2")
    listener, rule = f"{ELB}:listener/app/web/1/2", f"{ELB}:listener-rule/app/web/1/2/3"
    for given, action, arn in (
        (Weights(groups, listener), "elasticloadbalancing:ModifyListener", listener),
        (Weights(groups, rule=rule), "elasticloadbalancing:ModifyRule", rule),
    ):
        wanted = BlueGreen(shift=given)
        found = allowed(own(GroupSettings(Instances(autoscaling=("blue",)), blue_green=wanted, aws=HERE)))
        assert found["elasticloadbalancing:RegisterTargets"] == list(groups)
        assert {key: arns for key, arns in found.items() if ":Modify" in key} == {action: [arn]}
        assert found["elasticloadbalancing:DescribeListeners"] == "*"


def test_two_sets_that_stand_already() -> None:
    one, other = Instances(ec2_tags={"Color": ["blue"]}), Instances(ec2_tags={"Color": ["green"]})
    kept = GroupSettings(one, blue_green=BlueGreen("existing", replacements=other), aws=HERE)
    assert set(allowed(own(kept))) == {"ec2:DescribeInstances"}
    policy = own(replace(kept, originals=Originals(then="terminate")))
    found = allowed(policy)
    assert found["ec2:TerminateInstances"] == [f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/*"]
    assert any("ec2:ResourceTag" in note for note in policy.notes)
    groups = [Instances(autoscaling=(name,)) for name in ("web-a", "web-b")]
    found = allowed(own(GroupSettings(groups[0], blue_green=BlueGreen("existing", replacements=groups[1]), aws=HERE)))
    prefix = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/"
    assert found["autoscaling:SuspendProcesses"] == [f"{prefix}web-a", f"{prefix}web-b"]
    assert "autoscaling:PutLifecycleHook" not in found


def test_copies_are_called_as_the_policy_says() -> None:
    config, revision = DeploymentConfig("c", MinimumHealthyHosts("HOST_COUNT", 1)), Revision("sha256:x", "")
    deployment = Deployment("d-1", 1, "web", "production", "g-1", revision, config, GroupSettings(), 0.0)
    assert fnmatch(copy_name(deployment), COPIES)


def test_a_service() -> None:
    main, rule, test = (
        f"{ELB}:listener/app/web/1/2",
        f"{ELB}:listener-rule/app/web/1/2/3",
        f"{ELB}:listener/app/web/1/9",
    )
    pair = Pair((f"{ELB}:targetgroup/a/1", f"{ELB}:targetgroup/b/1"), main, rule=rule, test_listener=test)
    ecs = Ecs(f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/prod", "web", (pair,))
    policy = own(GroupSettings(platform="ECS", ecs=ecs, aws=HERE))
    found = allowed(policy)
    assert found["ecs:UpdateServicePrimaryTaskSet"] == [f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/prod/web"]
    assert found["ecs:DeleteTaskSet"] == [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-set/prod/web/*"]
    assert found["elasticloadbalancing:ModifyListener"] == [test], "the rule is changed, not its listener"
    assert found["elasticloadbalancing:ModifyRule"] == [rule]
    conditions = {s["Action"][0]: s["Condition"] for s in policy.document["Statement"] if "Condition" in s}
    assert conditions == {
        "ecs:ListTasks": {"ArnEquals": {"ecs:cluster": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/prod"}},
        "iam:PassRole": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
    }
    assert found["iam:PassRole"] == [f"arn:aws:iam::{ACCOUNT}:role/*"]
    assert any("role/*" in note for note in policy.notes)


def test_functions_and_their_hooks() -> None:
    policy = own(GroupSettings(platform="Lambda", aws=HERE))
    found = allowed(policy)
    assert found["lambda:UpdateAlias"] == [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:*"]
    assert found["lambda:InvokeFunction"] == [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:CodeDeployHook_*"]
    assert len(policy.notes) == 2
    named = own(GroupSettings(platform="Lambda", aws=HERE, hooks=FunctionHooks(before_allow_traffic="check")))
    check = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:check"
    assert allowed(named)["lambda:InvokeFunction"] == [check, f"{check}:*"]
    assert not {"lambda:UpdateFunctionCode", "cloudformation:DescribeStacks"} & set(found)
    sam = allowed(own(GroupSettings(platform="Lambda", aws=HERE), sam=True))
    assert sam["lambda:UpdateFunctionCode"] == found["lambda:UpdateAlias"]
    assert sam["cloudformation:DescribeStacks"] == [f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/*"]


def test_roles_get_their_own_and_the_coordinator_may_take_them_on() -> None:
    role, watcher = "arn:aws:iam::2:role/deployer", "arn:aws:iam::3:role/watcher"
    group = GroupSettings(
        Instances(ids=("i-1",)),
        aws=Aws(role_arn=role),
        load_balancers=({"elbv2": {"target_group": "web"}},),
        alarms=Alarms(("red",), role_arn=watcher),
    )
    mine, deployer, watching = policies([group], ACCOUNT, ["artifacts"])
    assert allowed(mine) == {
        "sts:AssumeRole": [role, watcher],
        "s3:GetObject": ["arn:aws:s3:::artifacts/*"],
        "s3:GetObjectVersion": ["arn:aws:s3:::artifacts/*"],
        "s3:ListBucket": ["arn:aws:s3:::artifacts"],
    }
    assert deployer.role == role
    assert {"ec2:DescribeInstances", "elasticloadbalancing:RegisterTargets"} <= set(allowed(deployer))
    assert (watching.role, allowed(watching)) == (watcher, {"cloudwatch:DescribeAlarms": "*"})


def test_several_groups_are_one_policy() -> None:
    groups = [GroupSettings(aws=HERE, load_balancers=({"elbv2": {"target_group": name}},)) for name in ("b", "a", "b")]
    found = allowed(own(*groups))
    assert found["elasticloadbalancing:RegisterTargets"] == [f"{ELB}:targetgroup/a/*", f"{ELB}:targetgroup/b/*"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eu-west-1", "aws"), ("", "aws")],
)
def test_partitions(region: str, partition: str) -> None:
    group = GroupSettings(aws=Aws(region=region), load_balancers=({"elb": {"load_balancer": "old"}},))
    found = allowed(own(group, buckets=["b"]))
    (arn,) = found["elasticloadbalancing:RegisterInstancesWithLoadBalancer"]
    assert arn == f"arn:{partition}:elasticloadbalancing:{region or '*'}:{ACCOUNT}:loadbalancer/old"
    assert found["s3:ListBucket"] == [f"arn:{partition}:s3:::b"]
