"""The stand-in for AWS: `python -m shiftwork_coordinator.lab.aws.standin PORT MOTO_URL DIRECTORY LAB IMAGE NAME`.

Every request is told apart, recorded, perhaps harmed, and answered by the service's own handler or by moto. Under
`/_lab/` it answers for itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.lab import plan
from shiftwork_coordinator.lab.aws import calls, query, services
from shiftwork_coordinator.lab.aws.balancing import router
from shiftwork_coordinator.lab.aws.balancing.elbv2 import Balancing
from shiftwork_coordinator.lab.aws.containers.ecs import Services
from shiftwork_coordinator.lab.aws.containers.running import Start, TaskProcesses
from shiftwork_coordinator.lab.aws.containers.scheduler import Scheduler
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, refusal
from shiftwork_coordinator.lab.aws.faults import Dropped, Faults
from shiftwork_coordinator.lab.aws.fleets.autoscaling import ScalingGroups
from shiftwork_coordinator.lab.aws.fleets.ec2 import Ec2
from shiftwork_coordinator.lab.aws.fleets.hosts import AgentHosts, ContainerHosts, Hosts
from shiftwork_coordinator.lab.aws.fleets.launcher import Launcher
from shiftwork_coordinator.lab.aws.fleets.waiting import Waits
from shiftwork_coordinator.lab.aws.functions import Functions
from shiftwork_coordinator.lab.aws.metrics import Metrics
from shiftwork_coordinator.lab.aws.moto import HOP, Moto
from shiftwork_coordinator.lab.aws.own import NAME, Own
from shiftwork_coordinator.lab.aws.recording import Recording
from shiftwork_coordinator.lab.aws.runner import Runner
from shiftwork_coordinator.ports import Clock

MOST = 80 << 20
OWN = "/_lab/"


class StandIn:
    """`url` is its endpoint for every service. What is public may be used directly by tests."""

    def __init__(
        self,
        upstream: Moto,
        runner: Runner,
        start: Start,
        hosts: Hosts,
        requests: aiohttp.ClientSession,
        clock: Clock,
        later: Callable[[Any], object],
        seed: int | None,
    ) -> None:
        self.clock, self.faults, self.recording = clock, Faults(), Recording()
        self.metrics = Metrics(upstream, clock)
        self.functions = Functions(runner, self.metrics, clock, later, seed)
        self.balancing = Balancing(upstream, requests, self.metrics, clock, seed)
        self.url = ""
        self._moto, self._later = upstream, later
        self.scheduler = Scheduler(start, self.balancing, clock, later)
        containers = Services(upstream, self.scheduler, self.balancing)
        waits = Waits(upstream, clock)
        self.launcher = Launcher(upstream, hosts, self.balancing, waits, later)
        groups = ScalingGroups(upstream, self.launcher, waits)
        self._own = Own(self.recording, self.faults, self.functions, self.balancing, self.scheduler, self.launcher)
        self._table = services.table(
            self.functions, self.metrics, self.balancing, containers, groups, Ec2(self.launcher)
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(OWN):
            return await self._owned(request)
        asked, at = await _asked(request), self.clock.now()
        status = 0
        try:
            answered = await self._answered(asked)
            status = answered.status
        except Dropped:
            return _cut(request)
        except ShiftworkError as err:
            return _response(refusal("ServiceException", err.message, 503))
        finally:
            self.recording.add(asked, at, self.clock.now(), status)
        return _response(answered)

    async def _answered(self, asked: Asked) -> Answer:
        due = self.faults.due(asked)
        for fault in (f for f in due if not f.late):
            if fault.kind == "lag":
                self._later(self._lagging(asked, fault.seconds))
                return query.answer(asked.call.service, asked.call.operation)
            if (instead := await self.faults.strike(fault, asked)) is not None:
                return instead
        answered = await self._done(asked)
        self.faults.remember(asked, answered)
        for fault in (f for f in due if f.late):
            if (instead := await self.faults.strike(fault, asked)) is not None:
                return instead
        return answered

    async def _done(self, asked: Asked) -> Answer:
        handler = self._table.get((asked.call.service, asked.call.operation))
        return await (handler(asked, self._pass) if handler else self._pass(asked))

    async def _lagging(self, asked: Asked, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._done(asked)

    async def _pass(self, asked: Asked) -> Answer:
        return await self._moto.ask(asked.method, asked.path, asked.headers, asked.body)

    async def _owned(self, request: web.Request) -> web.Response:
        what, given = request.path.removeprefix(OWN), await request.read()
        try:
            return web.json_response(body=self._own.answer(request.method, what, request.query, given))
        except msgspec.MsgspecError as err:
            return web.json_response({"message": f"cannot take {request.method} {what}: {err}"}, status=400)


async def _asked(request: web.Request) -> Asked:
    body = await request.read()
    call = calls.parse(request.method, request.raw_path.partition("?")[0], request.query_string, request.headers, body)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
    by_shiftwork = NAME in request.headers.get("User-Agent", "")
    return Asked(call, request.method, request.raw_path, headers, body, by_shiftwork)


def _response(answered: Answer) -> web.Response:
    return web.Response(status=answered.status, body=answered.body, headers=answered.headers)


def _cut(request: web.Request) -> web.Response:
    """What the client sees is a connection that was closed without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


@asynccontextmanager
async def running(
    moto_url: str,
    directory: Path,
    port: int = 0,
    clock: Clock | None = None,
    seed: int | None = None,
    start: Start | None = None,
    hosts: Hosts | None = None,
) -> AsyncIterator[StandIn]:
    """A stand-in that listens on 127.0.0.1; afterwards no function and no task of it runs. `start` runs a task, else a
    process is one; `hosts` runs instances, else they are agents of the lab in `directory`."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        router.session() as requests,
        asyncio.TaskGroup() as tasks,
    ):
        environment: dict[str, str] = {}
        runner, tasks_run, begun = (
            Runner(directory, environment),
            TaskProcesses(directory / "tasks"),
            set[asyncio.Task[None]](),
        )

        def later(work: Coroutine[Any, Any, Any]) -> None:
            task = tasks.create_task(_told(work))
            begun.add(task)
            task.add_done_callback(begun.discard)
            task.add_done_callback(lambda _: work.close())  # of one that was cancelled before it began

        moto, told_by = Moto(moto_url, session), clock or SystemClock()
        run, machines = start or tasks_run.start, hosts or AgentHosts(directory)
        standin = StandIn(moto, runner, run, machines, requests, told_by, later, seed)
        app = web.Application(client_max_size=MOST)
        app.router.add_route("*", "/{path:.*}", standin.handle)
        server = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", port).start()
        standin.url = f"http://127.0.0.1:{server.addresses[0][1]}"
        environment.update(plan.credentials(standin.url))
        works = (standin.metrics.run, standin.balancing.targets.run, standin.scheduler.run)
        watching = [tasks.create_task(work()) for work in works]
        try:
            yield standin
        finally:
            await server.cleanup()
            for task in (*watching, *begun):
                task.cancel()
            await standin.launcher.metadata.close_all()
            await standin.balancing.router.close()
            await tasks_run.close()
            await runner.close()


async def _told(work: Awaitable[Any]) -> None:
    """An invocation that nobody awaits: what goes wrong with it stands in the log."""
    try:
        await work
    except ShiftworkError as err:
        print(err.message, file=sys.stderr)


async def _serve(port: int, moto_url: str, directory: Path, lab: Path, image: str, name: str) -> None:
    tasks = TaskProcesses(directory / "tasks", image, name)
    hosts = ContainerHosts(lab) if image else AgentHosts(lab)
    async with running(moto_url, directory, port, start=tasks.start, hosts=hosts):
        try:
            await asyncio.Event().wait()
        finally:
            await tasks.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:7]))
