"""`shiftwork bootstrap` over real sshd into containers with systemd, with the real package.

Three hosts: root by key, a user with sudo, and one whose user may not become root.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from shiftwork_coordinator.demo.stage import command
from shiftwork_coordinator.lab import lifecycle
from shiftwork_coordinator.lab.docker_cli import attempt, docker

from .packages.packaged import NEW

IMAGE = "shiftwork-bootstrap-host"
RECIPE = """FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd-sysv openssh-server sudo python3 \\
 && rm -rf /var/lib/apt/lists/*
RUN useradd -m ops && useradd -m guest && echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops
CMD ["/sbin/init"]
"""
SYSTEMD = [
    "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--tmpfs", "/run", "--tmpfs", "/tmp", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns", "host",
]  # fmt: skip
USERS = {"web-1": "root", "web-2": "ops", "web-3": "guest"}
APPSPEC = """version: 0.0
os: linux
files: [{source: hello.txt, destination: /srv/hello}]
"""
GROUP = """application: hello
groups:
  all: {instances: {tags: {Role: [web]}}, config: AllAtOnce}
"""

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def package(packages):
    return next(packages.glob(f"shiftwork-agent_{NEW}_*.deb"))


class Hosts:
    """Containers by name, on a network of their own; the coordinator listens at its gateway, on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.label = directory, f"shiftwork-bootstrap-{secrets.token_hex(4)}"
        self.key = directory / "key"
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(self.key)
        self.public = key.export_public_key().decode()
        docker("network", "create", "--label", self.label, self.label)
        self.gateway = docker("network", "inspect", self.label, "-f", "{{(index .IPAM.Config 0).Gateway}}")
        self.addresses = {name: self._start(name) for name in USERS}
        (directory / "known_hosts").write_text("".join(self._admit(name, user) for name, user in USERS.items()))

    def _start(self, name: str) -> str:
        container = f"{self.label}-{name}"
        common = ["-d", "--label", self.label, "--network", self.label, "--hostname", name, "--name", container]
        docker("run", *common, *SYSTEMD, IMAGE)
        return docker("inspect", container, "-f", f'{{{{(index .NetworkSettings.Networks "{self.label}").IPAddress}}}}')

    def _admit(self, name: str, user: str) -> str:
        """Lets our key in; the host's key comes to us by a way that nobody on the network can change."""
        home = "/root" if user == "root" else f"/home/{user}"
        self.shell(
            name,
            f"install -d -m 700 -o {user} {home}/.ssh && echo '{self.public.strip()}' > {home}/.ssh/authorized_keys"
            f" && chown {user} {home}/.ssh/authorized_keys",
        )
        return f"{self.addresses[name]} {self.shell(name, 'cat /etc/ssh/ssh_host_ed25519_key.pub')}\n"

    def shell(self, name: str, script: str) -> str:
        return docker("exec", f"{self.label}-{name}", "sh", "-c", script)

    def remove(self) -> None:
        listed = attempt("ps", "-aq", "--filter", f"label={self.label}") or ""
        attempt("rm", "-f", "-v", *listed.split())
        attempt("network", "rm", self.label)


@contextmanager
def served(directory: Path, gateway: str):
    """A coordinator on this machine: the URL under which the hosts see it."""
    with (directory / "serve.log").open("wb") as log:
        popen = subprocess.Popen(
            [*command(), "serve", "--data", str(directory / "data"), "--listen", "0.0.0.0:0", "--name", gateway],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            line = popen.stdout.readline()
            found = re.match(r"Listening on https://127\.0\.0\.1:(\d+)", line)
            assert found, line + (directory / "serve.log").read_text()
            yield f"https://{gateway}:{found[1]}"
        finally:
            popen.terminate()
            popen.wait(60)
            popen.stdout.close()


class Site:
    def __init__(self, hosts: Hosts, url: str, package: Path) -> None:
        self.hosts, self.url, self.package, self.directory = hosts, url, package, hosts.directory

    def shiftwork(self, *args: str, fails: int = 0) -> str:
        ran = subprocess.run(
            [*command(), *args, "--data", str(self.directory / "data")],
            capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(self.directory)},
        )  # fmt: skip
        assert ran.returncode == fails, ran.stdout + ran.stderr
        return ran.stdout

    def bootstrap(self, *names: str, fails: int = 0) -> dict[str, dict[str, object]]:
        wanted = [f"{USERS[name]}@{self.hosts.addresses[name]}" for name in names]
        told = self.shiftwork(
            "bootstrap", *wanted, "--package", str(self.package), "--identity", str(self.hosts.key),
            "--known-hosts", str(self.directory / "known_hosts"), "--tag", "Role=web", "--coordinator", self.url,
            "--output", "json", fails=fails,
        )  # fmt: skip
        return dict(zip(names, json.loads(told)["hosts"], strict=True))

    def instances(self) -> dict[str, dict[str, object]]:
        listed = json.loads(self.shiftwork("instances", "--output", "json"))["instances"]
        return {each["instance"]: each for each in listed}


@pytest.fixture(scope="module")
def site(package, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bootstrap")
    subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=RECIPE, text=True, check=True, timeout=300)
    hosts = Hosts(directory)
    try:
        with served(directory, hosts.gateway) as url:
            for name in USERS:
                lifecycle.wait_until(lambda name=name: listening(hosts, name), f"sshd of {name}", print, within=60.0)
            yield Site(hosts, url, package)
    finally:
        for name in USERS:
            print(
                attempt("exec", f"{hosts.label}-{name}", "journalctl", "-u", "shiftwork-agent", "-n", "20", "-o", "cat")
            )
        hosts.remove()


def listening(hosts: Hosts, name: str) -> bool:
    return attempt("exec", f"{hosts.label}-{name}", "systemctl", "is-active", "ssh") == "active"


def test_bare_hosts_join_the_broken_one_is_reported_and_again_nothing_is_done(site, tmp_path):
    first = site.bootstrap(*USERS, fails=1)
    whole = [f"installed {site.package.name.split('_')[1]}", "joined", "started"]
    assert {name: (each["status"], each["did"]) for name, each in first.items()} == {
        "web-1": ("changed", whole), "web-2": ("changed", whole), "web-3": ("failed", []),
    }, first  # fmt: skip
    assert "sudo wants a password of guest" in str(first["web-3"]["problem"])
    there = site.instances()
    assert {name: (each["connected"], each["tags"]) for name, each in there.items()} == {
        name: (True, {"Role": "web"}) for name in ("web-1", "web-2")
    }
    assert there["web-1"]["address"] == site.hosts.addresses["web-1"]
    processes = {name: site.hosts.shell(name, "systemctl show -p MainPID shiftwork-agent") for name in there}

    again = site.bootstrap("web-1", "web-2")
    assert [each["status"] for each in again.values()] == ["unchanged", "unchanged"], again
    assert {n: site.hosts.shell(n, "systemctl show -p MainPID shiftwork-agent") for n in there} == processes
    assert all(site.hosts.shell(name, "ls /tmp | grep -c shiftwork || true") == "0" for name in USERS)
    tokens = json.loads(site.shiftwork("token", "list", "--output", "json"))["tokens"]
    assert [(token["name"], token["usesLeft"]) for token in tokens if token["kind"] == "agent"] == [
        (each["name"], 0) for each in tokens if each["kind"] == "agent"
    ]


def test_what_was_joined_is_deployed_to(site, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "appspec.yml").write_text(APPSPEC)
    (bundle / "hello.txt").write_text("hello\n")
    (tmp_path / "shiftwork.yml").write_text(GROUP)
    site.shiftwork("apply", "-f", str(tmp_path / "shiftwork.yml"))
    revision = site.shiftwork("push", str(bundle), "--application", "hello").strip()
    site.shiftwork("deploy", "hello/all", "--revision", revision)
    assert [site.hosts.shell(name, "cat /srv/hello/hello.txt") for name in ("web-1", "web-2")] == ["hello", "hello"]


def test_a_host_whose_key_has_changed_is_left_alone(site):
    site.hosts.shell("web-2", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh")
    result = site.bootstrap("web-2", fails=1)["web-2"]
    assert "its host key has changed" in str(result["problem"])
    assert site.instances()["web-2"]["connected"]
