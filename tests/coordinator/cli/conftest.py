"""A coordinator's API without a coordinator: it answers what a test laid down, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shiftwork_coordinator.cli import main

TOKEN = "swt_test"


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Film:
    """What a deployment's event stream shows. Each step is played once; history is played again to who missed it."""

    steps: list[tuple[str, Any]]
    at: int = 0
    told: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


@dataclass
class FakeCoordinator:
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    films: dict[str, Film] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    refuse: int = 0
    """How many requests are still answered 503."""
    forgetful: bool = False
    """Sends the whole history again to everyone, whatever they have seen."""
    url: str = ""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a film comes to a `hold`, which lasts for ever."""

    def on(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        """Bytes are sent as they are, (bytes, n) breaks off after them and refuses the next n requests, a function is
        called with the query, all else is sent as JSON."""
        self.answers[method, path] = (status, answer)

    def film(self, deployment: str, *steps: tuple[str, Any]) -> None:
        """Steps: ("history", entry), ("view", view), ("drop", n): the connection breaks, the next n requests fail,
        ("garbage", text), ("cut", view): the stream ends there, ("hold", None)."""
        self.films[deployment] = Film(list(steps))

    def bodies(self, method: str, path: str) -> list[Any]:
        return [each.body for each in self.asked if (each.method, each.path) == (method, path)]

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/v1/deployments/{id}/events", self._events)
        app.router.add_get("/v1/deployments/{id}", self._deployment)
        app.router.add_route("*", "/{path:.*}", self._any)
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if request.content_type == "application/json" and raw else raw
        self.asked.append(Asked(request.method, request.path, dict(request.query), body, dict(request.headers)))
        if request.remote and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "Denied", "cannot let you in without a valid token")
        if self.refuse:
            self.refuse -= 1
            return _error(503, "Unavailable", "cannot answer yet: the lease is not held")
        return await handler(request)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        status, answer = self.answers.get((request.method, request.path), (404, None))
        if answer is None and status == 404:
            return _error(404, "NotFound", f"cannot find {request.path}: there is no such thing")
        if callable(answer):
            answer = answer(dict(request.query))
        if isinstance(answer, bytes):
            return web.Response(status=status, body=answer)
        if isinstance(answer, tuple):
            begun, self.refuse = answer
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(begun)
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.json_response(answer, status=status)

    async def _deployment(self, request: web.Request) -> web.StreamResponse:
        view = self.views.get(request.match_info["id"])
        return web.json_response(view) if view else await self._any(request)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        film = self.films.get(request.match_info["id"])
        if film is None:
            return _error(404, "NotFound", "cannot find the deployment: there is none with this id")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        seen = 0 if self.forgetful else int(request.headers.get("Last-Event-ID", "0"))
        for number, entry in film.told:
            if number > seen:
                await _send(response, "history", entry, number)
        await self._play(film, request, response)
        return response

    async def _play(self, film: Film, request: web.Request, response: web.StreamResponse) -> None:
        while film.at < len(film.steps):
            kind, what = film.steps[film.at]
            film.at += 1
            if kind == "history":
                film.told.append((len(film.told) + 1, what))
                await _send(response, "history", what, len(film.told))
            elif kind == "view":
                self.views[what["deploymentId"]] = what
                await _send(response, "view", what)
            elif kind == "garbage":
                await response.write(f"event: view\ndata: {what}\n\n".encode())
            elif kind == "cut":
                self.views[what["deploymentId"]] = what
                return
            elif kind == "hold":
                self.reached.set()
                await asyncio.Event().wait()
            else:
                self.refuse = what
                assert request.transport is not None
                request.transport.abort()
                return


async def _send(response: web.StreamResponse, kind: str, what: Any, number: int | None = None) -> None:
    told = f"id: {number}\n" if number is not None else ""
    await response.write(f"{told}event: {kind}\ndata: {json.dumps(what)}\n\n".encode())


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[FakeCoordinator]:
    fake = FakeCoordinator()
    server = TestServer(fake.application())
    await server.start_server(shutdown_timeout=0.05)
    fake.url = str(server.make_url("")).rstrip("/")
    for name in ("SHIFTWORK_DATA", "SHIFTWORK_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHIFTWORK_URL", fake.url)
    monkeypatch.setenv("SHIFTWORK_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield fake
    await server.close()


@pytest.fixture
def cli() -> Cli:
    """Runs the command in a thread, as its own loop wants it; an exception that is not an exit fails the test."""

    def run(*args: str, stdin: str = "") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        before, sys.stdin = sys.stdin, io.StringIO(stdin)
        try:
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main(args)
        finally:
            sys.stdin = before
        return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    async def in_thread(*args: str, stdin: str = "") -> Ran:
        return await asyncio.to_thread(run, *args, stdin=stdin)

    return in_thread


@pytest.fixture
def view() -> Callable[..., dict[str, Any]]:
    """A deployment as the API gives it: four instances, half at a time, the first batch under way."""
    return deployment


def deployment(status: str = "InProgress", **changes: Any) -> dict[str, Any]:
    overview = {"Pending": 2, "InProgress": 2, "Succeeded": 0, "Failed": 0, "Skipped": 0, "Ready": 0}
    base = {
        "deploymentId": "d-4K7Q2M9XA",
        "applicationName": "web",
        "deploymentGroupName": "production",
        "deploymentConfigName": "CodeDeployDefault.HalfAtATime",
        "computePlatform": "Server",
        "status": status,
        "creator": "user",
        "createdBy": "root",
        "description": "",
        "createTime": 1000.0,
        "startTime": 1000.0,
        "completeTime": None,
        "revision": {"identity": "sha256:" + "a" * 64, "url": "coordinator:"},
        "previousRevision": None,
        "deploymentOverview": overview,
        "errorInformation": None,
        "rollbackInfo": {
            "rollbackDeploymentId": "",
            "rollbackTriggeringDeploymentId": "",
            "rollbackMessage": "",
        },
        "minimumHealthyHosts": 2,
        "inService": 2,
        "minimumInService": 2,
        "batch": 1,
        "batches": 2,
        "bakeUntil": None,
        "waiting": [],
        "targets": [target(f"web-{n}", batch=1 if n < 3 else 0) for n in range(1, 5)],
    }
    return base | changes


def target(name: str, status: str = "Pending", batch: int = 0, events: Any = (), **changes: Any) -> dict[str, Any]:
    base = {
        "targetId": name,
        "address": "127.77.0.1",
        "status": status,
        "batch": batch,
        "traffic": "out" if status == "InProgress" else "",
        "inService": status != "InProgress",
        "agent": {"connected": True, "lastSeen": 1.0},
        "requestsCut": None,
        "startTime": 1000.0,
        "completeTime": None,
        "errorInformation": None,
        "lifecycleEvents": list(events),
    }
    return base | changes


@pytest.fixture
def make_target() -> Callable[..., dict[str, Any]]:
    return target
