"""What moto lacks of ECS: task sets whose tasks run, become steady in their time or never, and are found healthy or not
by the load balancers they are behind.

moto keeps clusters, services, task definitions and the records of task sets. Task sets are for services with the
EXTERNAL deployment controller, as with AWS; services of another kind stay records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.containers.scheduler import Scheduler
from shiftwork_coordinator.lab.aws.containers.task import (
    DEACTIVATING,
    PENDING,
    RUNNING,
    STOPPED,
    Described,
    Task,
    TaskSet,
    container,
)
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handler, Handlers, Pass, answer, refusal
from shiftwork_coordinator.lab.aws.moto import Moto

TARGET = "AmazonEC2ContainerServiceV20141113."
INVALID = "InvalidParameterException"


class Services:
    def __init__(self, moto: Moto, scheduler: Scheduler, balancing: Balancing) -> None:
        self._moto, self._scheduler, self._balancing = moto, scheduler, balancing

    def handlers(self) -> Handlers:
        mine: dict[str, Handler] = {
            "CreateTaskSet": self.create,
            "UpdateTaskSet": self.scale,
            "UpdateServicePrimaryTaskSet": self.promote,
            "DeleteTaskSet": self.delete,
            "DescribeTaskSets": self.describe_sets,
            "DescribeServices": self.describe_services,
            "UpdateService": self.update_service,
            "DeleteService": self.delete_service,
            "ListTasks": self.list_tasks,
            "DescribeTasks": self.describe_tasks,
            "StopTask": self.stop_task,
        }
        return {("ecs", name): handler for name, handler in mine.items()}

    def _sets(self, asked: Asked) -> list[TaskSet]:
        """Those of the service that a call is about."""
        given = asked.call.parameters
        cluster, service = _short(given.get("cluster", "default")), _short(given.get("service", ""))
        return [s for s in self._scheduler.sets.values() if _short(s.cluster) == cluster and s.service == service]

    # Task sets

    async def create(self, asked: Asked, moto: Pass) -> Answer:
        given, token = asked.call.parameters, str(asked.call.parameters.get("clientToken", ""))
        before = next((s for s in self._sets(asked) if token and s.token == token), None)
        if before is not None:
            return answer({"taskSet": self._told(before)})
        try:
            service = await self._service(given.get("cluster", "default"), given["service"])
        except Unavailable:
            return await moto(asked)
        if refused := self._wrong(service, given):
            return refused
        answered = await moto(_changed(asked, scale=None))  # moto would make records of tasks that never run
        if not answered.fine:
            return answered
        made = await self._made(answered.read()["taskSet"], service, given)
        self._scheduler.add(made)
        return answer({"taskSet": self._told(made)})

    def _wrong(self, service: Described, given: Mapping[str, Any]) -> Answer | None:
        controller = (service.get("deploymentController") or {}).get("type", "ECS")
        if controller != "EXTERNAL":
            return refusal(INVALID, f"Unable to create task sets for the deployment controller {controller}.")
        for entry in given.get("loadBalancers") or ():
            if not self._balancing.in_use(entry["targetGroupArn"]):
                text = f"The target group {entry['targetGroupArn']} does not have an associated load balancer."
                return refusal(INVALID, text)
        return None

    async def _made(self, described: Described, service: Described, given: Mapping[str, Any]) -> TaskSet:
        balanced = [entry for entry in given.get("loadBalancers") or () if "targetGroupArn" in entry]
        name = described["taskDefinition"]
        told = await self._moto.json_call("ecs", f"{TARGET}DescribeTaskDefinition", {"taskDefinition": name})
        return TaskSet(
            described, container(told["taskDefinition"], next(iter(balanced), None)),
            tuple((entry["targetGroupArn"], int(entry["containerPort"])) for entry in balanced),
            str(given.get("clientToken", "")), given.get("scale") or {"value": 100.0, "unit": "PERCENT"},
            int(service["desiredCount"]), float(service.get("healthCheckGracePeriodSeconds") or 0),
        )  # fmt: skip

    async def _service(self, cluster: str, name: str) -> Described:
        """Raises Unavailable when it is not there."""
        parameters = {"cluster": cluster, "services": [name]}
        found = await self._moto.json_call("ecs", f"{TARGET}DescribeServices", parameters)
        if not found.get("services"):
            raise Unavailable(f"cannot find service {name} of cluster {cluster}")
        told: Described = found["services"][0]
        return told

    async def scale(self, asked: Asked, moto: Pass) -> Answer:
        one = self._named(asked, "taskSet")
        if one is None:
            return await moto(asked)
        one.scale = asked.call.parameters["scale"]
        self._scheduler.adjust(one)
        return answer({"taskSet": self._told(one)})

    async def promote(self, asked: Asked, moto: Pass) -> Answer:
        one = self._named(asked, "primaryTaskSet")
        if one is None:
            return _missing(asked, "primaryTaskSet")
        answered = await moto(_changed(asked, primaryTaskSet=one.arn))
        if not answered.fine:
            return answered
        for each in self._sets(asked):
            each.described = {**each.described, "status": "PRIMARY" if each is one else "ACTIVE"}
        return answer({"taskSet": self._told(one)})

    async def delete(self, asked: Asked, moto: Pass) -> Answer:
        one = self._named(asked, "taskSet")
        if one is None:
            return _missing(asked, "taskSet")
        if one.described["status"] == "PRIMARY":
            return refusal(INVALID, "The primary task set cannot be deleted.")
        if one.wanted and not asked.call.parameters.get("force"):
            return refusal(INVALID, "The task set is not scaled down to zero; use force.")
        answered = await moto(_changed(asked, taskSet=one.arn))
        if answered.fine:
            self._end(one)
        return answer({"taskSet": self._told(one)}) if answered.fine else answered

    def _end(self, one: TaskSet) -> None:
        one.deleted, one.described = True, {**one.described, "status": "DRAINING"}
        self._scheduler.adjust(one)

    def _named(self, asked: Asked, key: str) -> TaskSet | None:
        """By its ARN, or by its id."""
        wanted = asked.call.parameters.get(key)
        return next((s for s in self._sets(asked) if not s.deleted and wanted in (s.arn, s.id)), None)

    def _told(self, one: TaskSet) -> dict[str, Any]:
        steady = self._scheduler.steady(one)
        return {
            **one.described, "scale": one.scale, "computedDesiredCount": one.wanted,
            "runningCount": one.count(RUNNING) + one.count(DEACTIVATING), "pendingCount": one.count(PENDING),
            "stabilityStatus": "STEADY_STATE" if steady else "STABILIZING",
        }  # fmt: skip

    async def describe_sets(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if not answered.fine:
            return answered
        told = answered.read()
        told["taskSets"] = [self._filled(found) for found in told.get("taskSets", ())]
        return answer(told)

    def _filled(self, found: Described) -> Described:
        one = self._scheduler.sets.get(str(found["taskSetArn"]))
        return {**found, **self._told(one), "status": found["status"]} if one else found

    # Services

    async def describe_services(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if not answered.fine:
            return answered
        told = answered.read()
        told["services"] = [self._described(service) for service in told.get("services", ())]
        return answer(told)

    def _described(self, service: dict[str, Any]) -> dict[str, Any]:
        mine = [s for s in self._scheduler.sets.values() if s.described["serviceArn"] == service["serviceArn"]]
        if not mine:
            return service
        sets = [*map(self._filled, service.get("taskSets", ())), *map(self._told, filter(_draining, mine))]
        counts = {key: sum(int(one.get(key) or 0) for one in sets) for key in ("runningCount", "pendingCount")}
        return {**service, **counts, "taskSets": sets}

    async def update_service(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            for one in self._sets(asked):
                one.desired = int(answered.read()["service"]["desiredCount"])
                self._scheduler.adjust(one)
        return answered

    async def delete_service(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            for one in self._sets(asked):
                self._end(one)
        return answered

    # Tasks

    async def list_tasks(self, asked: Asked, moto: Pass) -> Answer:
        given = asked.call.parameters
        if "serviceName" not in given or not (sets := self._sets(_changed(asked, service=given["serviceName"]))):
            return await moto(asked)
        wanted = given.get("desiredStatus", RUNNING)
        tasks = (task.described() for one in sets for task in one.tasks)
        return answer({"taskArns": [told["taskArn"] for told in tasks if told["desiredStatus"] == wanted]})

    async def describe_tasks(self, asked: Asked, moto: Pass) -> Answer:
        found = list(self._tasks(asked.call.parameters.get("tasks") or ()))
        return answer({"tasks": [task.described() for task in found], "failures": []}) if found else await moto(asked)

    async def stop_task(self, asked: Asked, moto: Pass) -> Answer:
        found = next(iter(self._tasks([str(asked.call.parameters["task"])])), None)
        if found is None:
            return await moto(asked)
        self._scheduler.stop(found, "UserInitiated", str(asked.call.parameters.get("reason", "Task stopped by user")))
        return answer({"task": found.described()})

    def _tasks(self, named: Iterable[str]) -> Iterable[Task]:
        wanted = {name.rpartition("/")[2] for name in named}
        return (task for task in self._scheduler.tasks() if task.arn.rpartition("/")[2] in wanted)


def _draining(one: TaskSet) -> bool:
    return one.deleted and any(task.status != STOPPED for task in one.tasks)


def _missing(asked: Asked, key: str) -> Answer:
    return refusal("TaskSetNotFoundException", f"Task set {asked.call.parameters.get(key)} was not found.")


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _changed(asked: Asked, **parameters: Any) -> Asked:
    """The same call with other parameters; None = without."""
    told = {key: value for key, value in {**asked.call.parameters, **parameters}.items() if value is not None}
    return asked._replace(call=type(asked.call)(asked.call.service, asked.call.operation, told),
                          body=json.dumps(told).encode())  # fmt: skip
