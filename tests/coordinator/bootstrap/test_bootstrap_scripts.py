"""The scripts themselves, run by a real shell with the host's programs replaced by small ones."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

from shiftwork_coordinator.bootstrap import facts, orders


def run(order: orders.Order, *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", order.command()],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def stub(tmp_path: Path):
    """Puts a program of that name first on the PATH; every call is noted in `calls`."""
    there = tmp_path / "bin"
    there.mkdir()
    calls = tmp_path / "calls"
    calls.touch()

    def made(name: str, body: str = "") -> Path:
        file = there / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{body}\n')
        file.chmod(0o755)
        return calls

    made.path = f"{there}:{os.environ['PATH']}"
    return made


def test_a_look_at_this_very_host():
    ran = run(orders.look, SSH_CONNECTION="10.0.0.5 50000 10.0.0.9 22")
    look = facts.look(facts.told(ran.stdout))
    assert ran.returncode == 0, ran.stderr
    assert (look.system, look.machine, look.hostname) == (os.uname().sysname, os.uname().machine, os.uname().nodename)
    assert (look.root, look.address) == (os.getuid() == 0, "10.0.0.9")
    assert look.glibc >= (2, 17)
    assert look.free_opt > 0
    assert look.free_tmp > 0
    assert look.format in ("deb", "rpm")


def test_a_survey_where_there_is_no_agent(stub):
    stub("dpkg-query", "exit 1")
    stub("systemctl", "echo inactive; exit 3")
    ran = run(orders.survey, PATH=stub.path)
    assert (ran.returncode, facts.survey(facts.told(ran.stdout))) == (0, facts.Survey())


def test_what_was_copied_is_dropped_and_nothing_else(tmp_path):
    ran = run(orders.prepare, TMPDIR=str(tmp_path))
    made = Path(facts.told(ran.stdout)["directory"])
    assert made.is_dir()
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "file").touch()
    (tmp_path / "mine").mkdir()
    run(orders.discard(str(tmp_path / "mine")))
    run(orders.discard(str(made)))
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["mine"]


def copied(tmp_path: Path, name: str) -> tuple[str, str]:
    import hashlib

    directory = tmp_path / "shiftwork-bootstrap.abcdef"
    directory.mkdir()
    (directory / name).write_bytes(b"package")
    return str(directory / name), hashlib.sha256(b"package").hexdigest()


def test_a_deb_is_installed_without_questions_and_its_copy_dropped(stub, tmp_path):
    calls = stub("apt-get", 'echo "DEBIAN_FRONTEND=$DEBIAN_FRONTEND"; ! read -r x || echo asked')
    file, digest = copied(tmp_path, "shiftwork-agent_0.2.0_amd64.deb")
    ran = run(orders.install(file, digest), stdin="yes\n", PATH=stub.path)
    assert (ran.returncode, ran.stdout) == (0, "DEBIAN_FRONTEND=noninteractive\n")
    assert calls.read_text().startswith("apt-get install -y -q --no-install-recommends")
    assert not Path(file).parent.exists()


def test_a_copy_that_is_not_the_package_is_not_installed(stub, tmp_path):
    calls = stub("apt-get")
    file, _ = copied(tmp_path, "shiftwork-agent_0.2.0_amd64.deb")
    ran = run(orders.install(file, "0" * 64), PATH=stub.path)
    assert ran.returncode == 65
    assert "the copy has the SHA-256" in ran.stdout
    assert calls.read_text() == ""
    assert not Path(file).parent.exists()


def test_apt_is_told_its_lists_only_where_it_needs_them(stub, tmp_path):
    once = 'case $1 in update) touch "$0.told";; *) [ -e "$0.told" ] || { echo unmet; exit 100; };; esac'
    calls = stub("apt-get", once)
    file, digest = copied(tmp_path, "shiftwork-agent_0.2.0_amd64.deb")
    assert run(orders.install(file, digest), PATH=stub.path).returncode == 0
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["install", "update", "install"]


@pytest.mark.parametrize("tool", ["dnf", "yum", "zypper"])
def test_an_rpm_by_whatever_is_there(stub, tmp_path, tool):
    calls = stub(tool, "echo no; exit 4" if tool == "zypper" else "")
    file, digest = copied(tmp_path, "shiftwork-agent-0.2.0-1.x86_64.rpm")
    others = {"dnf", "yum", "zypper"} - {tool}
    assert not any(Path(f"/usr/bin/{other}").exists() for other in others)
    ran = run(orders.install(file, digest), PATH=stub.path)
    assert (ran.returncode, ran.stdout) == ((4, "no\n") if tool == "zypper" else (0, ""))
    assert calls.read_text().startswith(f"{tool} ")


def test_the_token_is_in_nobodys_arguments(stub):
    calls = stub("shiftwork-agent", 'echo "token: $SHIFTWORK_JOIN_TOKEN"')
    order = orders.join("https://c:7070", "web-1", "10.0.0.9", force=False)
    ran = run(order, stdin="swj_secret\n", PATH=stub.path)
    assert (ran.returncode, ran.stdout) == (0, "token: swj_secret\n")
    assert calls.read_text() == "shiftwork-agent join https://c:7070 --name web-1 --address 10.0.0.9\n"


def test_a_rejoin_that_fails_starts_the_old_agent_again(stub):
    calls = stub("systemctl")
    stub("shiftwork-agent", "exit 3")
    ran = run(orders.join("https://c:7070", "web-1", "", force=True), stdin="swj_secret\n", PATH=stub.path)
    assert ran.returncode == 3
    assert [line.strip() for line in calls.read_text().splitlines()] == [
        "systemctl stop shiftwork-agent",
        "shiftwork-agent join https://c:7070 --name web-1 --force",
        "systemctl start shiftwork-agent",
    ]


def test_the_identity_is_read_as_the_agent_writes_it(ca):
    told = {"identity": '{"instance":"web-1","name":"web-1"}', "ca": base64.b64encode(ca.encode()).decode()}
    assert facts.survey(told) == facts.Survey(instance="web-1", ca=facts.fingerprint(ca))
