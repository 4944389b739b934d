"""What moto lacks of Auto Scaling: instances that take their time to come and go, hooks that hold them, processes that
rest, and answers to what it does not know.

moto keeps groups and their settings. While Launch or Terminate rests it is told of no other size than what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handler, Handlers, Pass, query_refusal
from shiftwork_coordinator.lab.aws.fleets import hooks
from shiftwork_coordinator.lab.aws.fleets.launcher import REGISTERS, Launcher
from shiftwork_coordinator.lab.aws.fleets.machine import SERVICE, TERMINATING, Described, Machine, suspended
from shiftwork_coordinator.lab.aws.fleets.waiting import Waits
from shiftwork_coordinator.lab.aws.moto import Moto

QUOTA = 500
SIZES = ("MinSize", "MaxSize", "DesiredCapacity")


class ScalingGroups:
    def __init__(self, moto: Moto, launcher: Launcher, waits: Waits) -> None:
        self._moto, self._launcher, self._waits = moto, launcher, waits

    def handlers(self) -> Handlers:
        mine: dict[str, Handler] = {
            "CreateAutoScalingGroup": self.create,
            "DeleteAutoScalingGroup": self.delete,
            "TerminateInstanceInAutoScalingGroup": self.terminate,
            "UpdateAutoScalingGroup": self.resize,
            "SetDesiredCapacity": self.resize,
            "ResumeProcesses": self.resume,
            "AttachLoadBalancerTargetGroups": self.attach,
            "DetachLoadBalancerTargetGroups": self.detach,
            "DescribeAutoScalingGroups": self.describe,
            "DescribeAutoScalingInstances": self.describe_instances,
            "DescribeNotificationConfigurations": self.no_notifications,
            "DescribeInstanceRefreshes": self.no_refreshes,
            "DescribeAccountLimits": self.limits,
        }
        return {**{(SERVICE, name): handler for name, handler in mine.items()}, **self._waits.handlers()}

    # Sizes

    async def change(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self._launcher.sync()
        return answered

    async def create(self, asked: Asked, moto: Pass) -> Answer:
        """What it is created with waits for the hooks that it is created with."""
        given = asked.call.parameters.get("LifecycleHookSpecificationList") or ()
        try:
            rows = [hooks.whole({**hook, "AutoScalingGroupName": _name(asked)}) for hook in given]
        except InvalidRequest as err:
            return query_refusal(err.code, err.message)
        answered = await moto(asked)
        for row in rows if answered.fine else ():
            self._waits.hooks.put(row)
        await self._launcher.sync()
        return answered

    async def delete(self, asked: Asked, moto: Pass) -> Answer:
        self._launcher.unmet.pop(_name(asked), None)
        answered = await moto(asked)
        if answered.fine:
            self._waits.hooks.forget(_name(asked))
            await self._launcher.sync()
        return answered

    async def terminate(self, asked: Asked, moto: Pass) -> Answer:
        given = asked.call.parameters
        machine = self._launcher.machines.get(given.get("InstanceId", ""))
        if machine is None or machine.goes:
            return query_refusal("ValidationError", f"Instance Id not found - {given.get('InstanceId')}")
        if given.get("ShouldDecrementDesiredCapacity") == "true":
            return await self._without(machine, asked, moto)
        await self._launcher.dismiss(machine)
        return query.answer(SERVICE, asked.call.operation, {"Activity": _activity(machine)})

    async def _without(self, machine: Machine, asked: Asked, moto: Pass) -> Answer:
        """And nothing is launched for it."""
        group, unmet = (await self._launcher.groups(machine.group))[0], self._launcher.unmet
        desired = int(unmet[machine.group] if machine.group in unmet else group["DesiredCapacity"])
        if desired <= group["MinSize"]:
            violates = "Terminating instance without replacement will violate group's min size constraint."
            return query_refusal("ValidationError", f"Currently, desiredSize equals minSize ({desired}). {violates}")
        if machine.group in unmet:
            unmet[machine.group] = desired - 1
        return await self.change(asked, moto)

    async def resize(self, asked: Asked, moto: Pass) -> Answer:
        for group in await self._launcher.groups(_name(asked)):
            wanted = self._wanted(group, asked.call.parameters)
            if (may := _may(group, wanted)) != wanted:
                self._launcher.unmet[_name(asked)] = wanted
                return await self.change(_sized(asked, may), moto)
        self._launcher.unmet.pop(_name(asked), None)
        return await self.change(asked, moto)

    def _wanted(self, group: Described, given: Mapping[str, Any]) -> int:
        least, most, now = (int(given.get(key, group[key])) for key in SIZES)
        if "DesiredCapacity" in given:
            return now
        return max(least, min(most, self._launcher.unmet.get(group["AutoScalingGroupName"], now)))

    async def resume(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        for group in await self._launcher.groups(_name(asked)) if _name(asked) in self._launcher.unmet else ():
            may = _may(group, self._launcher.unmet[_name(asked)])
            sized = {"AutoScalingGroupName": _name(asked), "DesiredCapacity": may}
            await query.ask(self._moto, SERVICE, "SetDesiredCapacity", **sized)
            if may == self._launcher.unmet[_name(asked)]:
                del self._launcher.unmet[_name(asked)]
        await self._launcher.sync()
        return answered

    # Load balancers

    async def attach(self, asked: Asked, moto: Pass) -> Answer:
        """What is in service is registered; what was launched while that rested is registered by nobody else."""
        answered = await moto(asked)
        for group in await self._launcher.groups(_name(asked)) if answered.fine else ():
            if REGISTERS not in suspended(group):
                await self._launcher.attach(self._launcher.of(_name(asked)), _target_groups(asked))
        return answered

    async def detach(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            self._launcher.detach(self._launcher.of(_name(asked)), _target_groups(asked))
        return answered

    # What is told

    async def describe(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if not answered.fine:
            return answered
        told = query.read(SERVICE, "DescribeAutoScalingGroups", answered)
        groups = [self._told(group) for group in told.get("AutoScalingGroups") or ()]
        return query.answer(SERVICE, "DescribeAutoScalingGroups", {**told, "AutoScalingGroups": groups})

    def _told(self, group: Described) -> dict[str, Any]:
        name, machines = group["AutoScalingGroupName"], self._launcher.machines
        instances = [machines[one["InstanceId"]].told(one) if one["InstanceId"] in machines else dict(one)
                     for one in group.get("Instances") or ()]  # fmt: skip
        known = {one["InstanceId"] for one in instances}
        leaving = [machine for machine in self._launcher.of(name) if machine.id not in known]
        gone = [{**machine.told(), "LifecycleState": _leaving(machine)} for machine in leaving]
        desired = self._launcher.unmet.get(name, group["DesiredCapacity"])
        return {**group, "Instances": [*instances, *gone], "DesiredCapacity": desired}

    async def describe_instances(self, asked: Asked, moto: Pass) -> Answer:
        """Of groups' instances, in no order and on one page."""
        wanted = asked.call.parameters.get("InstanceIds")
        told = [
            {**one, "AutoScalingGroupName": group["AutoScalingGroupName"]}
            for group in map(self._told, await self._launcher.groups())
            for one in group["Instances"]
            if not wanted or one["InstanceId"] in wanted
        ]
        return query.answer(SERVICE, asked.call.operation, {"AutoScalingInstances": told})

    async def no_notifications(self, asked: Asked, moto: Pass) -> Answer:
        return query.answer(SERVICE, asked.call.operation, {"NotificationConfigurations": []})

    async def no_refreshes(self, asked: Asked, moto: Pass) -> Answer:
        return query.answer(SERVICE, asked.call.operation, {"InstanceRefreshes": []})

    async def limits(self, asked: Asked, moto: Pass) -> Answer:
        has = len(await self._launcher.groups())
        told = {"MaxNumberOfAutoScalingGroups": QUOTA, "NumberOfAutoScalingGroups": has}
        return query.answer(SERVICE, asked.call.operation, told)


def _name(asked: Asked) -> str:
    return str(asked.call.parameters.get("AutoScalingGroupName", ""))


def _leaving(machine: Machine) -> str:
    return machine.state if machine.goes else TERMINATING


def _activity(machine: Machine) -> dict[str, Any]:
    about = f"Terminating EC2 instance: {machine.id}"
    here = {"ActivityId": str(uuid4()), "AutoScalingGroupName": machine.group, "StatusCode": "InProgress"}
    return {**here, "Description": about, "Cause": "instance was taken out of service in response to a user request"}


def _target_groups(asked: Asked) -> list[str]:
    return list(asked.call.parameters.get("TargetGroupARNs") or ())


def _may(group: Described, wanted: int) -> int:
    """The size that the group can have now."""
    has, rests = len(group.get("Instances") or ()), suspended(group)
    rest = "Launch" in rests if wanted > has else "Terminate" in rests
    return has if rest else wanted


def _sized(asked: Asked, desired: int) -> Asked:
    """The same call with another size."""
    form = dict(parse_qsl(asked.body.decode("latin-1"), keep_blank_values=True))
    return asked._replace(body=urlencode({**form, "DesiredCapacity": str(desired)}, encoding="latin-1").encode())
