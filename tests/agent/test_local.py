"""`shiftwork-agent local`: orders of events, exit codes, what it prints, what a second call finds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shiftwork_agent.local import local_command
from shiftwork_agent.local_run import DEFAULT_EVENTS, ordered_events
from shiftwork_contract.archive import pack
from shiftwork_contract.errors import InvalidRequest

SAY = "#!/bin/sh\necho {} $LIFECYCLE_EVENT\n"
SPEC = (
    "version: 0.0\nos: linux\nfiles:\n  - source: app\n    destination: /srv/app\nhooks:\n"
    "  ApplicationStop:\n    - location: say.sh\n  AfterInstall:\n    - location: say.sh\n"
)


def bundle(path: Path, version: str, appspec: str = SPEC, script: str = SAY) -> Path:
    (path / "app").mkdir(parents=True)
    (path / "app/version").write_text(version)
    (path / "appspec.yml").write_text(appspec)
    (path / "say.sh").write_text(script.format(version))
    return path


def local(tmp: Path, source: Path, *more: str) -> Any:
    arguments = ["--bundle", str(source), "--state", str(tmp / "state"), "--install-root", str(tmp / "root"), *more]
    done = CliRunner().invoke(local_command, arguments)
    done.json = json.loads(done.stdout) if "json" in more and done.stdout.startswith("{") else None
    return done


def said(done: Any) -> dict[str, str]:
    return {one["lifecycleEventName"]: one["diagnostics"]["logTail"] for one in done.json["lifecycleEvents"]}


def test_a_second_call_stops_the_first_revision_with_its_own_script(tmp_path: Path) -> None:
    first = local(tmp_path, bundle(tmp_path / "1", "v1"), "--output", "json")
    second = local(tmp_path, bundle(tmp_path / "2", "v2"), "--output", "json")
    assert (first.exit_code, first.json["status"], second.json["status"]) == (0, "Succeeded", "Succeeded")
    assert said(first)["ApplicationStop"] == "" and said(first)["AfterInstall"] == "v1 AfterInstall\n"
    assert said(second)["ApplicationStop"] == "v1 ApplicationStop\n"
    assert (tmp_path / "root/srv/app/version").read_text() == "v2"
    assert [one["lifecycleEventName"] for one in first.json["lifecycleEvents"]] == list(DEFAULT_EVENTS)
    assert all(one["startTime"] <= one["endTime"] for one in first.json["lifecycleEvents"])


@pytest.mark.parametrize("suffix", ["tgz", "tar.gz"])
def test_an_archive_is_a_bundle_too(suffix: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    pack(bundle(tmp_path / "b", "v1"), out)
    (tmp_path / f"b.{suffix}").write_bytes(out.getvalue())
    assert local(tmp_path, tmp_path / f"b.{suffix}").exit_code == 0
    assert (tmp_path / "root/srv/app/version").read_text() == "v1"


def test_a_failing_script_fails_the_deployment_and_skips_the_rest(tmp_path: Path) -> None:
    source = bundle(tmp_path / "1", "v1", script="#!/bin/sh\necho out\necho err >&2\nexit 3\n")
    done = local(tmp_path, source, "--output", "json")
    assert done.exit_code == 1 and done.json["status"] == "Failed"
    by_name = {one["lifecycleEventName"]: one for one in done.json["lifecycleEvents"]}
    assert by_name["AfterInstall"]["diagnostics"] == {
        "errorCode": "ScriptFailed", "scriptName": "say.sh", "logTail": "out\nerr\n",
        "message": by_name["AfterInstall"]["diagnostics"]["message"],
    }  # fmt: skip
    assert by_name["ApplicationStart"]["status"] == "Skipped" and by_name["ApplicationStart"]["startTime"] is None


def test_a_bad_revision_is_told_by_the_event_that_needs_it_and_stops_nothing(tmp_path: Path) -> None:
    local(tmp_path, bundle(tmp_path / "1", "v1"))
    done = local(tmp_path, bundle(tmp_path / "2", "v2", SPEC.replace("0.0", "7")), "--output", "json")
    by_name = {one["lifecycleEventName"]: one for one in done.json["lifecycleEvents"]}
    assert done.exit_code == 1
    assert by_name["ApplicationStop"]["status"] == "Skipped"
    assert "BeforeInstall of this revision cannot" in by_name["ApplicationStop"]["diagnostics"]["message"]
    assert by_name["BeforeInstall"]["status"] == "Failed" and by_name["Install"]["status"] == "Skipped"
    assert "appspec.yml:1:10" in by_name["BeforeInstall"]["diagnostics"]["message"]
    assert (tmp_path / "root/srv/app/version").read_text() == "v1"


def test_an_archive_that_cannot_be_unpacked_fails_downloadbundle(tmp_path: Path) -> None:
    local(tmp_path, bundle(tmp_path / "1", "v1"))
    (tmp_path / "b.tgz").write_text("nothing")
    done = local(tmp_path, tmp_path / "b.tgz", "--output", "json")
    by_name = {one["lifecycleEventName"]: one["status"] for one in done.json["lifecycleEvents"]}
    assert by_name["ApplicationStop"] == "Skipped" and by_name["DownloadBundle"] == "Failed"


def test_a_made_up_event_without_a_hook_installs_nothing(tmp_path: Path) -> None:
    done = local(tmp_path, bundle(tmp_path / "1", "v1"), "--events", "Smoke", "--output", "json")
    by_name = {one["lifecycleEventName"]: one["status"] for one in done.json["lifecycleEvents"]}
    assert (done.exit_code, by_name) == (1, {"DownloadBundle": "Succeeded", "Install": "Skipped", "Smoke": "Failed"})
    assert not (tmp_path / "root/srv/app").exists()


def test_all_output_of_a_deployment_is_in_one_file_that_a_failure_points_to(tmp_path: Path) -> None:
    done = local(tmp_path, bundle(tmp_path / "1", "v1", script="#!/bin/sh\necho last words\nexit 3\n"))
    assert done.exit_code == 1 and "last words" in done.output and "exited with code 3" in done.output
    (log,) = (tmp_path / "state/commands").glob("d-*/logs/scripts.log")
    assert str(log) in done.output and log.read_text() == "LifecycleEvent - AfterInstall\nlast words\n"


def test_the_end_of_a_flood_of_output_is_printed_too(tmp_path: Path) -> None:
    flood = "#!/bin/sh\nhead -c 68000000 /dev/zero | tr '\\0' x\necho\necho the end\nexit 3\n"
    done = local(tmp_path, bundle(tmp_path / "1", "v1", script=flood))
    assert "bytes of output cut here]" in done.output and "    the end\n" in done.output


def test_what_has_no_effect_is_named(tmp_path: Path) -> None:
    done = local(tmp_path, bundle(tmp_path / "1", "v1", SPEC.replace("AfterInstall", "AfterInstal")))
    assert done.exit_code == 0 and "AfterInstal` has no effect" in done.stderr


def test_groups_and_applications_are_apart(tmp_path: Path) -> None:
    local(tmp_path, bundle(tmp_path / "1", "v1"), "--group", "one")
    done = local(tmp_path, bundle(tmp_path / "2", "v2"), "--group", "two", "--output", "json")
    assert done.exit_code == 1 and "already exists" in done.stdout
    overwritten = local(tmp_path, tmp_path / "2", "--application", "two", "--file-exists-behavior", "overwrite")
    assert overwritten.exit_code == 0


def test_the_appspec_may_have_another_name(tmp_path: Path) -> None:
    source = bundle(tmp_path / "1", "v1")
    (source / "appspec.yml").rename(source / "staging.yml")
    assert local(tmp_path, source).exit_code != 0
    assert local(tmp_path, source, "--appspec", "staging.yml").exit_code == 0
    second = local(tmp_path, bundle(tmp_path / "2", "v2"), "--output", "json")
    assert said(second)["ApplicationStop"] == "v1 ApplicationStop\n"


@pytest.mark.parametrize("name", ["../x.yml", "/etc/x.yml", "a/../b", "a\nb", "a//b"])
def test_an_appspec_lies_in_its_bundle(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="as the name of an AppSpec"):
        raise local(tmp_path, bundle(tmp_path / "1", "v1"), "--appspec", name).exception


def test_a_tree_that_a_script_changed_is_fresh_again_next_time(tmp_path: Path) -> None:
    script = "#!/bin/sh\ncat app/version\necho changed > app/version\n"
    source = bundle(tmp_path / "1", "v1\n", script=script)
    for _ in range(2):
        done = local(tmp_path, source, "--events", "AfterInstall", "--output", "json")
        assert said(done)["AfterInstall"] == "v1\n"


ORDERS = {
    "AfterInstall": "DownloadBundle Install AfterInstall",
    "ApplicationStop,DownloadBundle": "ApplicationStop DownloadBundle Install",
    "BeforeInstall,AfterInstall": "DownloadBundle BeforeInstall Install AfterInstall",
    "ApplicationStop,ValidateService": "DownloadBundle Install ApplicationStop ValidateService",
    "ApplicationStop": "DownloadBundle Install ApplicationStop",
    "DownloadBundle,BeforeInstall": "DownloadBundle BeforeInstall Install",
    "Install,DownloadBundle": None,
    "AfterInstall,Install": None,
    "BeforeInstall,DownloadBundle": None,
    "AfterInstall,AfterInstall": None,
    "AllowTraffic": None,
    "../x": None,
}


@pytest.mark.parametrize("asked", ORDERS)
def test_orders_of_events(asked: str) -> None:
    wanted = ORDERS[asked]
    if wanted is None:
        with pytest.raises(InvalidRequest, match="cannot"):
            ordered_events(tuple(asked.split(",")))
    else:
        assert ordered_events(tuple(asked.split(","))) == tuple(wanted.split())
