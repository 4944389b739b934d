"""Coordinators in this process that deploy functions of a stand-in for AWS, with the real drivers, over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.drafting import CreateDeployment
from shiftwork_coordinator.functions import FunctionWanted
from shiftwork_coordinator.lab.aws import sample
from shiftwork_coordinator.lab.aws.containers.running import Start
from shiftwork_coordinator.lab.aws.recording import Recorded
from shiftwork_coordinator.lab.aws.standin import StandIn, running
from shiftwork_coordinator.lab.plan import Lab, credentials
from shiftwork_coordinator.lab.ports import free_ports
from shiftwork_coordinator.model.config import (
    DeploymentConfig,
    MinimumHealthyHosts,
    Platform,
    TimeBasedCanary,
    TimeBasedLinear,
)
from shiftwork_coordinator.model.rows import CustomConfig, Deployment, Group
from shiftwork_coordinator.model.settings import Alarms, FunctionHooks, GroupSettings
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.operations import create_deployment
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Outputs, Put, Store
from shiftwork_coordinator.store.lease import _take

READS = {"GetAlias", "GetFunctionConfiguration", "GetProvisionedConcurrencyConfig", "DescribeAlarms"}
Named = tuple[str, Mapping[str, Any]]


class Home:
    """A coordinator with a store of its own; `restart` is what a killed and restarted process sees."""

    def __init__(self, store: Store, directory: Path, platform: Platform) -> None:
        self._store, self._directory, self._platform, self._epoch = store, directory, platform, 0
        self.coordinator: Coordinator
        self.restarts = 0

    async def start(self) -> None:
        self._epoch += 1
        epoch = self._epoch
        await self._store.in_writer(lambda connection: _take(connection, "test", 0.0))
        self.coordinator = Coordinator(self._store, Outputs(self._directory / "output"), SystemClock(), epoch)
        await self.coordinator.start()

    async def restart(self) -> None:
        self.restarts += 1
        await self.coordinator.stop()
        await self.start()

    async def group(self, **settings: Any) -> None:
        await self._store.write(
            Put(Group("g-1", "fn", "live", GroupSettings(**({"platform": self._platform} | settings))))
        )

    async def groups(self, count: int) -> None:
        """Many, each with alarms to watch when it deploys."""
        settings = GroupSettings(platform="Lambda", hooks=HOOKED, alarms=WATCHED)
        await self._store.write(*(Put(Group(f"g-{n}", "many", f"f-{n}", settings)) for n in range(count)))

    async def canary(self, interval: float) -> None:
        await self._config("canary", TimeBasedCanary(25, interval))

    async def linear(self, interval: float, percentage: int) -> None:
        await self._config("linear", TimeBasedLinear(percentage, interval))

    async def _config(self, name: str, traffic: TimeBasedCanary | TimeBasedLinear) -> None:
        hosts = MinimumHealthyHosts("HOST_COUNT", 0)
        config = DeploymentConfig(name, hosts, max_failed=0, traffic=traffic, platform=self._platform)
        await self._store.write(Put(CustomConfig(name, config)))

    async def deploy(self, function: str = sample.FUNCTION) -> str:
        asked = CreateDeployment("fn", "live", function=FunctionWanted(function, sample.ALIAS, "2"))
        return (await create_deployment(self.coordinator, asked, "tester")).id

    async def ended(self, id: str, within: float = 60) -> Deployment:
        async with asyncio.timeout(within):
            while True:
                row = await self._store.deployment(id)
                if row is not None and row.status in ENDED:
                    return row
                await asyncio.sleep(0.02)

    async def hooks(self, id: str) -> dict[str, str]:
        return {event: run.status for (_, event), run in (await self._store.hook_runs(id)).items()}

    async def weights(self, id: str) -> list[tuple[float, float]]:
        """When, and which."""
        told = [line for _, line in await self._store.history(id) if line.kind == "weight"]
        return [(line.at, float(str(line.data["weight"]))) for line in told]

    async def message(self, id: str) -> str:
        return " ".join(target.error_message for target in (await self._store.targets(id)).values())


@asynccontextmanager
async def home(directory: Path, platform: Platform = "Lambda") -> AsyncIterator[Home]:
    store = await _store(directory)
    found = Home(store, directory, platform)
    await found.start()
    try:
        yield found
    finally:
        await found.coordinator.stop()
        await store.close()


async def _store(directory: Path) -> Store:
    """An empty one: a copy, because making the tables takes longer than a deployment does."""
    directory.mkdir(parents=True)
    template, path = directory.parent / "template.db", directory / "shiftwork.db"
    async with _opening():  # alembic does one at a time
        if not template.exists():
            await (await Store.open(template)).close()
        shutil.copy(template, path)
        return await Store.open(path)


_locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


def _opening() -> asyncio.Lock:
    return _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


class Aws:
    """The stand-in with the sample's function; `client` is somebody else's than the coordinator's."""

    def __init__(self, standin: StandIn, directory: Path) -> None:
        self.standin = standin
        self.lab = Lab("test", "process", directory, {"aws": _port()}, (), aws=True)
        self._numbers = itertools.count(1)

    def client(self, service: str) -> Any:
        return sample.client(self.lab, service)

    async def make(self, **wanted: Any) -> None:
        await asyncio.to_thread(lambda: sample.make(self.lab, **wanted))
        self.standin.recording.clear()

    async def another(self) -> str:
        """A further function like the sample's, by name; its hook is `check-NAME`."""
        name, functions = f"copy-{next(self._numbers)}-of", self.client("lambda")
        role = f"arn:aws:iam::123456789012:role/{sample.ROLE}"
        await asyncio.to_thread(sample.function, functions, role, name)
        await asyncio.to_thread(sample.hook, functions, role, f"check-{name}")
        return name

    async def alias(self, function: str = sample.FUNCTION) -> tuple[str, dict[str, float]]:
        found = await asyncio.to_thread(self.client("lambda").get_alias, FunctionName=function, Name=sample.ALIAS)
        return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}

    def calls(self) -> list[Recorded]:
        return self.standin.recording.calls(by_shiftwork=True)

    def done(self) -> list[str]:
        """What the coordinator changed and whom it asked, in order, in short; what it read is left out."""
        return [_short(call) for call in self.calls() if call.operation not in READS]


@cache
def _port() -> int:
    """One for all tests: clients are made for an address, and making them is most of what a test costs."""
    return free_ports(1)[0]


def _short(call: Recorded) -> str:
    given = call.parameters
    if call.operation != "UpdateAlias":
        return f"{call.operation} {given.get('FunctionName')}"
    routes = (given.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    shares = "".join(f" {version}:{weight:.0%}" for version, weight in routes.items())
    return f"UpdateAlias {given['FunctionVersion']}{shares}"


@asynccontextmanager
async def aws(
    moto_url: str, directory: Path, patch: pytest.MonkeyPatch, start: Start | None = None
) -> AsyncIterator[Aws]:
    """Endpoint and credentials stand in the environment meanwhile. `start` runs tasks."""
    for name, value in credentials(f"http://127.0.0.1:{_port()}").items():
        patch.setenv(name, value)
    async with running(moto_url, directory / "functions", _port(), seed=11, start=start) as standin:
        yield Aws(standin, directory)


async def until(condition: Callable[[], bool], within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


WATCHED = Alarms(cloudwatch=(sample.ALARM,), every=1.0)
HOOKED = FunctionHooks(before_allow_traffic=sample.HOOK, after_allow_traffic=sample.HOOK)
