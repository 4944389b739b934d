"""The lab's containers with an SSH server in each, and no load balancer."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shiftwork_coordinator.lab import lifecycle
from shiftwork_coordinator.lab.docker import Docker
from shiftwork_coordinator.lab.docker_cli import attempt, docker
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.lab.runtime import Say

CONFIG = """Host *
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ControlMaster auto
  ControlPath {directory}/%h
  ControlPersist 300
"""


class BenchDocker(Docker):
    """`key` is the private key whose public half the hosts accept."""

    def __init__(self, key: Path) -> None:
        self._key = key

    def prepare(self, say: Say) -> str:
        base = super().prepare(say)
        say("Building the image with an SSH server ...")
        context = self._key.parent / "image"
        context.mkdir()
        shutil.copy(Path(__file__).with_name("Dockerfile"), context)
        shutil.copy(self._key.with_suffix(".pub"), context / "key.pub")
        tag = f"shiftwork-bench:{self._key.parent.name}"
        docker("build", "-q", "--build-arg", f"BASE={base}", "-t", tag, str(context), within=300.0)
        return tag

    def start_balancer(self, lab: Lab) -> None:
        """The group has none."""


@contextmanager
def hosts(directory: Path, count: int, say: Say) -> Iterator[tuple[Lab, Path]]:
    """A lab of `count` containers with joined agents, and an ssh_config for them; gone on leaving."""
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    sockets = directory / "s"
    sockets.mkdir()
    config = directory / "ssh_config"
    config.write_text(CONFIG.format(key=key, directory=sockets))
    lab = lifecycle.up(directory / "lab", count, BenchDocker(key), say)
    try:
        yield lab, config
    finally:
        lifecycle.down(lab)
        attempt("image", "rm", "-f", lab.image)
