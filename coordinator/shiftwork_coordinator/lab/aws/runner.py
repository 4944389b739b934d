"""Executes functions: the handler in a version's zip, in processes that stay warm, as many as are needed at once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shiftwork_contract.errors import InvalidRequest

WORKER = Path(__file__).with_name("worker.py")
LINE = 8 << 20
"""Bytes of an answer; Lambda's own limit is 6 MB."""
AT_ONCE = 4
"""Processes of one version; further invocations wait their turn. Starting one costs more than most handlers do."""


class Version(NamedTuple):
    function: str
    version: str


class Code(NamedTuple):
    zip: bytes
    handler: str = ""
    timeout: float = 3.0
    environment: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """`failed` when the function raised or took too long; then `payload` says so."""

    payload: bytes
    failed: bool = False


class Runner:
    """`close` ends all processes. Files are unpacked into `directory`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._idle: defaultdict[Version, list[asyncio.subprocess.Process]] = defaultdict(list)
        self._turns: defaultdict[Version, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._all: set[asyncio.subprocess.Process] = set()

    async def run(self, what: Version, code: Code, event: bytes) -> Outcome:
        line = json.dumps(json.loads(event or b"null")).encode() + b"\n"
        async with self._turns[what]:
            return await self._run(what, code, line)

    async def _run(self, what: Version, code: Code, line: bytes) -> Outcome:
        """The function's own time is limited, that of starting its process is not."""
        process = self._idle[what].pop() if self._idle[what] else await self._start(what, code)
        try:
            async with asyncio.timeout(code.timeout):
                answered = await _exchange(process, line)
        except TimeoutError:
            await self._end(process)
            return _failed(f"Task timed out after {code.timeout:.2f} seconds", "Sandbox.Timedout")
        except BaseException:
            await self._end(process)
            raise
        if not answered:
            await self._end(process)
            return _failed("the function's process ended", "Runtime.ExitError")
        self._idle[what].append(process)
        told = json.loads(answered)
        return Outcome(json.dumps(told.get("error", told.get("payload"))).encode(), "error" in told)

    async def forget(self, what: Version) -> None:
        """The next invocation takes new code."""
        for process in self._idle.pop(what, ()):
            await self._end(process)

    async def close(self) -> None:
        for process in list(self._all):
            await self._end(process)

    async def _start(self, what: Version, code: Code) -> asyncio.subprocess.Process:
        root = self._unpacked(what, code)
        about = {
            "_HANDLER": code.handler,
            "LAMBDA_TASK_ROOT": str(root),
            "AWS_LAMBDA_FUNCTION_NAME": what.function,
            "AWS_LAMBDA_FUNCTION_VERSION": what.version,
        }
        environment = {**os.environ, **self._environment, **code.environment, **about}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=environment, cwd=root, limit=LINE,
        )  # fmt: skip
        self._all.add(process)
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    def _unpacked(self, what: Version, code: Code) -> Path:
        root = self._directory / f"{what.function}-{what.version.replace('$', '')}-{hash(code.zip) & 0xFFFFFFFF:x}"
        if not root.exists():
            try:
                with zipfile.ZipFile(io.BytesIO(code.zip)) as archive:
                    archive.extractall(root)
            except zipfile.BadZipFile as err:
                raise InvalidRequest(f"cannot run {what.function}: its code is not a zip") from err
        return root

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self._all.discard(process)
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, line: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    with suppress(ConnectionError):
        await process.stdin.drain()
    return await process.stdout.readline()


def _failed(message: str, kind: str) -> Outcome:
    told: dict[str, Any] = {"errorMessage": message, "errorType": kind}
    return Outcome(json.dumps(told).encode(), failed=True)
