"""AppSpec files of the ECS platform, as they are found in the wild."""

from __future__ import annotations

import pytest

from shiftwork_contract.appspec_ecs import Capacity, EcsAppSpec, Network, parse_ecs
from shiftwork_contract.errors import AppSpecError

YAML = """
version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: "arn:aws:ecs:us-east-1:111222333444:task-definition/web:2"
        LoadBalancerInfo:
          ContainerName: "web"
          ContainerPort: 8080
        PlatformVersion: "LATEST"
        NetworkConfiguration:
          AwsvpcConfiguration:
            Subnets: ["subnet-1","subnet-2"]
            SecurityGroups: ["sg-1"]
            AssignPublicIp: "ENABLED"
        CapacityProviderStrategy:
          - Base: 1
            CapacityProvider: "FARGATE_SPOT"
            Weight: 2
Hooks:
  - BeforeInstall: "before-install"
  - AfterAllowTestTraffic: "after-test"
"""
SPEC = EcsAppSpec(
    "arn:aws:ecs:us-east-1:111222333444:task-definition/web:2",
    "web",
    8080,
    "LATEST",
    Network(("subnet-1", "subnet-2"), ("sg-1",), "ENABLED"),
    (Capacity("FARGATE_SPOT", 2, 1),),
    {"BeforeInstall": "before-install", "AfterAllowTestTraffic": "after-test"},
)
JSON = """{"version": 1, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties":
 {"TaskDefinition": "web:2", "LoadBalancerInfo": {"ContainerName": "web", "ContainerPort": 80}}}}]}"""


def test_all_of_it_is_read() -> None:
    assert parse_ecs(YAML) == SPEC


def test_names_of_any_case_are_read() -> None:
    lower = YAML.replace("TaskDefinition:", "taskDefinition:").replace("ContainerPort", "containerPort")
    assert parse_ecs(lower.replace("Resources", "resources")) == SPEC


def test_options_without_a_value_are_not_there_and_a_port_may_be_quoted() -> None:
    """As templates leave them whose comments say what might be filled in."""
    text = """---
version: "0.0"
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: <TASK_DEFINITION> # filled in by the pipeline
        LoadBalancerInfo: {ContainerName: "web", ContainerPort: "8080"}
        PlatformVersion:
        NetworkConfiguration:
        CapacityProviderStrategy:
#         - Base: 1
Hooks:
# - BeforeInstall: "before-install"
"""
    assert parse_ecs(text) == EcsAppSpec("<TASK_DEFINITION>", "web", 8080)
    with pytest.raises(AppSpecError, match="needs `loadbalancerinfo`"):
        parse_ecs(text.replace("{ContainerName:", "# {ContainerName:"))


def test_the_shortest_one_as_json() -> None:
    assert parse_ecs(JSON.replace('"version": 1', '"version": 0.0')) == EcsAppSpec("web:2", "web", 80)


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("version: 0.0", "version: 1", "`version` must be 0.0"),
        ("AWS::ECS::Service", "AWS::ECS::Task", "must be AWS::ECS::Service"),
        ("ContainerPort: 8080", "ContainerPort: 70000", "at most 65535, not '70000'"),
        ("ContainerPort: 8080", "ContainerPort: web", "must be a number"),
        ('          ContainerName: "web"\n', "", "needs `containername`"),
        ('"ENABLED"', '"YES"', "ENABLED or DISABLED"),
        ("BeforeInstall:", "ValidateService:", "`ValidateService` is no hook here"),
        ('            Subnets: ["subnet-1","subnet-2"]\n', "", "needs `subnets`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(wrong: str, right: str, expected: str) -> None:
    assert wrong in YAML
    with pytest.raises(AppSpecError, match=r"appspec\.yml:\d+:\d+:") as found:
        parse_ecs(YAML.replace(wrong, right))
    assert expected in str(found.value)


def test_two_services_are_refused() -> None:
    start, end = YAML.index("  - TargetService"), YAML.index("Hooks:")
    with pytest.raises(AppSpecError, match="must name one service, not 2"):
        parse_ecs(YAML.replace("Hooks:", YAML[start:end] + "Hooks:"))
