"""The lab without containers: an instance is an agent with an address of its own in 127/8 and its own root directory.

Linux routes all of 127/8 to this machine, so every instance has the same ports and nobody needs to be root. Caddy
stands in front and is steered through the agents' gates.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_coordinator.lab import links, processes
from shiftwork_coordinator.lab.plan import APP_PORT, GATE_PATH, GATE_PORT, Instance, Lab, RuntimeKind
from shiftwork_coordinator.lab.ports import free_ports
from shiftwork_coordinator.lab.runtime import AGENT, BALANCER, COORDINATOR, Say, Verb

LINKS = "links"
LONGEST_SOCKET = 107
"""Characters in the path of a unix socket, by the kernel."""
SIGNALS: dict[Verb, signal.Signals] = {
    "kill": signal.SIGKILL,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}


class Processes:
    kind: RuntimeKind = "process"

    def unusable(self) -> str:
        if not sys.platform.startswith("linux"):
            return "only Linux gives every instance its own loopback address"
        return "" if _program("caddy", missing="") else "Caddy is missing: pip install 'shiftwork[lab]'"

    def prepare(self, say: Say) -> str:
        return ""

    def layout(self, lab: Lab, count: int) -> Lab:
        check_socket(lab)
        net = _free_net(count)
        instances = tuple(Instance(f"web-{n}", f"{net}.{n}") for n in range(1, count + 1))
        for instance in instances:
            furnish(lab, instance)
        ways = dict(zip((f"link:{i.name}" for i in instances), free_ports(count), strict=True))
        return msgspec.structs.replace(lab, instances=instances, ports={**lab.ports, **ways})

    def start_coordinator(self, lab: Lab) -> None:
        serve(lab)
        _cuts(lab).mkdir(parents=True)
        ports = [f"{i.name}={lab.ports['link:' + i.name]}" for i in lab.instances]
        command = [sys.executable, "-m", links.__name__, str(_cuts(lab)), str(lab.ports["coordinator"]), *ports]
        keep_running(lab, LINKS, command)

    def on_coordinator(self, lab: Lab, module: str) -> str:
        return processes.output([sys.executable, "-m", module, str(_data(lab))])

    def start_instance(self, lab: Lab, instance: Instance, token: str) -> None:
        start_agent(lab, instance, f"https://127.0.0.1:{lab.ports['link:' + instance.name]}", token)

    def start_balancer(self, lab: Lab) -> None:
        place = home(lab, BALANCER)
        place.mkdir(parents=True, exist_ok=True)
        (place / "Caddyfile").write_text(_caddy_config(lab))
        keep_running(lab, BALANCER, _caddy(place), _own(place))

    def balancer_settings(self, lab: Lab) -> dict[str, dict[str, object]]:
        gate = {"port": GATE_PORT, "path": GATE_PATH}
        return {"caddy": {"admin": f"http://127.0.0.1:{lab.ports['admin']}", "gate": gate}}

    def health(self) -> dict[str, object]:
        return {"http": f"http://{{address}}:{APP_PORT}/", "interval": "250ms", "healthy": 2, "unhealthy": 3}

    def statuses(self, lab: Lab) -> Mapping[str, str]:
        names = (COORDINATOR, BALANCER, *(instance.name for instance in lab.instances))
        return {name: status(lab, name) for name in names}

    def fault(self, lab: Lab, verb: Verb, target: str) -> None:
        name = target.removeprefix(AGENT)
        if name not in (COORDINATOR, BALANCER):
            lab.instance(name)
        if verb not in SIGNALS:
            _cut(lab, verb, target)
        elif name != target or name == COORDINATOR:
            signal_one(lab, name, SIGNALS[verb])
        elif not processes.send(home(lab, name), SIGNALS[verb]) and verb == "resume":
            _start_again(lab, name)

    def keep_logs(self, lab: Lab) -> None:
        """They are written there from the beginning."""

    def down(self, lab: Lab) -> None:
        processes.end_all(lab.directory)


def check_socket(lab: Lab) -> None:
    socket = _data(lab) / "shiftwork.sock"
    if len(str(socket)) > LONGEST_SOCKET:
        raise InvalidRequest(
            f"cannot start a lab in {lab.directory}: the path of its socket has {len(str(socket))} characters,"
            f" the limit is {LONGEST_SOCKET}; name a directory with a shorter path (or set TMPDIR to one)"
        )


def serve(lab: Lab, environment: dict[str, str] | None = None) -> None:
    listen = f"127.0.0.1:{lab.ports['coordinator']}"
    command = [_program("shiftwork"), "serve", "--data", str(_data(lab)), "--listen", listen]
    keep_running(lab, COORDINATOR, command, environment)


def furnish(lab: Lab, instance: Instance) -> None:
    """Its root directory, in which the application finds its address."""
    root = home(lab, instance.name) / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "demo-app.env").write_text(application_settings(instance, sys.executable))


def application_settings(instance: Instance, python: str) -> str:
    about = {"ADDRESS": instance.address, "CHECK": instance.address, "NAME": instance.name, "PYTHON": python}
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in about.items())


def start_agent(lab: Lab, instance: Instance, url: str, token: str, environment: dict[str, str] | None = None) -> None:
    """It has joined the coordinator at `url`, and runs."""
    place = home(lab, instance.name)
    join = [_program("shiftwork-agent"), "join", url, "--token", token, *_places(place)]
    processes.output(
        [*join, "--name", instance.name, "--address", instance.address, "--install-root", str(place / "root")]
    )
    keep_running(lab, instance.name, _agent(place), environment)


def home(lab: Lab, name: str) -> Path:
    return lab.directory / "hosts" / name


def _data(lab: Lab) -> Path:
    return home(lab, COORDINATOR) / "data"


def _cuts(lab: Lab) -> Path:
    return home(lab, LINKS) / "cut"


def pid_file(lab: Lab, name: str) -> Path:
    return home(lab, name) / "pid"


def _agent(home: Path) -> list[str]:
    return [_program("shiftwork-agent"), "run", *_places(home)]


def _caddy(home: Path) -> list[str]:
    return [_program("caddy"), "run", "--config", str(home / "Caddyfile"), "--adapter", "caddyfile"]


def _places(home: Path) -> list[str]:
    return ["--config", str(home / "agent.yml"), "--state", str(home / "state")]


def keep_running(lab: Lab, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    place = home(lab, name)
    place.mkdir(parents=True, exist_ok=True)
    processes.keep_running(place, pid_file(lab, name), command, lab.logs / f"{name}.log", environment)


def _start_again(lab: Lab, name: str) -> None:
    place = home(lab, name)
    if name == BALANCER:
        keep_running(lab, name, _caddy(place), _own(place))
    else:
        keep_running(lab, name, _agent(place))


def _own(place: Path) -> dict[str, str]:
    return {"XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)}


def signal_one(lab: Lab, name: str, number: signal.Signals) -> None:
    process = processes.alive(pid_file(lab, name))
    if process is None:
        raise Unavailable(f"cannot signal {name} of lab {lab.name}: it does not run now")
    process.send_signal(number)


def _cut(lab: Lab, verb: Verb, target: str) -> None:
    """An agent's link to the coordinator; clients still reach the application."""
    if target in (COORDINATOR, BALANCER):
        raise InvalidRequest(f"cannot {verb} {target}: without containers only agents' links are cut; name an instance")
    flag = _cuts(lab) / target.removeprefix(AGENT)
    if verb == "cut":
        flag.touch()
    else:
        flag.unlink(missing_ok=True)
    time.sleep(2 * links.LOOK_EVERY)  # seen by then


def status(lab: Lab, name: str) -> str:
    process = processes.alive(pid_file(lab, name))
    if process is None:
        return "stopped"
    if process.status() == psutil.STATUS_STOPPED:
        return "paused"
    return "cut" if (_cuts(lab) / name).exists() else "running"


def _caddy_config(lab: Lab) -> str:
    template = Path(__file__).with_name("Caddyfile.in").read_text()
    values = {
        "@ADMIN_PORT@": str(lab.ports["admin"]),
        "@PORT@": str(lab.ports["balancer"]),
        "@UPSTREAMS@": " ".join(f"{i.address}:{APP_PORT}" for i in lab.instances),
    }
    for mark, value in values.items():
        template = template.replace(mark, value)
    return template


def _free_net(count: int) -> str:
    """A /24 of 127/8 in which nobody listens on the instances' ports, so that two labs can run side by side."""
    taken = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port in (APP_PORT, GATE_PORT)}
    for third in range(256):
        if not any(f"127.77.{third}.{n}" in taken for n in range(1, count + 1)):
            return f"127.77.{third}"
    raise Unavailable("cannot find free addresses in 127.77.0.0/16: end some of the labs on this machine")


def _program(name: str, missing: str | None = None) -> str:
    """Its path: beside this interpreter, else on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None and missing is None:
        raise Unavailable(f"cannot find the program {name}: install shiftwork[lab]")
    return found or missing or ""
