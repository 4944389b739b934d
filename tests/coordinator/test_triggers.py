"""Triggers: what topics are told, in CodeDeploy's shape, and that no deployment suffers from one that is away."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.resource import ScalingGroup
from shiftwork_contract.revision import Revision
from shiftwork_coordinator.checking import MOST_TRIGGERS, check_triggers
from shiftwork_coordinator.model.config import DeploymentConfig, MinimumHealthyHosts
from shiftwork_coordinator.model.rows import Deployment, History, LifecycleEventRow, Target
from shiftwork_coordinator.model.settings import Aws, GroupSettings, Trigger
from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.notify.messages import Notice, notices
from shiftwork_coordinator.notify.sns import Sns
from shiftwork_coordinator.shell import notifying

TOPIC = "arn:aws:sns:us-east-2:111222333444:ops"
ALL = ("DeploymentStart", "DeploymentSuccess", "DeploymentFailure", "DeploymentStop", "DeploymentRollback")
ALL += ("DeploymentReady", "InstanceStart", "InstanceSuccess", "InstanceFailure", "InstanceReady")


def deployment(events: tuple[str, ...] = ALL, **fields: Any) -> Deployment:
    settings = GroupSettings(triggers=(Trigger("ops", TOPIC, events),))  # type: ignore[arg-type]
    config = DeploymentConfig("c", MinimumHealthyHosts("HOST_COUNT", 0))
    given = {"started_at": 5.0, "completed_at": 9.0} | fields
    return Deployment("d-1", 1, "web", "live", "g", Revision("sha256:a", "x:"), config, settings, 0.0, **given)


def told(row: Deployment, *lines: tuple[str, str, str], events: Any = None) -> list[tuple[str, dict[str, Any]]]:
    targets = {
        "web-1": Target("d-1", "web-1", cloud_id="i-00000001", status=TargetStatus.SUCCEEDED),
        "autoscaling:a": Target("d-1", "autoscaling:a", role="fleet", resource=ScalingGroup("autoscaling:a", "a")),
    }
    rows = [History("d-1", 5.0, kind, target, {"status": status}) for kind, target, status in lines]
    return [(n.subject.split()[0], json.loads(n.message)) for n in notices(row, targets, rows, events or {})]


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("InProgress", "DeploymentStart"),
        ("Succeeded", "DeploymentSuccess"),
        ("Failed", "DeploymentFailure"),
        ("Stopped", "DeploymentStop"),
        ("Ready", "DeploymentReady"),
    ],
)
def test_what_a_status_is_called(status: str, event: str) -> None:
    [(subject, message)] = told(deployment(), ("deployment", "", status))
    assert (subject, message["status"], message["eventTriggerName"]) == (event, status.upper(), "ops")
    assert (message["region"], message["accountId"]) == ("us-east-2", "111222333444")
    assert json.loads(message["deploymentOverview"])["Succeeded"] == 1, "JSON within JSON; groups do not count"
    assert message["createTime"] == "Thu Jan 01 00:00:00 UTC 1970"


def test_a_rollback_that_starts_is_told_as_one() -> None:
    [(event, message)] = told(deployment(rollback_of="d-0"), ("deployment", "", "InProgress"))
    assert event == "DeploymentRollback"
    assert message["rollbackInformation"] == {"RollbackTriggeringDeploymentId": "d-0"}


def test_going_on_after_a_wait_is_no_second_start() -> None:
    assert told(deployment(started_at=1.0), ("deployment", "", "InProgress")) == []


def test_an_instance_with_its_events() -> None:
    row = LifecycleEventRow("Install", EventStatus.SUCCEEDED, 6.0, 7.5)
    [(event, message)] = told(deployment(), ("target", "web-1", "Succeeded"), events={"web-1": {"Install": row}})
    assert event == "InstanceSuccess"
    assert message["instanceId"] == "arn:aws:ec2:us-east-2:111222333444:instance/i-00000001"
    assert message["lifecycleEvents"] == [
        {"LifecycleEvent": "Install", "LifecycleEventStatus": "Succeeded", "StartTime": "6.000", "EndTime": "7.500"}
    ]


def test_only_what_was_asked_for_and_nothing_of_groups_or_events() -> None:
    lines = [("deployment", "", "Failed"), ("target", "autoscaling:a", "Failed"), ("event", "web-1", "Failed")]
    assert [event for event, _ in told(deployment(), *lines)] == ["DeploymentFailure"]
    assert told(deployment(("DeploymentStop",)), *lines) == []


@pytest.mark.parametrize(
    "wrong",
    [
        [Trigger("a", "ops", ALL)],
        [Trigger("a", TOPIC, ())],
        [Trigger("", TOPIC, ALL)],
        [Trigger("a", TOPIC, ALL), Trigger("a", TOPIC, ALL)],
    ],
)
def test_what_is_refused(wrong: list[Trigger]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_triggers("web/live", wrong)
    assert caught.value.code == "InvalidTriggerConfigException"


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most 10"):
        check_triggers("web/live", [Trigger(str(n), TOPIC, ALL) for n in range(MOST_TRIGGERS + 1)])


async def test_one_that_is_away_keeps_nobody_from_hearing() -> None:
    heard: list[str] = []

    class Topics:
        async def publish(self, topic: str, subject: str, message: str) -> None:
            if topic == "away":
                raise Unavailable("no answer")
            if topic == "bug":
                raise RuntimeError("oops")
            heard.append(subject)

    wanted = [Notice("away", "1", ""), Notice(TOPIC, "2", ""), Notice("bug", "3", ""), Notice(TOPIC, "4", "")]
    await notifying.send(Topics(), wanted)
    assert heard == ["2", "4"]


async def test_a_queue_behind_a_topic_hears_it(aws: Any) -> None:
    import boto3

    queues, topics = boto3.client("sqs"), boto3.client("sns")
    url = queues.create_queue(QueueName="ops")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = topics.create_topic(Name="ops")["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    await Sns(Aws()).publish(topic, "DeploymentFailure web/live d-1", '{"status":"FAILED"}')
    [message] = queues.receive_message(QueueUrl=url)["Messages"]
    body = json.loads(message["Body"])
    assert (body["Subject"], json.loads(body["Message"])) == ("DeploymentFailure web/live d-1", {"status": "FAILED"})
