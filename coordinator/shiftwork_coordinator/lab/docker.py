"""The lab in containers: one per instance, one for HAProxy, one for the coordinator, on a network of their own.

Everything carries the lab's name as a label, which is how `down` finds it however far `up` came. Only the coordinator
and HAProxy are reachable from this machine, on 127.0.0.1.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab import docker_faults, image
from shiftwork_coordinator.lab.docker_cli import attempt, docker, label, remove_all
from shiftwork_coordinator.lab.plan import APP_PORT, Instance, Lab, RuntimeKind
from shiftwork_coordinator.lab.runtime import BALANCER, COORDINATOR, Say, Verb

DATA = "/var/lib/shiftwork"
PORT = 7070
FIRST_INSTANCE = 10
SOCKET = "/run/haproxy/admin.sock"
CONFIG = "/etc/haproxy/lab.cfg"
TRIES = 10


class Docker:
    kind: RuntimeKind = "docker"

    def unusable(self) -> str:
        if attempt("version", "--format", "{{.Server.Version}}", within=10.0) is None:
            return "no Docker engine answers"
        return "" if image.checkout() else "its image is built from the source tree, which is not here"

    def prepare(self, say: Say) -> str:
        return image.ensure(say)

    def layout(self, lab: Lab, count: int) -> Lab:
        subnet = _new_network(lab.name)
        instances = tuple(
            Instance(f"web-{n}", f"{subnet}.{FIRST_INSTANCE + n}", f"{lab.name}-web-{n}") for n in range(1, count + 1)
        )
        special = {COORDINATOR: f"{lab.name}-coordinator", BALANCER: f"{lab.name}-balancer"}
        return msgspec.structs.replace(lab, subnet=subnet, instances=instances, containers=special)

    def start_coordinator(self, lab: Lab) -> None:
        serve = ["shiftwork", "serve", "--data", DATA, "--listen", f"0.0.0.0:{PORT}"]
        published = ["-p", f"127.0.0.1:{lab.ports['coordinator']}:{PORT}", "-v", f"{lab.name}:/run/haproxy"]
        command = ["keep-running", "/run/coordinator.pid", *serve]
        _start(lab, lab.containers[COORDINATOR], COORDINATOR, f"{lab.subnet}.2", published, lab.image, command)

    def on_coordinator(self, lab: Lab, module: str) -> str:
        return docker("exec", lab.containers[COORDINATOR], "/opt/shiftwork/bin/python", "-m", module, DATA)

    def start_instance(self, lab: Lab, instance: Instance, token: str) -> None:
        environment = [
            *("-e", f"LAB_COORDINATOR=https://{COORDINATOR}:{PORT}"),
            *("-e", f"LAB_TOKEN={token}"),
            *("-e", f"LAB_NAME={instance.name}"),
            *("-e", f"LAB_ADDRESS={instance.address}"),
        ]
        _start(lab, instance.container, instance.name, instance.address, environment, lab.image, ["instance"])

    def start_balancer(self, lab: Lab) -> None:
        config = lab.directory / "haproxy.cfg"
        config.write_text(_haproxy_config(lab))
        container = lab.containers[BALANCER]
        options = ["-p", f"127.0.0.1:{lab.ports['balancer']}:80", "-v", f"{lab.name}:/run/haproxy"]
        _create(lab, container, BALANCER, f"{lab.subnet}.3", options, f"{lab.image}-balancer")
        docker("cp", str(config), f"{container}:{CONFIG}")
        docker("start", container)

    def balancer_settings(self, lab: Lab) -> dict[str, dict[str, object]]:
        return {"haproxy": {"endpoint": f"unix://{SOCKET}", "backend": "web"}}

    def health(self) -> dict[str, object]:
        return {"http": f"http://127.0.0.1:{APP_PORT}/", "interval": "250ms", "healthy": 2, "unhealthy": 3}

    def statuses(self, lab: Lab) -> Mapping[str, str]:
        return docker_faults.statuses(lab)

    def fault(self, lab: Lab, verb: Verb, target: str) -> None:
        docker_faults.inject(lab, verb, target)

    def keep_logs(self, lab: Lab) -> None:
        lab.logs.mkdir(exist_ok=True)
        for container in _containers(lab):
            name = container.removeprefix(lab.name + "-")
            (lab.logs / f"{name}.log").write_text(attempt("logs", "--tail", "20000", container) or "")

    def down(self, lab: Lab) -> None:
        for _ in range(TRIES):
            remove_all(label(lab.name))
            if not (left := attempt("ps", "-a", "-q", "--filter", f"label={label(lab.name)}")):
                return
            time.sleep(1.0)  # something that was interrupted is made a moment later
        if left:
            raise Unavailable(f"cannot remove all of lab {lab.name}: containers {left.split()} are still there")


def _containers(lab: Lab) -> list[str]:
    listed = attempt("ps", "-a", "--filter", f"label={label(lab.name)}", "--format", "{{.Names}}")
    return (listed or "").split()


def _new_network(name: str) -> str:
    """A free /24, without its last part: fixed addresses need a subnet of our own choice, and others choose too."""
    last: Unavailable | None = None
    for _ in range(20):
        prefix = f"10.{random.randrange(64, 255)}.{random.randrange(256)}"
        try:
            docker("network", "create", "--label", label(name), "--subnet", f"{prefix}.0/24", name)
        except Unavailable as err:
            last = err
            if "overlap" not in err.message:
                break
        else:
            docker("volume", "create", "--label", label(name), name)
            return prefix
    raise last or Unavailable(f"cannot make a network for lab {name}")


def _create(lab: Lab, container: str, host: str, address: str, options: list[str], *image_and_command: str) -> None:
    place = ["--network", lab.name, "--ip", address, "--hostname", host, "--network-alias", host]
    docker("create", "--name", container, "--label", label(lab.name), *place, *options, *image_and_command)


def _start(
    lab: Lab, container: str, host: str, address: str, options: list[str], image: str, command: list[str]
) -> None:
    _create(lab, container, host, address, options, image, *command)
    docker("start", container)


def _haproxy_config(lab: Lab) -> str:
    template = Path(__file__).with_name("haproxy.cfg.in").read_text()
    servers = [f"  server {i.name} {i.address}:{APP_PORT}" for i in lab.instances]
    return template + "\n".join(servers) + "\n"
