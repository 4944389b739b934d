"""Runs tasks, each with an address of its own in 127/8: as processes, or as containers on the host's network."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shiftwork_coordinator.lab import bundles
from shiftwork_coordinator.lab.aws.containers.task import Container, Running
from shiftwork_coordinator.lab.docker_cli import label

PYTHON = "/opt/shiftwork/bin/python"
"""In the lab's image."""
STOP_WITHIN = 30.0
"""Seconds between SIGTERM and SIGKILL, as with ECS."""
Start = Callable[[Container, str], Awaitable[Running]]
"""Runs a container at an address."""


class TaskProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ended(self) -> int:
        return await self._process.wait()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(STOP_WITHIN, self._signal, signal.SIGKILL)

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To all that it has started."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class TaskProcesses:
    """Files go into `directory`. With an `image` each task is a container of it, labelled with the lab's name. `close`
    ends all."""

    def __init__(self, directory: Path, image: str = "", lab: str = "") -> None:
        self._directory, self._image, self._lab = directory, image, lab
        self._all: list[TaskProcess] = []

    async def start(self, container: Container, address: str) -> Running:
        about = {"ADDRESS": address, "PORT": str(container.port), "VERSION": container.version, **container.environment}
        command = container.command or self._application(container, address)
        process = await asyncio.create_subprocess_exec(
            *(self._contained(command, about) if self._image else command), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, env={**os.environ, **about},
        )  # fmt: skip
        made = TaskProcess(process)
        self._all.append(made)
        return made

    def _application(self, container: Container, address: str) -> tuple[str, ...]:
        place = self._directory / container.definition.rpartition("/")[2].replace(":", "-")
        bundle = place / container.version
        if not bundle.exists():
            bundles.make(place, container.version, defect=container.environment.get("DEFECT", ""))
        return (
            PYTHON if self._image else sys.executable,
            str(bundle / "web" / "server.py"),
            address,
            str(container.port),
            address,
        )

    def _contained(self, command: Sequence[str], about: Mapping[str, str]) -> list[str]:
        """A signal to this command goes to what runs in the container, and its exit code is that one's."""
        given = [word for name, value in about.items() for word in ("--env", f"{name}={value}")]
        place = ["--network", "host", "--volume", f"{self._directory}:{self._directory}:ro"]
        return ["docker", "run", "--rm", "--init", "--label", label(self._lab), *place, *given, self._image, *command]

    async def close(self) -> None:
        for each in self._all:
            await each.kill()
