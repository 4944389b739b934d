"""Services of a stand-in for AWS whose tasks are in this process, and what stands there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import answering
from tests.system import aws_world
from tests.system.aws_world import Aws, Home

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_coordinator.demo import service_stage
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.lab.aws import service_sample
from shiftwork_coordinator.lab.aws.balancing import forwarding, health
from shiftwork_coordinator.lab.aws.containers import scheduler
from shiftwork_coordinator.lab.aws.containers.task import STOPPED
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.aws.service_sample import CLUSTER, Made
from shiftwork_coordinator.model.settings import Ecs, FunctionHooks, Limits
from shiftwork_coordinator.operations import create_deployment

LIMITS = Limits(steady_within=30, allow_within=20)
DEFECT, SICK, CRASHES = ([{"name": name, "value": "yes"}] for name in ("DEFECT", "SICK", "CRASHES"))
AT_FIRST = {"primary": ["1"], "others": [], "green": [0, 0], "suspended": [], "noted": False, "tasks": 1}
AT_THE_END = AT_FIRST | {"primary": ["2"], "green": [100, 100]}


class Cloud:
    """`aws` is the stand-in; `made` the service, as far as made."""

    def __init__(self, aws: Aws) -> None:
        self.aws, self.standin = aws, aws.standin
        self._numbers = itertools.count(1)
        self.made: Made

    async def make(self, **second: Any) -> Made:
        """A service of one task, whose v2 is as `second` says; v1 is steady."""
        self.made = await self.another("catalog", **second)
        self.standin.recording.clear()
        return self.made

    async def another(self, name: str = "", **second: Any) -> Made:
        name = name or f"copy-{next(self._numbers)}-of"
        made = await asyncio.to_thread(service_sample.make, self.aws.lab, name, desired=1, **second)
        first = self.standin.scheduler.sets[made.first]
        await aws_world.until(lambda: self.standin.scheduler.steady(first))
        return made

    async def forget(self, made: Made) -> None:
        """Nothing of it costs anything any more."""
        for listener in (made.listener, made.test_listener):
            await self.standin.balancing.router.remove(listener)

    @property
    def url(self) -> str:
        return self.standin.balancing.routes()[self.made.listener]

    def calls(self, made: Made | None = None) -> list[Recorded]:
        """The coordinator's about this service."""
        made = made or self.made
        return [call for call in self.aws.calls() if made.service in str(call.parameters)]

    def done(self, made: Made | None = None) -> list[str]:
        """What the coordinator changed and whom it asked, in order, in short; what it read is left out."""
        made = made or self.made
        return [_short(call, made) for call in self.calls(made) if not call.operation.startswith(READS)]

    async def stands(self, made: Made | None = None) -> dict[str, Any]:
        """Once whatever was deleted is gone: definitions of primary and others, the second group's shares in percent
        of main and test listener, what is suspended, whether a note was left, how many tasks there are."""
        made = made or self.made
        sets = [one for one in self.standin.scheduler.sets.values() if one.service == made.service]
        await aws_world.until(lambda: all(t.status == STOPPED for s in sets if s.deleted for t in s.tasks))
        return await asyncio.to_thread(self._stands, made)

    def _stands(self, made: Made) -> dict[str, Any]:
        service = service_stage.service(self.aws.lab, made)
        told = [(one["status"], one["taskDefinition"].rpartition(":")[2]) for one in service["taskSets"]]
        balanced = self.aws.client("elbv2").describe_listeners(ListenerArns=[made.listener, made.test_listener])
        shares = {one["ListenerArn"]: _share(one["DefaultActions"], made) for one in balanced["Listeners"]}
        scaling = self.aws.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[f"service/{CLUSTER}/{made.service}"]
        )["ScalableTargets"][0]
        return {
            "primary": [number for status, number in told if status == "PRIMARY"],
            "others": [number for status, number in told if status != "PRIMARY"],
            "green": [shares[made.listener], shares[made.test_listener]],
            "suspended": sorted(key for key, value in (scaling.get("SuspendedState") or {}).items() if value),
            "noted": any(tag["key"] == service_stage.NOTE for tag in service.get("tags") or ()),
            "tasks": service["runningCount"] + service["pendingCount"],
        }


READS = ("Describe", "List")


def _share(actions: Any, made: Made) -> int:
    weights = forwarding.weights(actions[-1])
    return round(100 * weights.get(made.groups[1], 0) / sum(weights.values()))


def _short(call: Recorded, made: Made) -> str:
    given = call.parameters
    if call.operation == "ModifyListener":
        which = "main" if given["ListenerArn"] == made.listener else "test"
        return f"ModifyListener {which} {_share(given['DefaultActions'], made)}%"
    if call.operation == "RegisterScalableTarget":
        return f"RegisterScalableTarget {sum(map(bool, given['SuspendedState'].values()))} suspended"
    if call.operation == "CreateTaskSet":
        return f"CreateTaskSet {given['taskDefinition'].rpartition(':')[2]}"
    return str(call.operation)


async def deploy(home: Home, made: Made, **options: Any) -> str:
    asked = CreateDeployment("fn", "live", **({"task_definition": made.definitions[1]} | options))
    return (await create_deployment(home.coordinator, asked, "tester")).id


async def group(home: Home, made: Made, **settings: Any) -> None:
    """Its group, tested on the test listener unless `settings` say otherwise."""
    ecs = Ecs(CLUSTER, made.service, (Pair(made.groups, made.listener, test_listener=made.test_listener),))
    hooks = FunctionHooks(after_allow_test_traffic=made.hook)
    await home.group(**({"config": "ECSAllAtOnce", "ecs": ecs, "hooks": hooks, "limits": LIMITS} | settings))


@asynccontextmanager
async def cloud(moto_url: str, directory: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with aws_world.aws(moto_url, directory, patch, answering.start) as found:
        found.standin.balancing.targets.settings = health.Settings(check_every=0.05)
        found.standin.scheduler.settings = scheduler.Settings(start_after=0.0, again_after=0.02, grace=60.0)
        yield Cloud(found)
