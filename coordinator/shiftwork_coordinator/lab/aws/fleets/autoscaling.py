"""What moto lacks of Auto Scaling: instances that take their time to come and go, processes that rest, and answers to
what it does not know.

moto keeps groups and their settings. While Launch or Terminate rests it is told of no other size than what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handler, Handlers, Pass
from shiftwork_coordinator.lab.aws.fleets.launcher import REGISTERS, SERVICE, Launcher
from shiftwork_coordinator.lab.aws.fleets.machine import TERMINATING, Described, suspended
from shiftwork_coordinator.lab.aws.moto import Moto

QUOTA = 500
SIZES = ("MinSize", "MaxSize", "DesiredCapacity")


class ScalingGroups:
    """`unmet`: the sizes that groups are to have as soon as nothing rests."""

    def __init__(self, moto: Moto, launcher: Launcher) -> None:
        self._moto, self._launcher = moto, launcher
        self.unmet: dict[str, int] = {}

    def handlers(self) -> Handlers:
        mine: dict[str, Handler] = {
            "CreateAutoScalingGroup": self.change,
            "DeleteAutoScalingGroup": self.delete,
            "TerminateInstanceInAutoScalingGroup": self.change,
            "UpdateAutoScalingGroup": self.resize,
            "SetDesiredCapacity": self.resize,
            "ResumeProcesses": self.resume,
            "AttachLoadBalancerTargetGroups": self.attach,
            "DetachLoadBalancerTargetGroups": self.detach,
            "DescribeAutoScalingGroups": self.describe,
            "DescribeNotificationConfigurations": self.no_notifications,
            "DescribeInstanceRefreshes": self.no_refreshes,
            "DescribeAccountLimits": self.limits,
        }
        return {(SERVICE, name): handler for name, handler in mine.items()}

    # Sizes

    async def change(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self._launcher.sync()
        return answered

    async def delete(self, asked: Asked, moto: Pass) -> Answer:
        self.unmet.pop(_name(asked), None)
        return await self.change(asked, moto)

    async def resize(self, asked: Asked, moto: Pass) -> Answer:
        for group in await self._launcher.groups(_name(asked)):
            wanted = self._wanted(group, asked.call.parameters)
            if (may := _may(group, wanted)) != wanted:
                self.unmet[_name(asked)] = wanted
                return await self.change(_sized(asked, may), moto)
        self.unmet.pop(_name(asked), None)
        return await self.change(asked, moto)

    def _wanted(self, group: Described, given: Mapping[str, Any]) -> int:
        least, most, now = (int(given.get(key, group[key])) for key in SIZES)
        if "DesiredCapacity" in given:
            return now
        return max(least, min(most, self.unmet.get(group["AutoScalingGroupName"], now)))

    async def resume(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        for group in await self._launcher.groups(_name(asked)) if _name(asked) in self.unmet else ():
            may = _may(group, self.unmet[_name(asked)])
            sized = {"AutoScalingGroupName": _name(asked), "DesiredCapacity": may}
            await query.ask(self._moto, SERVICE, "SetDesiredCapacity", **sized)
            if may == self.unmet[_name(asked)]:
                del self.unmet[_name(asked)]
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
        gone = [{**machine.told(), "LifecycleState": TERMINATING} for machine in leaving]
        desired = self.unmet.get(name, group["DesiredCapacity"])
        return {**group, "Instances": [*instances, *gone], "DesiredCapacity": desired}

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
