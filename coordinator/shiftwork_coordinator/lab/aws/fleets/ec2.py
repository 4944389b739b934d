"""What moto lacks of EC2: instances that take their time to come and go."""

from __future__ import annotations

from xml.etree import ElementTree

from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handlers, Pass
from shiftwork_coordinator.lab.aws.fleets.launcher import Launcher
from shiftwork_coordinator.lab.aws.fleets.machine import Machine


class Ec2:
    """Instances that no Auto Scaling group has launched are records."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def handlers(self) -> Handlers:
        return {("ec2", "DescribeInstances"): self.describe, ("ec2", "TerminateInstances"): self.terminate}

    async def terminate(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self._launcher.sync()
        return answered

    async def describe(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        coming_or_going = [machine for machine in self._launcher.machines.values() if machine.ec2_state]
        if not answered.fine or not coming_or_going:
            return answered
        return answered._replace(body=_corrected(answered.body, {machine.id: machine for machine in coming_or_going}))


def _corrected(body: bytes, machines: dict[str, Machine]) -> bytes:
    """The answer, with the states of these instances as they are."""
    root = ElementTree.fromstring(body)
    for item in root.iterfind(".//{*}item"):
        machine = machines.get(item.findtext("{*}instanceId", ""))
        state = item.find("{*}instanceState")
        if machine is not None and machine.ec2_state is not None and state is not None:
            for part, value in zip(state, map(str, machine.ec2_state), strict=True):  # code and name
                part.text = value
    return ElementTree.tostring(root)
