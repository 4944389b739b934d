"""What is refused, or said, before blue/green over Auto Scaling groups touches anything; and what a copy is made of."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from msgspec.structs import replace
from tests.drivers.scaling_account import CPU, HOOK, OTHERS, PER_TARGET, STEPS, WEB, Account, furnished, group

from shiftwork_contract.resource import ScalingGroup
from shiftwork_coordinator.model.settings import BlueGreen as Wanted
from shiftwork_coordinator.model.settings import GroupSettings, Instances
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.blue_green import BlueGreen
from shiftwork_coordinator.shifters.scaling_copy import Attached, creation, differing, fields, parts

COPY = ScalingGroup("autoscaling:web", "web", "d-1", "web-d-1", True)
SWAP = ScalingGroup("autoscaling:web", "web", "d-1", "web-b")
BALANCED = ({"elbv2": {"target_group": "web"}}, {"elb": {"load_balancers": ["classic"]}})
Change = Callable[[Account], None]


async def told(
    monkeypatch: pytest.MonkeyPatch, *resources: ScalingGroup, change: Change, balanced: Any = BALANCED
) -> tuple[list[str], list[str]]:
    """What refuses the deployment, and what is only said. Nothing is changed by asking."""
    account = furnished(Account(group("web"), group("web-b", MinSize=0, MaxSize=4, DesiredCapacity=0)))
    account.tables["web-b"] = deepcopy(account.tables["web"])
    account.groups["web"]["Tags"] = []
    account.look("web")
    change(account)
    monkeypatch.setattr(asking, "of", lambda at: account.ask)
    settings = GroupSettings(Instances(autoscaling=("web",)), blue_green=Wanted(), load_balancers=balanced)
    found = await BlueGreen(settings).check(resources)
    assert account.changes == []
    return [p.message for p in found if p.fatal], [p.message for p in found if not p.fatal]


def web(**changed: Any) -> Change:
    return lambda account: account.groups["web"].update(changed)


def other(**changed: Any) -> Change:
    return lambda account: account.groups["web-b"].update(changed)


def rest(name: str, process: str) -> Change:
    return lambda account: account.groups[name].update(SuspendedProcesses=[{"ProcessName": process}])


def nothing(account: Account) -> None:
    """As it is."""


@pytest.mark.parametrize("one", [COPY, SWAP], ids=("copy", "swap"))
async def test_nothing_is_wrong_at_first(monkeypatch: pytest.MonkeyPatch, one: ScalingGroup) -> None:
    assert await told(monkeypatch, one, change=nothing) == ([], [])


ILL = [{"InstanceId": "i-1", "LifecycleState": "InService", "HealthStatus": "Unhealthy", "looks": 9}]
LATTICE = [{"Identifier": "arn:lattice", "Type": "vpc-lattice"}]
TAKEN: Change = lambda account: account._put(group("web-d-1"))  # noqa: E731
FULL: Change = lambda account: setattr(account, "quota", 2)  # noqa: E731
STEPPED: Change = lambda account: account.tables["web"]["policies"].append(STEPS)  # noqa: E731
REFUSED: list[tuple[str, ScalingGroup, Change]] = [
    ("no Auto Scaling group 'web'", COPY, lambda account: account.groups.pop("web") and None),
    ("none is in service and healthy", COPY, web(DesiredCapacity=0, MinSize=0, Instances=[])),
    ("none is in service and healthy", SWAP, web(Instances=ILL)),
    ("sizes are in vcpu", COPY, web(DesiredCapacityType="vcpu")),
    ("VPC Lattice", SWAP, web(TrafficSources=LATTICE)),
    ("which this deployment did not make", COPY, TAKEN),
    ("1 to 255 printable ASCII characters", replace(COPY, replacement="w" * 256), nothing),
    ("1 to 255 printable ASCII characters", replace(COPY, replacement="a:b"), nothing),
    ("process Launch of the Auto Scaling group web is suspended", COPY, rest("web", "Launch")),
    ("another AWS service manages it", COPY, web(Operator={"Principal": "eks"})),
    ("alarm busy of scaling policy steps would be lost", COPY, STEPPED),
    ("the account has 2 of 2", COPY, FULL),
    (
        "the instance refresh r-1 does so already (InProgress)",
        SWAP,
        lambda account: account.refreshes.append("InProgress"),
    ),
    ("with itself", replace(SWAP, replacement="web"), nothing),
    ("no Auto Scaling group 'web-b'", SWAP, lambda account: account.groups.pop("web-b") and None),
    ("minimum 1, desired 0, 0 instances", SWAP, other(MinSize=1)),
    ("minimum 0, desired 0, 1 instances", SWAP, other(Instances=ILL)),
    ("process Launch of the Auto Scaling group web-b is suspended", SWAP, rest("web-b", "Launch")),
    ("process Terminate is suspended", SWAP, rest("web", "Terminate")),
]


@pytest.mark.parametrize(("what", "one", "change"), REFUSED, ids=[what for what, _, _ in REFUSED])
async def test_refused(monkeypatch: pytest.MonkeyPatch, what: str, one: ScalingGroup, change: Change) -> None:
    [message], _ = await told(monkeypatch, one, change=change)
    assert what in message


MINE = {"Key": "aws:cloudformation:stack-name", "Value": "shop", "PropagateAtLaunch": True}
NOTED = {"Key": "shiftwork:suspended", "Value": "d-0 AZRebalance", "PropagateAtLaunch": False}
SAID: list[tuple[str, ScalingGroup, Change]] = [
    ("still rests for deployment d-0", COPY, web(Tags=[NOTED])),
    ("belongs to the CloudFormation stack shop", COPY, web(Tags=[MINE])),
    ("no load balancer is attached to web", COPY, web(TargetGroupARNs=[], LoadBalancerNames=[])),
    ("1 of 3 instances of web are not", SWAP, lambda account: account.groups["web"]["Instances"][0].update(ILL[0])),
    ("targetgroup/admin/2 sends to web, and is not among", COPY, web(TargetGroupARNs=[OTHERS])),
    ("otherwise than web: DefaultCooldown", SWAP, other(DefaultCooldown=1)),
    (
        "otherwise than web: scaling policy cpu",
        SWAP,
        lambda account: account.tables["web-b"]["policies"].pop(0) and None,
    ),
    ("web-b is not attached to classic", SWAP, other(LoadBalancerNames=[])),
    (
        "AWS CodeDeploy deploys to what web launches too",
        COPY,
        lambda account: account.tables["web"]["hooks"].append(HOOK | {"LifecycleHookName": "CodeDeploy-managed-a-1"}),
    ),
]


@pytest.mark.parametrize(("what", "one", "change"), SAID, ids=[what for what, _, _ in SAID])
async def test_said(monkeypatch: pytest.MonkeyPatch, what: str, one: ScalingGroup, change: Change) -> None:
    fatal, [message] = await told(monkeypatch, one, change=change)
    assert fatal == []
    assert what in message


async def test_one_group_and_a_load_balancer(monkeypatch: pytest.MonkeyPatch) -> None:
    [message], _ = await told(monkeypatch, COPY, SWAP, change=nothing)
    assert "of 2 Auto Scaling groups (web, web)" in message
    [message], _ = await told(monkeypatch, COPY, change=nothing, balanced=())
    assert "without a load balancer" in message


async def test_who_may_not_ask_for_the_quota_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await told(monkeypatch, COPY, change=lambda account: account.denied.add("describe_account_limits")) == (
        [],
        [],
    )


def test_a_launch_template_is_named_once_at_any_depth() -> None:
    named = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "Version": "3"}
    mixed = {
        "LaunchTemplate": {"LaunchTemplateSpecification": named, "Overrides": [{"LaunchTemplateSpecification": named}]}
    }
    found = fields(group("web", MixedInstancesPolicy=mixed))
    once = {"LaunchTemplateId": "lt-1", "Version": "3"}
    assert "LaunchTemplate" not in found
    assert found["MixedInstancesPolicy"]["LaunchTemplate"] == {
        "LaunchTemplateSpecification": once,
        "Overrides": [{"LaunchTemplateSpecification": once}],
    }
    by_name = fields(group("web", LaunchTemplate={"LaunchTemplateName": "web"}))
    assert by_name["LaunchTemplate"] == {"LaunchTemplateName": "web"}


def test_zones_are_named_where_no_subnets_are() -> None:
    assert "AvailabilityZones" not in fields(WEB)
    assert fields(WEB | {"VPCZoneIdentifier": ""})["AvailabilityZones"] == ["us-east-1a", "us-east-1b"]


def test_a_service_linked_role_of_its_own_is_copied() -> None:
    assert "ServiceLinkedRoleARN" not in fields(WEB)
    own = "arn:aws:iam::1:role/aws-service-role/AWSServiceRoleForAutoScaling_web"
    assert fields(WEB | {"ServiceLinkedRoleARN": own})["ServiceLinkedRoleARN"] == own


def test_a_copy_begins_without_instances_load_balancers_and_protection() -> None:
    made = creation(group("web"), "copy", [("shiftwork:replacement", "d-1")])
    assert [made[key] for key in ("MinSize", "MaxSize", "DesiredCapacity")] == [0, 6, 0]
    assert not {"TargetGroupARNs", "LoadBalancerNames", "DeletionProtection", "Instances", "EnabledMetrics"} & set(made)
    assert {tag["Key"] for tag in made["Tags"]} == {"Role", "Owner", "shiftwork:replacement"}


def test_subnets_in_another_order_are_the_same() -> None:
    assert differing(WEB, WEB | {"VPCZoneIdentifier": "subnet-a,subnet-b"}) == []
    assert differing(WEB, WEB | {"VPCZoneIdentifier": "subnet-a", "DefaultCooldown": 0}) == [
        "DefaultCooldown",
        "VPCZoneIdentifier",
    ]


def test_parts_that_come_late_and_parts_that_no_call_can_copy() -> None:
    own = {"LifecycleHookName": "shiftwork-launch", "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING"}
    found = parts(group("web"), Attached([CPU, PER_TARGET, STEPS], hooks=[own, HOOK]), "copy")
    assert [name for name, part in found.items() if part.late] == ["scaling policy requests", "warm pool"]
    assert [name for name, part in found.items() if not part.operation] == ["alarm busy of scaling policy steps"]
    assert "lifecycle hook shiftwork-launch" not in found
    assert found["scaling policy requests"].parameters["Enabled"] is False
    assert {part.parameters.get("AutoScalingGroupName", "copy") for part in found.values() if part.operation} == {
        "copy"
    }


def test_a_pool_that_goes_is_not_copied() -> None:
    assert "warm pool" not in parts(WEB | {"WarmPoolConfiguration": {"Status": "PendingDelete"}}, Attached(), "copy")
