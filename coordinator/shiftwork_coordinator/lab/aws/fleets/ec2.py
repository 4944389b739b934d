"""What moto lacks of EC2: instances that take their time to come and go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handlers, Pass
from shiftwork_coordinator.lab.aws.fleets.launcher import Launcher
from shiftwork_coordinator.lab.aws.fleets.machine import Machine

STATE = "instance-state-name"
ANY = ("pending", "running", "shutting-down", "terminated", "stopping", "stopped")


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
        """moto tells of all states, so that none is left out that it takes for another one."""
        wanted = {value for one in _filters(asked) if one.get("Name") == STATE for value in one.get("Value", ())}
        answered = await moto(_of_any_state(asked) if wanted else asked)
        machines = self._launcher.machines
        if not answered.fine or not (machines or wanted):
            return answered
        return answered._replace(body=_corrected(answered.body, machines, wanted or set(ANY)))


def _filters(asked: Asked) -> list[Mapping[str, Any]]:
    return list(asked.call.parameters.get("Filter") or ())


def _of_any_state(asked: Asked) -> Asked:
    """The same call for instances in every state; `Filter.1.Name` and `Filter.1.Value.1` are how EC2 spells them."""
    form = parse_qsl(asked.body.decode("latin-1"), keep_blank_values=True)
    about = [key.removesuffix("Name") for key, value in form if key.startswith("Filter.") and value == STATE]
    kept = [(key, value) for key, value in form if not key.startswith(tuple(f"{one}Value." for one in about))]
    every = [(f"{one}Value.{n}", state) for one in about for n, state in enumerate(ANY, 1)]
    return asked._replace(body=urlencode([*kept, *every], encoding="latin-1").encode())


def _corrected(body: bytes, machines: Mapping[str, Machine], wanted: set[str]) -> bytes:
    """The answer, with the states of these instances as they are, and without those in other states."""
    root = ElementTree.fromstring(body)
    for instances in root.iterfind(".//{*}instancesSet"):
        for item in list(instances):
            state = item.find("{*}instanceState")
            machine = machines.get(item.findtext("{*}instanceId", ""))
            if machine is not None and state is not None:
                for part, value in zip(state, map(str, machine.ec2_state), strict=True):  # code and name
                    part.text = value
            if item.findtext("{*}instanceState/{*}name") not in wanted:
                instances.remove(item)
    return ElementTree.tostring(root)
