"""Services of AWS's stand-in by themselves: tasks that run, become steady in their time or never, and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import pytest

from shiftwork_coordinator.lab.aws import service_sample
from shiftwork_coordinator.lab.aws.balancing import health
from shiftwork_coordinator.lab.aws.containers.scheduler import Settings
from shiftwork_coordinator.lab.aws.sample import client
from shiftwork_coordinator.lab.aws.service_sample import CLUSTER, CONTAINER, PORT, Made
from shiftwork_coordinator.lab.aws.standin import StandIn, running
from shiftwork_coordinator.lab.plan import Lab

COUNTS = ("runningCount", "pendingCount", "computedDesiredCount", "stabilityStatus")


async def thread(work: Any, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(work, *args, **kwargs)


class Shop:
    def __init__(self, standin: StandIn, lab: Lab) -> None:
        self.standin, self.lab = standin, lab
        self.ecs = client(lab, "ecs")
        self.made: Made

    async def open(self, **second: Any) -> None:
        self.made = await thread(service_sample.make, self.lab, **second)
        await self.until(lambda: self.steady(self.made.first))

    def steady(self, arn: str) -> bool:
        return self.standin.scheduler.steady(self.standin.scheduler.sets[arn])

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not done():
                await asyncio.sleep(0.02)

    async def second(self, **more: Any) -> str:
        """A task set of v2 in the second target group, which has come behind the listener."""
        blue, green = self.made.groups
        shares = [{"TargetGroupArn": blue, "Weight": 1}, {"TargetGroupArn": green, "Weight": 0}]
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}
        elb = client(self.lab, "elbv2")
        await thread(elb.modify_listener, ListenerArn=self.made.listener, DefaultActions=[action])
        return str((await thread(self.ecs.create_task_set, **self.wanted(**more)))["taskSet"]["taskSetArn"])

    def wanted(self, **more: Any) -> dict[str, Any]:
        entry = {"targetGroupArn": self.made.groups[1], "containerName": CONTAINER, "containerPort": PORT}
        return {
            "cluster": CLUSTER, "service": "catalog", "taskDefinition": self.made.definitions[1],
            "launchType": "FARGATE", "externalId": "v2", "loadBalancers": [entry], **more,
        }  # fmt: skip

    async def sets(self) -> dict[str, tuple[Any, ...]]:
        told = await thread(self.ecs.describe_services, cluster=CLUSTER, services=["catalog"])
        return {one["taskSetArn"]: tuple(one[key] for key in COUNTS) for one in told["services"][0]["taskSets"]}

    async def tasks(self, status: str = "RUNNING") -> list[Any]:
        about = {"cluster": CLUSTER, "serviceName": "catalog", "desiredStatus": status}
        arns = (await thread(self.ecs.list_tasks, **about))["taskArns"]
        return (await thread(self.ecs.describe_tasks, cluster=CLUSTER, tasks=arns))["tasks"] if arns else []

    async def version(self, listener: str) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.standin.balancing.routes()[listener]) as got,
        ):
            return got.headers.get("X-Version", str(got.status))

    async def refused(self, work: Any, **parameters: Any) -> str:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            await thread(work, **parameters)
        return str(caught.value.response["Error"]["Code"])


@pytest.fixture
async def shop(aws: Any, tmp_path: Path) -> AsyncIterator[Shop]:
    from shiftwork_coordinator.lab.ports import free_ports

    port = free_ports(1)[0]
    async with running(aws.url, tmp_path, port, seed=7) as found:
        found.balancing.targets.settings = health.Settings(check_every=0.05)
        found.scheduler.settings = Settings(start_after=0.0, again_after=0.05, grace=60.0)
        yield Shop(found, Lab("test", "process", tmp_path, {"aws": port}, (), aws=True))


async def test_a_second_task_set_becomes_steady_takes_traffic_and_the_first_drains(shop: Shop) -> None:
    await shop.open(desired=1)
    assert await shop.version(shop.made.listener) == "v1"
    second = await shop.second(clientToken="once")
    assert (await shop.sets())[second][3] == "STABILIZING"
    again = await thread(shop.ecs.create_task_set, **shop.wanted(clientToken="once"))
    assert again["taskSet"]["taskSetArn"] == second
    await shop.until(lambda: shop.steady(second))
    assert await shop.sets() == dict.fromkeys((shop.made.first, second), (1, 0, 1, "STEADY_STATE"))
    elb = client(shop.lab, "elbv2")
    forward = [{"Type": "forward", "TargetGroupArn": shop.made.groups[1]}]
    await thread(elb.modify_listener, ListenerArn=shop.made.listener, DefaultActions=forward)
    assert [await shop.version(one) for one in (shop.made.listener, shop.made.test_listener)] == ["v2", "v1"]
    about = {"cluster": CLUSTER, "service": "catalog"}
    assert await shop.refused(shop.ecs.delete_task_set, taskSet=shop.made.first, force=True, **about) == (
        "InvalidParameterException"
    )
    short = second.partition("catalog/")[2]
    await thread(shop.ecs.update_service_primary_task_set, primaryTaskSet=short, **about)
    assert await shop.refused(shop.ecs.delete_task_set, taskSet=shop.made.first, **about) == "InvalidParameterException"
    await thread(shop.ecs.delete_task_set, taskSet=shop.made.first, force=True, **about)
    told = await thread(shop.ecs.describe_services, cluster=CLUSTER, services=["catalog"])
    assert [one["status"] for one in told["services"][0]["taskSets"]] == ["PRIMARY", "DRAINING"]
    await shop.until(lambda: all(t.status == "STOPPED" for t in shop.standin.scheduler.sets[shop.made.first].tasks))
    (gone,) = await shop.tasks("STOPPED")
    assert gone["stoppedReason"].startswith("Scaling activity initiated by")
    assert gone["containers"][0]["exitCode"] == 0, "it has finished what was in flight"
    assert list(await shop.sets()) == [second]


async def test_tasks_that_end_are_started_again_and_tell_why(shop: Shop) -> None:
    await shop.open(desired=1, command=["sh", "-c", "exit 3"])
    second = await shop.second()
    one = shop.standin.scheduler.sets[second]
    await shop.until(lambda: one.count("STOPPED") >= 3)
    assert (await shop.sets())[second][3] == "STABILIZING"
    stopped = await shop.tasks("STOPPED")
    assert {(task["startedBy"], task["stopCode"]) for task in stopped} == {(one.id, "EssentialContainerExited")}
    assert {task["containers"][0]["exitCode"] for task in stopped} == {3}


async def test_a_task_whose_program_is_not_there_and_one_that_is_never_healthy(shop: Shop) -> None:
    await shop.open(desired=1, command=["/no/such/program"])
    second = shop.standin.scheduler.sets[await shop.second()]
    await shop.until(lambda: bool(second.count("STOPPED")))
    assert (await shop.tasks("STOPPED"))[0]["stopCode"] == "TaskFailedToStart"
    first = shop.standin.scheduler.sets[shop.made.first]
    shop.standin.scheduler.settings = Settings(again_after=0.05, grace=0.0)
    shop.standin.balancing.targets.settings = health.Settings(check_every=0.05, sick=(first.tasks[0].address,))
    await shop.until(lambda: bool(first.count("STOPPED")))
    shop.standin.scheduler.settings = Settings(again_after=0.05, grace=60.0)
    assert "Task failed ELB health checks in (target-group" in first.tasks[0].described()["stoppedReason"]
    await shop.until(lambda: shop.steady(shop.made.first))


async def test_tasks_that_never_start_and_scaling(shop: Shop) -> None:
    await shop.open(desired=1)
    shop.standin.scheduler.settings = Settings(start_after=-1, grace=60.0)
    second = await shop.second()
    assert (await shop.sets())[second] == (0, 1, 1, "STABILIZING")
    shop.standin.scheduler.settings = Settings(start_after=0, grace=60.0)
    await thread(shop.ecs.update_service, cluster=CLUSTER, service="catalog", desiredCount=3)
    await shop.until(lambda: shop.steady(shop.made.first))
    assert (await shop.sets())[shop.made.first] == (3, 0, 3, "STEADY_STATE")
    half = {"unit": "PERCENT", "value": 50.0}
    await thread(shop.ecs.update_task_set, cluster=CLUSTER, service="catalog", taskSet=shop.made.first, scale=half)
    assert (await shop.sets())[shop.made.first][2] == 2
    task = (await shop.tasks())[0]
    await thread(shop.ecs.stop_task, cluster=CLUSTER, task=task["taskArn"])
    await shop.until(lambda: any(t.why and t.why[0] == "UserInitiated" for t in shop.standin.scheduler.tasks()))


async def test_what_aws_refuses_is_refused(shop: Shop) -> None:
    await shop.open(desired=1)
    assert await shop.refused(shop.ecs.create_task_set, **shop.wanted()) == "InvalidParameterException"
    await thread(
        shop.ecs.create_service, cluster=CLUSTER, serviceName="other", deploymentController={"type": "CODE_DEPLOY"}
    )
    assert await shop.refused(shop.ecs.create_task_set, **shop.wanted(service="other")) == "InvalidParameterException"
    about = {"cluster": CLUSTER, "service": "catalog"}
    assert await shop.refused(shop.ecs.delete_task_set, taskSet="ecs-svc/7", **about) == "TaskSetNotFoundException"
    missing = await shop.refused(shop.ecs.update_service_primary_task_set, primaryTaskSet="ecs-svc/7", **about)
    assert missing == "TaskSetNotFoundException"
