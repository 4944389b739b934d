"""`shiftwork ecs init`, and what `deploy` takes for a service."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from shiftwork_coordinator.shifters import asking

ARN = "arn:aws:ecs:us-east-1:1:"
BLUE, LISTENER = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/blue/1", "arn:listener"
SERVICE = {
    "serviceArn": ARN + "service/prod/web", "clusterArn": ARN + "cluster/prod", "status": "ACTIVE", "desiredCount": 3,
    "deploymentController": {"type": "ECS"}, "taskDefinition": ARN + "task-definition/web:7", "launchType": "FARGATE",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}, "propagateTags": "NONE",
    "loadBalancers": [{"targetGroupArn": BLUE, "containerName": "app", "containerPort": 80}],
    "tags": [{"key": "team", "value": "shop"}, {"key": "aws:cloudformation:stack-name", "value": "x"}],
    "enableExecuteCommand": False,
}  # fmt: skip


class Aws:
    """Answers reads, and knows nothing else: a call that changes something is an error."""

    def __init__(self) -> None:
        self.service: dict[str, Any] = dict(SERVICE)
        self.rules: list[Any] = []
        self.actions: list[Any] = [{"Type": "forward", "TargetGroupArn": BLUE}]

    async def ask(self, service: str, operation: str, /, **parameters: Any) -> Any:
        return {
            "describe_services": {"services": [self.service] if parameters.get("services") == ["web"] else []},
            "describe_target_groups": {"TargetGroups": [{"LoadBalancerArns": ["arn:lb"]}]},
            "describe_listeners": {"Listeners": [{"ListenerArn": LISTENER, "DefaultActions": self.actions}]},
            "describe_rules": {"Rules": self.rules},
            "describe_scalable_targets": {"ScalableTargets": [{"SuspendedState": {}}]},
        }[operation]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Aws:
    found = Aws()
    monkeypatch.setattr(asking, "of", lambda at: found.ask)
    return found


async def test_a_rolling_service_becomes_an_external_one_on_paper(cli, account):
    ran = await cli("ecs", "init", "prod/web", "--output", "json")
    told = json.loads(ran.out)
    assert ran.code == 0
    assert told["createService"] == {
        "cluster": "prod", "serviceName": "web-external", "deploymentController": {"type": "EXTERNAL"},
        "desiredCount": 3, "tags": [{"key": "team", "value": "shop"}],
    }  # fmt: skip
    assert told["createTaskSet"] == {
        "cluster": "prod", "service": "web-external", "taskDefinition": SERVICE["taskDefinition"],
        "networkConfiguration": SERVICE["networkConfiguration"], "launchType": "FARGATE",
        "loadBalancers": SERVICE["loadBalancers"], "scale": {"unit": "PERCENT", "value": 100.0},
    }  # fmt: skip
    pair = {"target_groups": [BLUE, "SECOND-TARGET-GROUP"], "listener": LISTENER}
    ecs = {"cluster": "prod", "service": "web-external", "load_balancers": [pair]}
    assert told["group"]["ecs"] == ecs
    assert any("register the new service as a scalable target" in note for note in told["notes"])


async def test_the_inputs_are_what_aws_takes(cli, account):
    from botocore.session import get_session
    from botocore.validate import validate_parameters

    told = json.loads((await cli("ecs", "init", "prod/web", "--output", "json")).out)
    model = get_session().get_service_model("ecs")
    validate_parameters(told["createService"], model.operation_model("CreateService").input_shape)
    validate_parameters(told["createTaskSet"], model.operation_model("CreateTaskSet").input_shape)


async def test_the_text_says_what_to_do_in_order_and_its_group_is_yaml(cli, account):
    ran = await cli("ecs", "init", "prod/web", "--name", "shop")
    steps = ["Nothing has been changed", "1. service.json", "2. task-set.json", "3. aws ecs update-service-primary"]
    assert [ran.out.index(step) for step in steps] == sorted(ran.out.index(step) for step in steps)
    text = ran.out[ran.out.index("application:") : ran.out.index("# 5.")]
    assert yaml.safe_load(text)["groups"]["live"]["ecs"]["service"] == "shop"


async def test_a_rule_is_found_and_what_is_not_found_is_said(cli, account):
    account.actions = [{"Type": "fixed-response"}]
    account.rules = [{"RuleArn": "arn:rule", "Actions": [{"Type": "forward", "TargetGroupArn": BLUE}]}]
    told = json.loads((await cli("ecs", "init", "prod/web", "--output", "json")).out)
    assert told["group"]["ecs"]["load_balancers"][0]["rule"] == "arn:rule"
    account.rules = []
    assert "no listener was found that forwards to" in (await cli("ecs", "init", "prod/web")).out
    account.service["loadBalancers"] = []
    assert "Shiftwork cannot shift its traffic" in (await cli("ecs", "init", "prod/web")).out


async def test_a_service_that_is_not_there_and_a_name_that_is_none(cli, account):
    ran = await cli("ecs", "init", "prod/typo")
    assert (ran.code, "cannot read service typo of cluster prod" in ran.err) == (2, True)
    assert (await cli("ecs", "init", "web")).code == 2


async def test_a_task_definition_is_deployed_instead_of_an_appspec(fake, cli):
    fake.on("POST", "/v1/deployments", {"deploymentId": "d-4K7Q2M9XA", "status": "Created"}, 201)
    await cli("deploy", "shop/live", "--task-definition", "web:42", "--no-wait")
    sent = fake.bodies("POST", "/v1/deployments")[0]
    assert sent == {"application": "shop", "group": "live", "taskDefinition": "web:42"}
    ran = await cli("deploy", "shop/live", "--task-definition", "web:42", "--revision", "sha256:ab")
    assert (ran.code, "goes without --revision" in ran.err) == (2, True)
