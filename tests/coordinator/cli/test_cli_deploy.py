"""`deploy` and `rollback` from creation to the end, against a fake of the API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from shiftwork_coordinator.cli import follow, plain, watch

GROUP = ("web/production", "--revision", "sha256:" + "a" * 64)
DEPLOY = ("deploy", *GROUP)
ID = "d-4K7Q2M9XA"
DONE = {"Pending": 0, "InProgress": 0, "Succeeded": 4, "Failed": 0, "Skipped": 0, "Ready": 0}
BROKEN = {"Pending": 0, "InProgress": 0, "Succeeded": 0, "Failed": 1, "Skipped": 3, "Ready": 0}
TAIL = "starting\n\x1b[31mno such module: web\x1b[0m\n\x1b]0;owned\x07exit 1\n"


def history(at, kind, target="", **data):
    return ("history", {"deploymentId": ID, "at": at, "kind": kind, "target": target, "data": data})


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    monkeypatch.setattr(watch, "Pace", lambda: follow.Pace(beat=0.05, backoff=(0.01,)))


@pytest.fixture
def created(fake, view):
    fake.on("POST", "/v1/deployments", view("Created"), 201)
    return fake


@pytest.fixture
def failed_view(view, make_target):
    told = {"errorCode": "ScriptFailed", "scriptName": "hooks/start.sh", "message": "exit code 1", "logTail": TAIL}
    event = {
        "lifecycleEventName": "ApplicationStart",
        "status": "Failed",
        "startTime": 1001.0,
        "endTime": 1002.0,
        "diagnostics": told,
    }
    return view(
        "Failed",
        completeTime=1003.5,
        deploymentOverview=BROKEN,
        errorInformation={"code": "HEALTH_CONSTRAINTS", "message": "1 target failed, at most 0 may"},
        targets=[make_target("web-1", "Failed", 1, [event]), *[make_target(f"web-{n}", "Skipped") for n in (2, 3, 4)]],
    )


async def test_plain_transcript_of_a_success(created, cli, view):
    created.film(
        ID,
        history(1000.0, "deployment", status="InProgress"),
        history(1000.1, "batch", number=1, targets=["web-1", "web-2"], inService=4),
        ("view", view()),
        history(1000.2, "event", "web-1", event="BeforeBlockTraffic", status="Succeeded", message=""),
        history(1001.0, "cut", "web-1", requests=3, message="still busy after 30 s"),
        history(1002.0, "target", "web-1", status="Succeeded", message=""),
        history(1012.3, "deployment", status="Succeeded"),
        ("view", view("Succeeded", completeTime=1012.3, deploymentOverview=DONE)),
    )
    ran = await cli(*DEPLOY)
    assert ran.out.splitlines() == [
        "00:16:40  -               deployment          InProgress",
        "00:16:40  -               batch 1 begins: web-1, web-2 (in service now: 4)",
        "00:16:40  web-1           BeforeBlockTraffic  Succeeded",
        "00:16:41  web-1           3 requests in flight were cut  still busy after 30 s",
        "00:16:42  web-1           target              Succeeded",
        "00:16:52  -               deployment          Succeeded",
        "Deployment d-4K7Q2M9XA of web/production succeeded after 12 s: 4 succeeded, 0 failed, 0 skipped.",
        "Never fewer than 2 of 4 in service (minimum 2).",
    ]
    assert ran.err == "Deployment d-4K7Q2M9XA of web/production created (CodeDeployDefault.HalfAtATime)\n"
    assert ran.code == 0


async def test_options_become_members_and_nothing_else(created, cli):
    ran = await cli(
        *DEPLOY,
        *("--no-wait", "--config", "OneAtATime", "--description", "why", "--queue"),
        *("--ignore-application-stop-failures", "--file-exists-behavior", "RETAIN"),
        *("--parameter", "WORKERS=8", "--parameter", "NOTE=a=b", "--appspec", "appspec.staging.yml"),
    )
    assert (ran.code, ran.out) == (0, f"{ID}\n")
    await cli(*DEPLOY, "--no-wait")
    full, bare = created.bodies("POST", "/v1/deployments")
    assert full == {
        "application": "web",
        "group": "production",
        "revision": GROUP[2],
        "config": "OneAtATime",
        "description": "why",
        "queue": True,
        "ignoreApplicationStopFailures": True,
        "fileExistsBehavior": "RETAIN",
        "parameters": {"WORKERS": "8", "NOTE": "a=b"},
        "appspec": "appspec.staging.yml",
    }
    assert bare == {"application": "web", "group": "production", "revision": GROUP[2]}


async def test_failure_shows_cause_output_and_what_to_do(created, cli, failed_view):
    created.film(ID, history(1003.5, "deployment", status="Failed"), ("view", failed_view))
    ran = await cli(*DEPLOY)
    assert ran.code == 1
    assert ran.out.splitlines()[1:] == [
        "Deployment d-4K7Q2M9XA of web/production failed after 3.5 s: 0 succeeded, 1 failed, 3 skipped.",
        "Never fewer than 2 of 4 in service (minimum 2).",
        "HEALTH_CONSTRAINTS: 1 target failed, at most 0 may",
        "web-1: ApplicationStart failed in hooks/start.sh (ScriptFailed): exit code 1",
        "    | starting",
        "    | no such module: web",
        "    | exit 1",
        "    shiftwork logs d-4K7Q2M9XA --target web-1 --event ApplicationStart",
        "To go back to the last good revision: shiftwork rollback d-4K7Q2M9XA",
    ]


async def test_a_function_whose_traffic_is_back_needs_no_rollback(created, cli, view):
    weights = [{"targetId": "orders", "weight": weight, "at": 1001.0} for weight in (0.1, 0.0)]
    back = view("Failed", computePlatform="Lambda", completeTime=1003.5, trafficWeights=weights, targets=[])
    created.film(ID, ("view", back))
    told = (await cli(*DEPLOY)).out
    assert "To go back" not in told
    assert "in service" not in told, "there are no hosts to count"
    created.film(ID, ("view", {**back, "trafficWeights": weights[:1]}))
    assert "To go back to the last good revision" in (await cli(*DEPLOY)).out


async def test_an_automatic_rollback_is_followed_and_the_exit_code_stays_1(created, cli, view, failed_view):
    failed_view["rollbackInfo"]["rollbackDeploymentId"] = "d-BACK"
    created.film(ID, ("view", failed_view))
    back = view("Succeeded", deploymentId="d-BACK", completeTime=1004.0, deploymentOverview=DONE)
    created.film("d-BACK", history(1003.9, "deployment", status="Succeeded"), ("view", back))
    ran = await cli(*DEPLOY)
    assert ran.code == 1
    assert "Rolling back: deployment d-BACK\n" in ran.out
    assert "Deployment d-BACK of web/production succeeded" in ran.out
    assert "To go back" not in ran.out


async def test_a_restart_of_the_coordinator_is_survived_and_nothing_told_twice(created, cli, view):
    created.forgetful = True
    created.film(
        ID,
        history(1000.0, "deployment", status="InProgress"),
        ("drop", 3),
        history(1009.0, "deployment", status="Succeeded"),
        ("view", view("Succeeded", completeTime=1009.0, deploymentOverview=DONE)),
    )
    ran = await cli(*DEPLOY)
    assert ran.code == 0
    assert ran.out.count("deployment          InProgress") == 1
    assert ran.out.count("connection lost: ") == 1
    assert "the connection broke; trying again, the deployment goes on\n" in ran.out
    assert ran.out.count("connected again") == 1
    again = [each for each in created.asked if each.path.endswith("/events")][-1]
    assert again.headers["Last-Event-ID"] == "1"
    assert again.query == {"after": "1"}


async def test_a_stream_that_ends_too_early_is_asked_for_the_rest(created, cli, view):
    ended = view("Succeeded", completeTime=1009.0, deploymentOverview=DONE)
    created.film(
        ID,
        history(1000.0, "deployment", status="InProgress"),
        ("cut", ended),
        history(1009.0, "deployment", status="Succeeded"),
        ("view", ended),
    )
    ran = await cli(*DEPLOY)
    assert ran.code == 0
    assert "00:16:49  -               deployment          Succeeded" in ran.out
    assert ran.out.count("Deployment d-4K7Q2M9XA of web/production succeeded") == 1
    assert "connection lost" not in ran.out


async def test_an_end_without_a_last_view_is_an_end(created, cli, view):
    created.film(ID, ("cut", view("Succeeded", completeTime=1009.0)))
    assert (await cli(*DEPLOY)).code == 0


async def test_silence_is_explained(created, cli, view, monkeypatch):
    monkeypatch.setattr(plain, "SILENCE", 0.0)
    waiting = {"code": "QUIET", "target": "web-1", "message": "3 requests in flight", "since": 1.0, "until": 31.0}
    created.film(ID, ("view", view(waiting=[waiting])), ("view", view("Stopped", completeTime=1002.0)))
    ran = await cli(*DEPLOY)
    assert "InProgress, batch 1 of 2, in service 2 of 4, minimum 2" in ran.out
    assert "waiting: web-1: 3 requests in flight (for " in ran.out
    assert "until 00:00:31 at most" in ran.out
    assert ran.code == 1


async def test_json_is_the_deployment_and_nothing_else(created, cli, view):
    ended = view("Succeeded", completeTime=1002.0)
    created.film(ID, history(1000.0, "deployment", status="InProgress"), ("view", ended))
    ran = await cli(*DEPLOY, "--output", "json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == ended


async def test_a_broken_view_is_an_error_in_words(created, cli):
    created.film(ID, ("garbage", "{nonsense"))
    ran = await cli(*DEPLOY)
    assert ran.code == 3
    assert "cannot understand the coordinator's answer" in ran.err


async def test_rollback_follows_the_new_deployment(fake, cli, view):
    fake.on("POST", f"/v1/deployments/{ID}/rollback", view("Created", deploymentId="d-BACK"), 201)
    fake.film("d-BACK", ("view", view("Succeeded", deploymentId="d-BACK", completeTime=1001.0)))
    ran = await cli("rollback", ID)
    assert ran.code == 0
    assert "Deployment d-BACK of web/production succeeded" in ran.out


async def test_rollback_of_a_running_deployment_follows_both(fake, cli, view):
    fake.on("POST", f"/v1/deployments/{ID}/rollback", view())
    stopped = view("Stopped", completeTime=1001.0)
    stopped["rollbackInfo"] = {"rollbackDeploymentId": "d-BACK"}
    fake.film(ID, ("view", stopped))
    fake.film("d-BACK", ("view", view("Succeeded", deploymentId="d-BACK", completeTime=1001.0)))
    ran = await cli("rollback", ID, "--output", "json")
    assert ran.code == 0
    assert json.loads(ran.out)["deploymentId"] == "d-BACK"


async def test_ctrl_c_leaves_it_running_and_says_so(created, view):
    created.film(ID, ("view", view()), ("hold", None))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shiftwork_coordinator.cli", *DEPLOY),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    async with asyncio.timeout(60):
        await created.reached.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"The deployment goes on" in err
    assert f"shiftwork stop {ID}".encode() in err
    assert b"Traceback" not in err
    assert not [each for each in created.asked if each.path.endswith("/stop")]


async def test_an_appspec_file_that_cannot_be_read_is_named(fake, cli, tmp_path):
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe")
    gone = await cli("deploy", "fn/live", "--revision", str(tmp_path / "none.yml"))
    binary = await cli("deploy", "fn/live", "--revision", str(tmp_path / "binary.yml"))
    assert (gone.code, binary.code) == (2, 2)
    assert "none.yml: No such file or directory" in gone.err
    assert "cannot read the AppSpec" in binary.err and "can't decode byte 0xff" in binary.err
