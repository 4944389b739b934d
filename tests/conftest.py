"""What tests of several parts share: who runs beside whom, an empty database, and AWS's control plane as moto's server.

`make test WORKERS=2` runs two tests at a time. What is under traffic, labs above all, runs one after the other in one
worker, the machines on which packages live in the other, both from the beginning because they take longest. All other
files fill the gaps, one worker to a file; they and the building of packages give way to traffic.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SYSTEM = Path(__file__).parent / "system"
TRAFFIC, MACHINES = "traffic", "machines"


def _group(path: Path) -> str:
    if path.name == "test_balancer_suite.py":
        return TRAFFIC
    if not path.is_relative_to(SYSTEM):
        return str(path)
    return MACHINES if path.parent != SYSTEM or path.stem == "test_bootstrap" else TRAFFIC


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_worker(config):
        first = {TRAFFIC: 0, MACHINES: 1}
        items.sort(key=lambda item: first.get(_group(item.path), 2))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _is_worker(item.config) and _group(item.path) != TRAFFIC:
        os.setpriority(os.PRIO_PROCESS, 0, 5)


@pytest.fixture(scope="session")
def _no_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from shiftwork_coordinator.store.migrate import migrate
    from shiftwork_coordinator.store.store import engine_for

    path = tmp_path_factory.mktemp("store") / "shiftwork.db"
    engine = engine_for(str(path))
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(_no_rows: Path, tmp_path: Path) -> Path:
    """An empty one at `tmp_path`/shiftwork.db: a copy, because making the tables takes longer than most tests do."""
    return Path(shutil.copy(_no_rows, tmp_path))


class MotoServer:
    """`url` is its endpoint for every service; `reset` takes away everything that was made in it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._await()

    def _await(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=60):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=60).close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.close()


@pytest.fixture
def aws(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    """An empty account: endpoint, region and credentials stand in the environment, where boto3 finds them."""
    from shiftwork_coordinator.aws import clients

    moto_server.reset()
    for name, value in {
        "AWS_ENDPOINT_URL": moto_server.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIDTESTTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    clients.forget()
    yield moto_server
    clients.forget()
