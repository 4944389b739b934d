"""Faults in the Docker lab: the container for a host, a process in it for the agent and the coordinator."""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.lab.docker_cli import attempt, docker
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.lab.runtime import AGENT, BALANCER, COORDINATOR, Verb

SIGNALS = {"kill": "KILL", "pause": "STOP", "resume": "CONT"}
STATUS = "{{.State.Status}} {{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}"


def inject(lab: Lab, verb: Verb, target: str) -> None:
    """Raises InvalidRequest for an unknown target, and for what this target cannot suffer."""
    if target.startswith(AGENT) or (target == COORDINATOR and verb in SIGNALS):
        _signal(lab, verb, target)
        return
    container, host, address = _place(lab, target)
    if verb == "kill":
        docker("kill", "--signal", "KILL", container)
    elif verb == "pause":
        docker("pause", container)
    elif verb == "resume":
        docker("unpause" if _status(container) == "paused" else "start", container)
    elif verb == "cut":
        docker("network", "disconnect", "--force", lab.name, container)
    else:
        docker("network", "connect", "--ip", address, "--alias", host, lab.name, container)


def _signal(lab: Lab, verb: Verb, target: str) -> None:
    """To the supervised process alone. Killed, it is started again a second later."""
    if verb not in SIGNALS:
        raise InvalidRequest(f"cannot {verb} {target}: only hosts have a network; {verb} the instance instead")
    name = target.removeprefix(AGENT)
    container = lab.containers[COORDINATOR] if name == COORDINATOR else lab.instance(name).container
    pid_file = f"/run/{COORDINATOR if name == COORDINATOR else 'agent'}.pid"
    docker("exec", container, "sh", "-c", f"kill -{SIGNALS[verb]} $(cat {pid_file})")


def _place(lab: Lab, target: str) -> tuple[str, str, str]:
    """Container, host name and address."""
    if target in (COORDINATOR, BALANCER):
        return lab.containers[target], target, f"{lab.subnet}.{2 if target == COORDINATOR else 3}"
    instance = lab.instance(target)
    return instance.container, instance.name, instance.address


def _status(container: str) -> str:
    return docker("inspect", "--format", "{{.State.Status}}", container)


def statuses(lab: Lab) -> Mapping[str, str]:
    containers = {**lab.containers, **{i.name: i.container for i in lab.instances}}
    return {name: _described(container) for name, container in containers.items()}


def _described(container: str) -> str:
    found = attempt("inspect", "--format", STATUS, container)
    if found is None:
        return "gone"
    status, _, network = found.partition(" ")
    if status == "running":
        return "running" if network.strip() else "cut"
    return "paused" if status == "paused" else "stopped"
