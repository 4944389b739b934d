"""Traffic in a process of its own: started, stopped, and its result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.demo import invocations, traffic
from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.demo.tally import Result

RATE = 200.0


class Load:
    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process, self._output = process, output

    def stop(self) -> Result:
        """What became of all requests, those in flight included. Raises Unavailable if the process died."""
        self._process.terminate()
        if self._process.wait(timeout=traffic.TIMEOUT + 10.0) != 0:
            raise Unavailable(f"cannot count the traffic: its process ended with status {self._process.returncode}")
        return msgspec.json.decode(self._output.read_bytes(), type=Result)


@contextmanager
def running(url: str, output: Path, rate: float = RATE) -> Iterator[Load]:
    """Traffic on `url` while inside, undisturbed by a Ctrl-C meant for its parent; none afterwards."""
    command = [traffic.__name__, url, "--rate", str(rate), "--output", str(output), "--attached"]
    with _running(command) as process:
        yield Load(process, output)


@contextmanager
def _running(module: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


class Invoking:
    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process, self._output = process, output

    def stop(self) -> list[Invocation]:
        """All invocations, those in flight included. Raises Unavailable if the process died."""
        self._process.terminate()
        if self._process.wait(timeout=30.0) != 0:
            raise Unavailable(f"cannot count the invocations: their process ended with {self._process.returncode}")
        return msgspec.json.decode(self._output.read_bytes(), type=list[Invocation])


@contextmanager
def invoking(url: str, name: str, output: Path, rate: float) -> Iterator[Invoking]:
    """Invocations of a function through its alias, `NAME:ALIAS`, while inside; none afterwards."""
    with asking(invocations.of_function(url, name), output, rate) as steady:
        yield steady


@contextmanager
def asking(url: str, output: Path, rate: float) -> Iterator[Invoking]:
    """Requests for a page while inside, each of them told; none afterwards."""
    with _running([invocations.__name__, url, str(rate), str(output)]) as process:
        yield Invoking(process, output)
