"""A real `shiftwork serve` in a process of its own, asked over its unix socket as people on its host do."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from shiftwork_contract.archive import pack
from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.ports import free_ports

READY_WITHIN = 30.0
APPLICATION, GROUP = "bench", "fleet"
TAGS = {"Role": "bench"}
ENDED = ("Succeeded", "Failed", "Stopped")


class Api:
    """The coordinator's HTTP API at `base`."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session, self._base = session, base

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The JSON answer. Raises Unavailable with the coordinator's reason."""
        async with self._session.request(method, self._base + path, json=body, params=query) as answer:
            return await _read(answer, f"{method} {path}")

    async def token(self, uses: int) -> str:
        wanted = {"kind": "agent", "tags": TAGS, "ttl": 900.0, "uses": uses}
        return str((await self.ask("POST", "/v1/tokens", wanted))["token"])

    async def apply(self, config: str, **settings: Any) -> None:
        group = {"instances": {"tags": {key: [value] for key, value in TAGS.items()}}, "config": config, **settings}
        document = {"application": APPLICATION, "groups": {GROUP: group}}
        await self.ask("POST", "/v1/apply", {"text": _yaml(document), "file": "bench.yml"})

    async def push(self, bundle: Path) -> str:
        """The revision's id."""
        packed = io.BytesIO()
        pack(bundle, packed)
        query = {"application": APPLICATION, "type": "tgz"}
        async with self._session.post(f"{self._base}/v1/revisions", data=packed.getvalue(), params=query) as answer:
            return str((await _read(answer, "push"))["revision"])

    async def deploy(self, revision: str, config: str = "") -> str:
        """The new deployment's id."""
        wanted = {"application": APPLICATION, "group": GROUP, "revision": revision, "config": config}
        return str((await self.ask("POST", "/v1/deployments", wanted))["deploymentId"])

    async def ended(self, deployment: str, every: float = 0.05) -> None:
        """Returns once the newest deployment, which is this one, has succeeded. Raises Unavailable for another end."""
        while (status := await self._status(deployment)) not in ENDED:
            await asyncio.sleep(every)
        if status != "Succeeded":
            raise Unavailable(
                f"cannot measure: deployment {deployment} ended {status}: {_why(await self.view(deployment))}"
            )

    async def _status(self, deployment: str) -> str:
        newest = (await self.ask("GET", "/v1/deployments", limit="1"))["deployments"][0]
        return str(newest["status"]) if newest["deploymentId"] == deployment else ""

    async def view(self, deployment: str) -> dict[str, Any]:
        return dict(await self.ask("GET", f"/v1/deployments/{deployment}"))


class Serving(Api):
    """The coordinator on `data`, which survives `kill` and `start`."""

    def __init__(self, data: Path, session: aiohttp.ClientSession) -> None:
        super().__init__(session, "http://localhost")
        self._data = data
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca(self) -> Path:
        return self._data / "ca" / "ca.pem"

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() comes first"
        return self._process.pid

    def launch(self) -> None:
        program = Path(sys.executable).with_name("shiftwork")
        serve = [str(program), "serve", "--data", str(self._data), "--listen", f"127.0.0.1:{self._port}"]
        with (self._data.parent / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(serve, stdout=log, stderr=log)

    async def start(self) -> None:
        """Returns when it answers."""
        self.launch()
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    await self.ask("GET", "/v1/health")
                    return
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None


def _why(view: dict[str, Any]) -> str:
    failed = [t["errorInformation"] for t in view["targets"] if t["errorInformation"]]
    return str(failed[:1] or view["errorInformation"])


def _yaml(document: Any) -> str:
    import yaml

    return yaml.safe_dump(document)


async def _read(answer: aiohttp.ClientResponse, what: str) -> Any:
    if answer.status >= 300:
        raise Unavailable(f"cannot {what}: {answer.status} {(await answer.text())[:500]}")
    return await answer.json()


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Serving]:
    """A coordinator with its data in `directory`/data, ended on leaving."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    socket = aiohttp.UnixConnector(str(data / "shiftwork.sock"), force_close=True)
    async with aiohttp.ClientSession(connector=socket) as api:
        coordinator = Serving(data, api)
        try:
            await coordinator.start()
            yield coordinator
        finally:
            coordinator.stop()
