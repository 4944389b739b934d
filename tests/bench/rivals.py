"""The same three scripts, half of the hosts at a time, by other means. Each returns the seconds of one run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.bundles import EVENTS

from shiftwork_contract.errors import Unavailable

PLAYBOOK = """- hosts: all
  gather_facts: false
  serial: "50%"
  tasks:
"""
TASK = """    - name: {name}
      ansible.builtin.shell: "{{{{ lookup('file', '{path}') }}}}"
"""
ANSIBLE = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_FORKS": "50",
    "ANSIBLE_HOST_KEY_CHECKING": "0",
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    "ANSIBLE_DEPRECATION_WARNINGS": "0",
}


def halves(hosts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    return hosts[: len(hosts) // 2], hosts[len(hosts) // 2 :]


class Ssh:
    """The floor: one command per host over a connection that is open already, all three scripts on its input."""

    def __init__(self, config: Path, bundle: Path, hosts: Sequence[str]) -> None:
        self._config, self._hosts = config, hosts
        self._scripts = b"".join((bundle / "hooks" / f"{name}.sh").read_bytes() for name in EVENTS)

    async def open(self) -> None:
        await asyncio.gather(*(self._run(host, b"true\n") for host in self._hosts))

    async def run(self) -> float:
        began = time.monotonic()
        for half in halves(self._hosts):
            await asyncio.gather(*(self._run(host, self._scripts) for host in half))
        return time.monotonic() - began

    async def _run(self, host: str, scripts: bytes) -> None:
        command = ["ssh", "-F", str(self._config), host, "sh", "-s"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=asyncio.subprocess.DEVNULL)
        await process.communicate(scripts)
        if process.returncode:
            raise Unavailable(f"cannot measure ssh: {host} answered {process.returncode}")


class Ansible:
    def __init__(self, directory: Path, config: Path, bundle: Path, hosts: Sequence[str]) -> None:
        self._playbook, self._inventory = directory / "play.yml", directory / "hosts.ini"
        scripts = {name: bundle / "hooks" / f"{name}.sh" for name in EVENTS}
        self._playbook.write_text(PLAYBOOK + "".join(TASK.format(name=n, path=p) for n, p in scripts.items()))
        self._inventory.write_text("".join(f"{host}\n" for host in hosts))
        self._environment = {**os.environ, **ANSIBLE, "ANSIBLE_SSH_ARGS": f"-F {config}"}

    def run(self) -> float:
        return _timed([_beside("ansible-playbook"), "-i", str(self._inventory), str(self._playbook)], self._environment)


class Pyinfra:
    """It has no serial option: one call for each half."""

    def __init__(self, directory: Path, key: Path, bundle: Path, hosts: Sequence[str]) -> None:
        self._hosts, self._deploy, self._key = hosts, directory / "deploy.py", key
        scripts = [str(bundle / "hooks" / f"{name}.sh") for name in EVENTS]
        lines = ["from pyinfra.operations import server", *(f"server.script(src={path!r})" for path in scripts)]
        self._deploy.write_text("\n".join(lines) + "\n")

    def run(self) -> float:
        login = {"ssh_user": "root", "ssh_key": str(self._key), "ssh_strict_host_key_checking": "no"}
        data = [option for name, value in login.items() for option in ("--data", f"{name}={value}")]
        return sum(
            _timed([_beside("pyinfra"), "-y", ",".join(half), str(self._deploy), *data], dict(os.environ))
            for half in halves(self._hosts)
        )


def _beside(program: str) -> str:
    return str(Path(sys.executable).with_name(program))


def _timed(command: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        raise Unavailable(f"cannot measure {Path(command[0]).name}: {(done.stdout + done.stderr)[-1500:]}")
    return took
