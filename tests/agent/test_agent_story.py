"""A real agent process: joined over TLS, deploying, killed in the middle of a hook, started again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from shiftwork_agent.testing import FakeCoordinator
from shiftwork_contract.lifecycle import THE_SEVEN, EventStatus
from shiftwork_contract.messages import (
    Certificate,
    Command,
    CommandEnded,
    EventEnded,
    Heartbeat,
    Output,
    RunCommand,
)
from shiftwork_contract.revision import Revision

APPSPEC = """\
version: 0.0
os: linux
files:
  - source: index.html
    destination: /srv/site
hooks:
  AfterInstall:
    - location: after.sh
      timeout: 60
  ValidateService:
    - location: validate.sh
"""
SLOW = "#!/bin/sh\necho one\nwhile [ ! -e $SHIFTWORK_INSTALL_ROOT/go ]; do sleep 0.02; done\necho two\n"


class Host:
    """One host's directories, and the agent process on it."""

    def __init__(self, root: Path, coordinator: FakeCoordinator, token: str) -> None:
        self.root, self.coordinator, self.token = root, coordinator, token
        self.install_root = root / "host"
        self.install_root.mkdir()
        self.places = ["--state", str(root / "state"), "--config", str(root / "agent.yml")]
        self.agent: asyncio.subprocess.Process | None = None
        self.sequence = 0

    async def call(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shiftwork_agent", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def join(self) -> None:
        root = ["--install-root", str(self.install_root), "--name", "web-1"]
        code, text = await self.call("join", self.coordinator.url, "--token", self.token, *root, *self.places)
        assert code == 0, text

    async def start(self) -> None:
        count = len(self.coordinator.hellos)
        self.agent = await asyncio.create_subprocess_exec(sys.executable, "-m", "shiftwork_agent", "run", *self.places)
        await self.coordinator.linked(count + 1)

    async def end(self, number: signal.Signals) -> int:
        assert self.agent is not None
        self.agent.send_signal(number)
        return await self.agent.wait()

    def revision(self, **files: str) -> Revision:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for name, text in {"appspec.yml": APPSPEC, "index.html": "hello\n", **files}.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(text), 0o755
                archive.addfile(member, io.BytesIO(text.encode()))
        digest = hashlib.sha256(data.getvalue()).hexdigest()
        path = self.root / f"{digest}.tgz"
        path.write_bytes(data.getvalue())
        return Revision(f"sha256:{digest}", path.as_uri(), "archive", archive_sha256=digest)

    async def deploy(self, revision: Revision) -> str:
        self.sequence += 1
        command = Command(
            f"c-{self.sequence}", f"d-{self.sequence}", "g-1", "web", "production", self.sequence, revision, THE_SEVEN
        )
        await self.coordinator.send(RunCommand(self.coordinator.epoch, command))
        return command.id


@pytest_asyncio.fixture
async def host(secure: FakeCoordinator, authority: Any, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path, secure, authority.token)
    await made.join()
    await made.start()
    yield made
    with contextlib.suppress(ProcessLookupError):
        await made.end(signal.SIGKILL)


async def test_an_agent_killed_in_the_middle_of_a_hook_is_succeeded_by_one_that_takes_it_over(host: Host) -> None:
    scripts = {"after.sh": SLOW, "validate.sh": "#!/bin/sh\necho valid\n"}
    command_id = await host.deploy(host.revision(**scripts))
    await host.coordinator.expect(Output, event="AfterInstall", data=b"one\n")
    assert await host.end(signal.SIGKILL) == -signal.SIGKILL
    await host.start()
    assert host.coordinator.hellos[-1].unfinished == (command_id,)
    (host.install_root / "go").touch()
    ended = await host.coordinator.expect(CommandEnded)
    assert (ended.status, ended.ran) == (EventStatus.SUCCEEDED, tuple(THE_SEVEN))
    assert host.coordinator.output(command_id, "AfterInstall") == b"one\ntwo\n"
    assert host.coordinator.output(command_id, "ValidateService") == b"valid\n"
    assert (host.install_root / "srv/site/index.html").read_text() == "hello\n"


async def test_a_hook_that_ended_while_no_agent_ran_is_still_known(host: Host) -> None:
    scripts = {"after.sh": SLOW + "touch $SHIFTWORK_INSTALL_ROOT/done; exit 4\n", "validate.sh": ""}
    await host.deploy(host.revision(**scripts))
    await host.coordinator.expect(Output, event="AfterInstall")
    await host.end(signal.SIGKILL)
    (host.install_root / "go").touch()
    while not (host.install_root / "done").exists():
        await asyncio.sleep(0.01)
    await host.start()
    event = await host.coordinator.expect(EventEnded, event="AfterInstall")
    assert "exited with code 4" in event.diagnostics.message and event.diagnostics.log_tail == "one\ntwo\n"


async def test_an_agent_that_is_stopped_leaves_its_hook_running(host: Host) -> None:
    command_id = await host.deploy(host.revision(**{"after.sh": SLOW, "validate.sh": "#!/bin/sh\n"}))
    await host.coordinator.expect(Output, event="AfterInstall")
    async with asyncio.timeout(60):
        assert await host.end(signal.SIGTERM) == 0
    await host.start()
    (host.install_root / "go").touch()
    assert (await host.coordinator.expect(CommandEnded)).status is EventStatus.SUCCEEDED
    assert host.coordinator.output(command_id, "AfterInstall") == b"one\ntwo\n"


async def test_status_tells_what_runs(host: Host) -> None:
    await host.deploy(host.revision(**{"after.sh": SLOW, "validate.sh": "#!/bin/sh\n"}))
    await host.coordinator.expect(Output, event="AfterInstall")
    async with asyncio.timeout(60):
        while "AfterInstall" not in (text := (await host.call("status", *host.places[:2]))[1]):
            await asyncio.sleep(0.05)
    assert f"connected to {host.coordinator.url}" in text and "web-1 (i-fake)" in text
    code, text = await host.call("status", "--output", "json", *host.places[:2])
    assert code == 0 and json.loads(text)["running"][0]["event"] == "AfterInstall"
    (host.install_root / "go").touch()
    await host.coordinator.expect(CommandEnded)


async def test_an_idle_agent_is_small(host: Host) -> None:
    beat = await host.coordinator.expect(Heartbeat)
    assert host.agent is not None
    rss = beat.agent_rss_bytes
    maps = Path(f"/proc/{host.agent.pid}/maps").read_text()
    assert rss <= 40 << 20, f"{rss / (1 << 20):.1f} MiB"
    assert "cryptography" not in maps and "psutil" not in maps


async def test_a_certificate_is_renewed_over_the_live_link(host: Host, authority: Any) -> None:
    about = host.root / "state" / "identity" / "identity.json"
    before = json.loads(about.read_text())
    csr = authority.joins[0]["csr"]
    about.write_text(json.dumps(before | {"expires": 1.0}))
    await host.coordinator.send(Certificate(authority.sign_request(csr), authority.ca))
    async with asyncio.timeout(60):
        while json.loads(about.read_text())["expires"] == 1.0:
            await asyncio.sleep(0.05)
    await host.coordinator.hang_up()
    await host.coordinator.linked(2)


async def test_a_state_directory_that_cannot_be_used_is_explained(host: Host) -> None:
    code, text = await host.call("run", *host.places)
    assert code == 2 and "another agent does" in text
    await host.end(signal.SIGTERM)
    (host.root / "state" / "ledger.jsonl").write_text("nonsense\n")
    code, text = await host.call("run", *host.places)
    assert code == 2 and "cannot read line 1 of" in text
