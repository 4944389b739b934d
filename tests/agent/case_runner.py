"""Runs the cases of agent-cases.yaml and more-cases.yaml through the command line, and compares what they expect."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from shiftwork_agent.cli import main
from shiftwork_contract.lifecycle import IN_PLACE

Case = Mapping[str, Any]
MTIME = 1_700_000_000
CODES = {
    0: "Success", 1: "ScriptMissing", 2: "ScriptNotExecutable", 3: "ScriptTimedOut", 4: "ScriptFailed",
    5: "UnknownError",
}  # fmt: skip


def cases(name: str) -> dict[str, Case]:
    found = yaml.safe_load(Path(__file__).with_name(name).read_text())["cases"]
    assert len({case["id"] for case in found}) == len(found)
    return {case["id"]: case for case in found}


class Stage:
    """One case's directory, with the agent's state in it."""

    def __init__(self, tmp: Path, *flags: str) -> None:
        self.tmp, self.dest, self.state, self.group, self.flags = tmp, tmp / "dest", tmp / "state", "group1", flags
        self.count = 0

    def filled(self, text: str, deployment: str = "") -> str:
        for name, value in (("DEST", str(self.dest)), ("GROUP", self.group), ("DEPLOYMENT", deployment)):
            text = text.replace(f"${{{name}}}", value)
        return text

    def bundle(self, case: Case, options: Mapping[str, Any]) -> Path:
        self.count += 1
        kind = options.get("bundle_type", "directory" if case.get("runner") == "local" else "tar")
        path = self.tmp / f"bundle{self.count}.{kind}"
        if "raw_bundle" in options:
            path.write_text(options["raw_bundle"])
            return path
        files = dict(case["files"])
        if case["appspec"] is not None:
            files[options.get("write_appspec_as", "appspec.yml")] = {"text": self.filled(case["appspec"])}
        if top := options.get("top"):
            files = {f"{top}/{name}": what for name, what in files.items()}
        if kind == "directory":
            path.mkdir()
            put(path, files)
        else:
            path.write_bytes(zipped(files) if kind == "zip" else tarred(files, gzip=kind == "tgz"))
        return path

    def deploy(self, case: Case, options: Mapping[str, Any], group: str = "") -> Done:
        cli = dict(options.get("cli", {}))
        events = options.get("events", () if case.get("runner") == "local" else IN_PLACE)
        given = {
            "bundle": self.bundle(case, options), "state": self.state, "application": "MyApp", "output": "json",
            "group": group or self.group, "appspec": options.get("appspec_filename", ""),
            "file-exists-behavior": options.get("file_exists_behavior", "DISALLOW"), "events": ",".join(events),
        }  # fmt: skip
        asked = [f"--{name}={value}" for name, value in (given | cli).items() if str(value)]
        ran = CliRunner().invoke(main, ["local", *asked, *self.flags])
        return Done(self, ran)


class Done:
    """What one call of the program said, printed and left behind."""

    def __init__(self, stage: Stage, ran: Any) -> None:
        assert not isinstance(ran.exception, Exception), ran.exception
        self.exit_code, self.said = ran.exit_code, ran.output
        self.answer = json.loads(ran.stdout) if ran.stdout.startswith("{") else None
        self.events = {event["lifecycleEventName"]: event for event in (self.answer or {}).get("lifecycleEvents", ())}
        self.deployment = self.answer["deploymentId"] if self.answer else ""
        log = stage.state / "commands" / self.deployment / "logs/scripts.log"
        lines = log.read_text(errors="replace").splitlines() if self.deployment and log.exists() else []
        self.stdout = [line for line in lines if not line.startswith("LifecycleEvent - ")]

    @property
    def failed(self) -> Mapping[str, Any]:
        return next(event for event in self.events.values() if event["status"] == "Failed")


def tarred(files: Mapping[str, Any], *, gzip: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if gzip else "w") as tar:
        for name, what in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = MTIME, int(what.get("mode", "0644"), 8)
            content = what.get("text", "").encode()
            if "link" in what:
                info.type, info.linkname = tarfile.SYMTYPE, what["link"]
            elif "dir" in what:
                info.type, info.mode = tarfile.DIRTYPE, int(what.get("mode", "0755"), 8)
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
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in what:
            path.symlink_to(what["link"])
        elif "dir" in what:
            path.mkdir(exist_ok=True)
        else:
            path.write_text(what["text"])
            path.chmod(int(what.get("mode", "0644"), 8))


def run_case(case: Case, stage: Stage, expect: Case) -> None:
    given, options = case.get("given", {}), case.get("options", {})
    put(stage.dest, given.get("dest", {}))
    for earlier in given.get("earlier", ()):
        done = stage.deploy(earlier, earlier.get("options", {}), stage.filled(earlier.get("group", "")))
        assert done.exit_code == 0, done.said
    put(stage.dest, given.get("then_dest", {}))
    began = time.monotonic()
    done = stage.deploy(case, options)
    assert time.monotonic() - began <= expect.get("max_seconds", 60)
    check_outcome(expect, done)
    check_output(stage, expect, done)
    check_files(expect, stage.dest)


def check_outcome(expect: Case, done: Done) -> None:
    if expect["result"] == "succeeded":
        assert done.exit_code == 0 and done.answer and done.answer["status"] == "Succeeded", done.said
        return
    assert done.exit_code == (1 if done.answer else 2), done.said
    if expect.get("failed_event"):
        assert done.failed["lifecycleEventName"] == expect["failed_event"], done.said
        assert done.failed["diagnostics"]["errorCode"] == CODES[expect["error_code"]], done.said
        assert done.failed["diagnostics"]["scriptName"] == expect.get(
            "script_name", done.failed["diagnostics"]["scriptName"]
        )
    message = done.failed["diagnostics"]["message"] if done.answer else done.said
    assert all(part.lower() in message.lower() for part in expect.get("error_mentions", ())), message


def check_output(stage: Stage, expect: Case, done: Done) -> None:
    if "stdout" in expect:
        assert done.stdout == [stage.filled(line, done.deployment) for line in expect["stdout"]]
    assert set(expect.get("stdout_contains", ())) <= set(done.stdout)
    assert not set(expect.get("stdout_absent", ())) & set(done.stdout)
    for event, noop in expect.get("noop", {}).items():
        ran = (stage.state / "commands" / done.deployment / event).exists()
        assert event in ("DownloadBundle", "Install") or noop == (not ran), event
    tail = done.failed["diagnostics"]["logTail"] if expect["result"] == "failed" and done.answer else ""
    assert len(tail) <= expect.get("log_max_chars", 2048)
    assert all(part in tail for part in expect.get("log_contains", ()))
    assert not any(part in tail for part in expect.get("log_absent", ()))


def check_files(expect: Case, dest: Path) -> None:
    assert not (expect.get("dest_absent") and dest.exists())
    for name, what in expect.get("dest", {}).items():
        check_file(dest / name, what)
    for name in expect.get("keeps_mtime", ()):
        assert (dest / name).stat().st_mtime == MTIME


def check_file(path: Path, what: Mapping[str, Any]) -> None:
    assert (path.exists() or path.is_symlink()) != what.get("absent", False), path
    assert "text" not in what or path.read_text() == what["text"], path
    assert "link" not in what or str(path.readlink()) == what["link"], path
    assert not what.get("dir") or (path.is_dir() and not path.is_symlink()), path
    assert "mode" not in what or f"{path.stat().st_mode & 0o7777:04o}" == what["mode"].zfill(4), path
    assert "owner" not in what or path.owner() == what["owner"], path
    assert "group" not in what or path.group() == what["group"], path
    if acl := what.get("acl_contains"):
        shown = subprocess.run(["getfacl", "-cp", str(path)], check=True, capture_output=True, text=True).stdout
        assert all(entry in shown.split() for entry in acl), shown
