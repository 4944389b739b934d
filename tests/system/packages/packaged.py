"""Machines of their own in containers, with systemd as their first process, and what the stories do on them."""

from __future__ import annotations

import json
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OLD = "0.0.1"
NEW = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

OPTIONS = (
    "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    "--tmpfs=/run", "--tmpfs=/tmp", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", "--label=shiftwork.packages",
)  # fmt: skip


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"docker {' '.join(args)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def until(condition: Any, what: str, within: float = 60.0) -> None:
    ends = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {within:g} s"
        time.sleep(0.1)


class Machine:
    def __init__(self, name: str, network: str, image: str, packages: str) -> None:
        self.name = f"{network}-{name}"
        place = (f"--name={self.name}", f"--hostname={self.name}", f"--network={network}")
        docker("run", "--detach", *OPTIONS, *place, f"--volume={packages}:/packages:ro", image)
        self.wait_for_boot()

    def wait_for_boot(self) -> None:
        ready = ("running", "degraded")
        until(lambda: self.attempt("systemctl is-system-running")[1].strip() in ready, f"{self.name} to boot")

    def attempt(self, script: str) -> tuple[int, str]:
        command = ["docker", "exec", self.name, "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout + done.stderr

    def run(self, script: str) -> str:
        """Its standard output; where it fails, what the machine's services say."""
        command = ["docker", "exec", self.name, "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout.strip()

    def journal(self) -> str:
        return self.attempt("journalctl --no-pager -u shiftwork -u shiftwork-agent | tail -40")[1]

    def install(self, file: str) -> None:
        self.run(
            f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /packages/{file} </dev/null"
        )

    def reboot(self) -> None:
        docker("restart", "--time=10", self.name)
        self.wait_for_boot()

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name)

    # the agent on it

    def status(self) -> dict[str, Any]:
        """What the agent says of itself; empty when none runs."""
        code, told = self.attempt("shiftwork-agent status --output json 2>/dev/null")
        found: dict[str, Any] = json.loads(told) if code in (0, 3) and told.startswith("{") else {}
        return found

    def wait_for_agent(self, *, other_than: int = 0) -> dict[str, Any]:
        def connected() -> bool:
            told = self.status()
            return bool(told.get("connected")) and told["pid"] != other_than

        until(connected, f"the agent of {self.name} to be connected")
        return self.status()

    def processes(self, pattern: str) -> list[str]:
        return self.attempt(f"pgrep -f '{pattern}' | grep -vx $$")[1].split()


GROUP = """\
application: web
groups:
  all:
    instances: {tags: {Role: [web]}}
    config: AllAtOnce
"""
APPSPEC = """\
version: 0.0
os: linux
files: [{source: page, destination: /srv/app}]
hooks:
  ApplicationStart: [{location: start.sh, timeout: 60}]
"""
START = """\
#!/bin/sh
# Starts the application unless it runs, and takes as long as /srv/hold is there.
env >/srv/env
echo begun >>/srv/begun
if ! kill -0 "$(cat /srv/pid)"; then
    sleep 54321 &
    echo $! >/srv/pid
fi
while [ -e /srv/hold ]; do sleep 0.1; done
echo "the hook came to its end"
"""


class Home(Machine):
    """The machine of the coordinator, which was installed from its package."""

    def prepare(self):
        self.install(f"shiftwork_{NEW}_*.deb")
        self.run("mkdir -p /root/web")
        for name, text in (
            ("web.yml", GROUP),
            ("web/appspec.yml", APPSPEC),
            ("web/start.sh", START),
            ("web/page", "1"),
        ):
            self.run(f"cat >/root/{name} <<'END'\n{text}\nEND")
        self.run("chmod 755 /root/web/start.sh; shiftwork apply -f /root/web.yml")
        self.revision = self.run("shiftwork push /root/web --application web").split()[0]

    def join(self, machine, name, role="web"):
        answer = json.loads(self.run(f"shiftwork token create --agent --name {name} --tag Role={role} --output json"))
        return machine.run(f"shiftwork-agent join https://{self.name}:7070 --token {answer['token']} --name {name}")

    def begin(self, group="web/all"):
        text = self.run(f"shiftwork deploy {group} --revision {self.revision} --no-wait --output json")
        return json.loads(text)["deploymentId"]

    def ended(self, deployment):
        def over():
            return self.view(deployment)["status"] in ("Succeeded", "Failed", "Stopped")

        until(over, f"{deployment} to end")
        return self.view(deployment)

    def view(self, deployment):
        return json.loads(self.attempt(f"shiftwork status {deployment} --output json")[1])
