"""The shim alone: what it starts, what it ends, what it writes down."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shiftwork_agent import hooks, shim
from shiftwork_agent.hooks import EventRun, Lost, Result, Shim
from shiftwork_agent.testing import FakeHook
from shiftwork_contract.diagnostics import ErrorCode


class Stage:
    """Runs scripts as one event, through one shim."""

    def __init__(self, root: Path) -> None:
        self.bundle, self.directory = root / "bundle", root / "command" / "Event"
        self.bundle.mkdir()
        self.shim = Shim.start(self.directory.parent)
        self.count = 0

    def script(self, text: str, mode: int = 0o755, **options: Any) -> FakeHook:
        self.count += 1
        path = self.bundle / f"{self.count}.sh"
        path.write_text(text)
        path.chmod(mode)
        return FakeHook(path.name, **options)

    def event(self, *scripts: FakeHook, limit: float = 60.0, output_limit: int = 1 << 20, **env: str) -> EventRun:
        self.directory.mkdir(exist_ok=True)
        environment = hooks.clean_environment(env)
        return EventRun(self.directory, self.bundle, scripts, environment, limit, output_limit)

    async def run(self, *scripts: FakeHook, **options: Any) -> tuple[Result | Lost, bytes]:
        event = self.event(*scripts, **options)
        self.shim.submit(event)
        return await self.end(event)

    async def end(self, event: EventRun) -> tuple[Result | Lost, bytes]:
        result = await hooks.follow(self.shim, self.directory, event.output_limit, lambda size: None)
        return result, hooks.read_output(self.directory, 0, 1 << 30)

    async def until_output(self, text: bytes) -> None:
        while text not in hooks.read_output(self.directory, 0, 1 << 20):
            await self.shim.wait(0.02)


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    await made.shim.close()


async def test_scripts_run_one_after_the_other_and_the_first_failure_ends_the_event(stage: Stage) -> None:
    scripts = [stage.script("#!/bin/sh\necho a\n"), stage.script("echo b >&2; exit 7\n"), stage.script("echo c\n")]
    result, output = await stage.run(*scripts)
    assert result == Result(1, "failed", 7, 4) and output == b"a\nb\n"


async def test_a_hook_gets_a_clean_environment_and_its_bundle_as_directory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_KEY", "secret")
    script = stage.script("pwd; umask; env | sort; cat; ls -l /proc/self/fd | wc -l\n")
    _, output = await stage.run(script, LIFECYCLE_EVENT="Event")
    lines = output.decode().splitlines()
    assert lines[:2] == [str(stage.bundle), "0022"]
    names = {line.partition("=")[0] for line in lines[2:-1]}
    assert names == {"PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL", "LIFECYCLE_EVENT", "PWD"}
    assert lines[-1] == "5"  # a heading, three descriptors, and the directory that ls reads


async def test_signals_are_as_a_script_expects_them(stage: Stage) -> None:
    shell = stage.script("grep SigIgn /proc/self/status; yes | head -1\n")
    python = stage.script(
        f"#!{sys.executable} -I\nprint(*(line for line in open('/proc/self/status') if 'SigBlk' in line))"
    )
    result, output = await stage.run(shell, python)
    assert isinstance(result, Result) and result.outcome == "succeeded"
    masks = [int(line.split()[1], 16) for line in output.decode().splitlines() if "Sig" in line]
    # 32 and 33 belong to the C library: make starts its children with them ignored, and nobody can change that.
    assert [mask & ~0x1_8000_0000 for mask in masks] == [0, 0]


async def test_shim_and_script_lead_a_session_and_a_group_of_their_own(stage: Stage) -> None:
    script = stage.script(f"#!{sys.executable} -I\nimport os\nprint(os.getpid(), os.getpgrp(), os.getsid(0))\n")
    _, output = await stage.run(script)
    pid, group, session = map(int, output.split())
    assert stage.shim._process is not None
    assert pid == group and session == stage.shim._process.pid


async def test_a_script_that_ignores_term_is_killed(stage: Stage) -> None:
    result, _ = await stage.run(stage.script("trap '' TERM; while :; do sleep 0.1; done\n", timeout=0.2))
    assert result == Result(0, "timed_out", signal.SIGKILL, 0)


async def test_children_of_a_script_that_is_ended_end_with_it(stage: Stage) -> None:
    forking = "#!/bin/sh\ntrap '' TERM\nfor n in 1 2 3; do sh -c 'sh -c \"sleep 60\" & wait' & echo $!; done\nwait\n"
    result, output = await stage.run(stage.script(forking, timeout=0.3))
    assert isinstance(result, Result) and result.outcome == "timed_out"
    children = [int(line) for line in output.split()]
    assert len(children) == 3 and all(shim._stat(pid)[:1] in ([], [b"Z"]) for pid in children)


async def test_binary_output_is_kept_byte_for_byte(stage: Stage) -> None:
    event = stage.event(stage.script("printf '\\000\\377\\033[31mred\\n'; exit 1\n"))
    stage.shim.submit(event)
    result, output = await stage.end(event)
    assert output == b"\0\xff\x1b[31mred\n"
    assert hooks.diagnose(result, event, "r1").log_tail == "\0\ufffd\x1b[31mred\n"


async def test_the_events_limit_covers_all_its_scripts(stage: Stage) -> None:
    scripts = [stage.script("sleep 0.2\n"), stage.script("sleep 600\n")]
    result, _ = await stage.run(*scripts, limit=2.0)
    assert isinstance(result, Result) and (result.script, result.outcome) == (1, "timed_out")


async def test_a_background_child_does_not_hold_the_event_and_survives(stage: Stage) -> None:
    script = stage.script("(sleep 0.3; echo later; touch survived; sleep 30) & echo started $!\n")
    result, output = await stage.run(script)
    assert isinstance(result, Result) and result.outcome == "succeeded"
    pid = int(output.split()[1])
    await stage.until_output(b"later")
    os.kill(pid, signal.SIGKILL)


async def test_an_unknown_user_is_a_clear_failure(stage: Stage) -> None:
    event = stage.event(stage.script("true\n", runas="nobody-has-this-name"))
    stage.shim.submit(event)
    result, _ = await stage.end(event)
    told = hooks.diagnose(result, event, "r1")
    assert told.error_code is ErrorCode.SCRIPT_FAILED and "as 'nobody-has-this-name'" in told.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_a_script_runs_as_another_user(stage: Stage) -> None:
    for path in (stage.bundle, *stage.bundle.parents):
        if path.owner() == "root" and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o755)
    _, output = await stage.run(stage.script("#!/bin/sh\nid -un; id -gn; echo $HOME $USER\n", runas="nobody"))
    assert output.split() == [b"nobody", b"nogroup", b"/nonexistent", b"nobody"]


async def test_a_missing_script_and_one_behind_a_link_are_not_run(stage: Stage) -> None:
    result, _ = await stage.run(FakeHook("gone.sh"))
    assert isinstance(result, Result) and result.outcome == "missing"
    (stage.directory / "claim.0").unlink()
    (stage.bundle / "link.sh").symlink_to("/bin/true")
    result, _ = await stage.run(FakeHook("link.sh"))
    assert isinstance(result, Result) and result.outcome == "link"
    (stage.directory / "claim.0").unlink()
    (stage.bundle / "bin").symlink_to("/bin")
    result, _ = await stage.run(FakeHook("bin/true"))
    assert isinstance(result, Result) and result.outcome == "link"


async def test_a_script_that_is_not_executable_is_made_so(stage: Stage) -> None:
    _, output = await stage.run(stage.script("#!/bin/sh\necho ran\n", mode=0o644))
    assert (output, (stage.bundle / "1.sh").stat().st_mode & 0o777) == (b"ran\n", 0o755)


async def test_a_bad_interpreter_is_told(stage: Stage) -> None:
    event = stage.event(stage.script("#!/no/such/shell\n"))
    stage.shim.submit(event)
    result, _ = await stage.end(event)
    told = hooks.diagnose(result, event, "r1").message
    assert "cannot start 1.sh: No such file or directory: this host lacks the program of its first line (#!)" in told


async def test_a_flood_of_output_is_bounded_and_keeps_its_end(stage: Stage) -> None:
    script = stage.script("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1\n")
    event = stage.event(script, output_limit=100_000)
    stage.shim.submit(event)
    result, output = await stage.end(event)
    assert len(output) < 100_000 + shim.LAST + 100 and output.startswith(b"x" * 100_000)
    assert b"bytes of output cut here]" in output and output.endswith(b"x\nthe end\n")
    assert hooks.diagnose(result, event, "r1").log_tail == "the end\n"


async def test_a_claimed_script_is_not_started_again(stage: Stage) -> None:
    script = stage.script("echo x >> ran\n")
    await stage.run(script)
    (stage.directory / "result").unlink()
    result, _ = await stage.run(script)
    assert isinstance(result, Result) and result.outcome == "interrupted"
    assert (stage.bundle / "ran").read_text() == "x\n"


async def test_a_killed_shim_is_noticed_and_its_script_ended(stage: Stage) -> None:
    event = stage.event(stage.script("echo $$; exec sleep 60\n"))
    stage.shim.submit(event)
    await stage.until_output(b"\n")
    script = int(hooks.read_output(stage.directory, 0, 100))
    assert stage.shim._process is not None
    stage.shim._process.kill()
    result, _ = await stage.end(event)
    assert result == Lost(begun=True)
    while shim._stat(script)[:1] not in ([], [b"Z"]):
        await asyncio.sleep(0.01)
    assert "interrupted" in hooks.diagnose(result, event, "r1").message
