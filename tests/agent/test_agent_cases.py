"""The table in agent-cases.yaml, run through the agent's own installer and shim, and where we differ from it."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from shiftwork_agent.clock import SystemClock
from shiftwork_agent.layout import Layout
from shiftwork_agent.local import local_command
from shiftwork_agent.local_run import Deployment, EventResult, LocalRun, Wish
from shiftwork_contract.appspec import parse_server
from shiftwork_contract.diagnostics import ErrorCode
from shiftwork_contract.errors import ContractViolation, InvalidRequest
from shiftwork_contract.lifecycle import IN_PLACE, EventStatus
from shiftwork_contract.messages import from_coordinator

Case = Mapping[str, Any]
CASES: dict[str, Case] = {
    case["id"]: case for case in yaml.safe_load(Path(__file__).with_name("agent-cases.yaml").read_text())["cases"]
}
EARLY = "what is wrong with a revision is found by DownloadBundle, while the old one still serves"

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (EARLY, {"failed_event": "DownloadBundle"})
        for name in CASES
        if name.startswith(("spec-", "files-dup", "files-no-glob", "perm-except", "exists-spec"))
        and CASES[name]["expect"]["result"] == "failed"
    },
    "perm-unknown-owner": (
        f"{EARLY}; and nothing is copied",
        {"failed_event": "DownloadBundle", "dest": {}, "dest_absent": True},
    ),
    "perm-setuid-lost": ("the owner is set before the mode", {"dest": {"a.txt": {"mode": "4755", "owner": "nobody"}}}),
    "link-dir": ("links are kept, to directories too", {"dest": {"dl": {"link": "sub"}, "sub/z": {"text": "Z"}}}),
    "spec-name-yaml": ("appspec.yaml works everywhere", {"result": "succeeded", "dest": {"a.txt": {"text": "A"}}}),
    "hook-env": (
        "bundles do not come from a bucket; the group's id in local use is its name",
        {"stdout": ["AfterInstall|${DEPLOYMENT}|MyApp|${GROUP}|${GROUP}", "b="]},
    ),
}
"""Cases in which we differ: why, and what we do instead."""

APART = {
    "exists-bad-option-unused": "an unknown behavior is refused, wanted or not",
    "hook-unknown-listed": "the list of events is an argument of the parser",
    "proto-missing-deploymentid": "another protocol: a command without deploymentId cannot be read",
    "proto-missing-applicationname": "another protocol: a command without application cannot be read",
    "proto-ack-succeeded": "another protocol: a command that is delivered again is not run again; see test_executor.py",
    "proto-unknown-command": "another protocol: an event that is no lifecycle event needs a hook of that name",
    "local-custom-missing": "refused before anything runs",
    "local-bad-type": "refused before anything runs",
    "local-no-appspec": "refused before anything runs",
    "local-script-fails": "on the command line",
}
"""Cases with a test of their own below."""

CODES = {1: ErrorCode.SCRIPT_MISSING, 4: ErrorCode.SCRIPT_FAILED, 5: ErrorCode.UNKNOWN_ERROR}


class Stage:
    """One case's directory, with the agent's state in it."""

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.dest, self.group = tmp, tmp / "dest", "group1"
        self.layout = Layout(tmp / "state")
        self.layout.create()
        self.output: dict[str, list[str]] = {}
        self.count = 0

    def filled(self, text: str) -> str:
        return text.replace("${DEST}", str(self.dest)).replace("${GROUP}", self.group)

    def archive(self, case: Case, options: Mapping[str, Any]) -> Path:
        self.count += 1
        kind = options.get("bundle_type", "tar")
        path = self.tmp / f"bundle{self.count}.{kind}"
        if "raw_bundle" in options:
            path.write_text(options["raw_bundle"])
            return path
        files = dict(case["files"])
        if case["appspec"] is not None:
            name = options.get("write_appspec_as", "appspec.yml")
            files[name] = {"text": self.filled(case["appspec"])}
        path.write_bytes(zipped(files) if kind == "zip" else tarred(files))
        return path

    async def deploy(self, case: Case, options: Mapping[str, Any], group: str = "") -> Deployment:
        self.output = {}
        is_local = case.get("runner") == "local"
        wish = Wish(
            bundle=self.archive(case, options),
            events=tuple(options.get("events", () if is_local else IN_PLACE)),
            application="MyApp",
            group=group or self.group,
            file_exists_behavior=options.get("file_exists_behavior", "DISALLOW"),
        )
        return await LocalRun(wish, self.layout, SystemClock(), self._told).run()

    def _told(self, result: EventResult, directory: Path) -> None:
        path = directory / "output"
        self.output[result.lifecycle_event_name] = path.read_text().splitlines() if path.exists() else []


def tarred(files: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1_700_000_000, int(what.get("mode", "0644"), 8)
            content = what.get("text", "").encode()
            if "link" in what:
                info.type, info.linkname = tarfile.SYMTYPE, what["link"]
            elif "dir" in what:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, what in files.items():
            made.writestr(name, what.get("text", ""))
    return out.getvalue()


def put(root: Path, files: Mapping[str, Any]) -> None:
    for name, what in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(what["text"])
        (root / name).chmod(int(what.get("mode", "0644"), 8))


@pytest.mark.parametrize("name", sorted(set(CASES) - set(APART)))
async def test_case(name: str, tmp_path: Path) -> None:
    case, stage = CASES[name], Stage(tmp_path)
    if "owner" in case["appspec"] and os.getuid() != 0:
        pytest.skip("changing owners takes root")
    given, options = case.get("given", {}), case.get("options", {})
    put(stage.dest, given.get("dest", {}))
    for earlier in given.get("earlier", ()):
        done = await stage.deploy(earlier, {}, stage.filled(earlier.get("group", "")))
        assert done.status == "Succeeded"
    put(stage.dest, given.get("then_dest", {}))
    began = time.monotonic()
    deployment = await stage.deploy(case, options)
    expect = case["expect"] | (OURS[name][1] if name in OURS else {})
    assert time.monotonic() - began <= expect.get("max_seconds", 60)
    assert deployment.status.lower() == expect["result"], deployment
    if expect["result"] == "failed":
        check_failure(expect, deployment)
    check_output(expect, stage, deployment)
    check_files(expect, stage.dest)


def check_failure(expect: Case, deployment: Deployment) -> None:
    failed = next(event for event in deployment.lifecycle_events if event.status is EventStatus.FAILED)
    diagnostics = failed.diagnostics
    assert failed.lifecycle_event_name == expect["failed_event"]
    assert diagnostics.error_code is CODES[expect["error_code"]]
    for part in expect["error_mentions"]:
        assert part.lower() in diagnostics.message.lower()
    assert len(diagnostics.log_tail) <= expect.get("log_max_chars", 1 << 20)
    assert all(part in diagnostics.log_tail for part in expect.get("log_contains", ()))
    assert not any(part in diagnostics.log_tail for part in expect.get("log_absent", ()))


def check_output(expect: Case, stage: Stage, deployment: Deployment) -> None:
    lines = [line for event in deployment.lifecycle_events for line in stage.output.get(event.lifecycle_event_name, ())]
    if "stdout" in expect:
        assert lines == [stage.filled(s).replace("${DEPLOYMENT}", deployment.deployment_id) for s in expect["stdout"]]
    assert set(expect.get("stdout_contains", ())) <= set(lines)
    scriptless = {"DownloadBundle", "Install"}
    for event, noop in expect.get("noop", {}).items():
        assert event in scriptless or noop == (not stage.output[event])


def check_files(expect: Case, dest: Path) -> None:
    assert not (expect.get("dest_absent") and dest.exists())
    for name, what in expect.get("dest", {}).items():
        path = dest / name
        assert path.exists() != what.get("absent", False), name
        assert "text" not in what or path.read_text() == what["text"]
        assert "link" not in what or str(path.readlink()) == what["link"]
        assert not what.get("dir") or (path.is_dir() and not path.is_symlink())
        assert "mode" not in what or f"{path.stat().st_mode & 0o7777:04o}" == what["mode"].zfill(4)
        assert "owner" not in what or path.owner() == what["owner"]
        assert "group" not in what or path.group() == what["group"]
    for name in expect.get("keeps_mtime", ()):
        assert (dest / name).stat().st_mtime == 1_700_000_000


def test_every_difference_is_in_the_table() -> None:
    assert set(OURS) | set(APART) <= set(CASES)
    assert not set(OURS) & set(APART)
    assert len(CASES) == 42


def run(*arguments: str) -> Any:
    return CliRunner().invoke(local_command, list(arguments))


def test_an_unknown_behavior_is_refused(tmp_path: Path) -> None:
    done = run("--bundle", str(tmp_path), "--file-exists-behavior", "BANANA", "--state", str(tmp_path / "s"))
    assert done.exit_code == 2 and "BANANA" in done.output


def test_a_hook_outside_a_given_list_of_events_is_refused() -> None:
    case = CASES["hook-unknown-listed"]
    with pytest.raises(InvalidRequest, match="Mystery"):
        parse_server(case["appspec"], events=case["options"]["all_possible_lifecycle_events"])
    assert "Mystery" in parse_server(case["appspec"]).warnings[0]


@pytest.mark.parametrize("field", ["deploymentId", "application"])
def test_a_command_without_what_it_needs_cannot_be_read(field: str) -> None:
    command = {"id": "1", "deploymentId": "d", "groupId": "g", "application": "a", "group": "g", "sequence": 1,
               "revision": {"identity": "sha256:", "url": "coordinator:"}}  # fmt: skip
    del command[field]
    with pytest.raises(ContractViolation, match=field):
        from_coordinator(json.dumps({"kind": "RunCommand", "epoch": 1, "command": command}))


@pytest.mark.parametrize("event", ["Bogus", "Smoke"])
async def test_a_made_up_event_needs_a_hook_of_that_name(event: str, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(InvalidRequest, match=event):
        await stage.deploy(CASES["local-custom-missing"], {"events": [event]})
    with_hook = CASES["hook-not-executable"] | {
        "appspec": f"version: 0.0\nos: linux\nhooks:\n  {event}:\n    - location: s.sh\n"
    }
    done = await stage.deploy(with_hook, {"events": [event]})
    assert [one.lifecycle_event_name for one in done.lifecycle_events] == ["DownloadBundle", "Install", event]
    assert stage.output[event] == ["ran"]


def test_an_unknown_bundle_type_is_refused(tmp_path: Path) -> None:
    done = run("--bundle", str(tmp_path), "--type", "rar", "--state", str(tmp_path / "s"))
    assert done.exit_code == 2 and "rar" in done.output


async def test_a_directory_without_appspec_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(InvalidRequest, match=r"appspec\.yml"):
        await stage.deploy(CASES["local-no-appspec"], {})
    assert not stage.output


def test_a_failing_script_ends_the_run_and_points_to_its_output(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "appspec.yml").write_text(CASES["local-script-fails"]["appspec"])
    (bundle / "s.sh").write_text("#!/bin/sh\necho last words\nexit 3\n")
    done = run("--bundle", str(bundle), "--state", str(tmp_path / "s"))
    assert done.exit_code == 1
    assert "last words" in done.output and "exited with code 3" in done.output and "/AfterInstall/output" in done.output
