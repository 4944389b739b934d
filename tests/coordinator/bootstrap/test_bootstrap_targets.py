"""Hosts on the command line and in an inventory; packages and their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.bootstrap import packages
from shiftwork_coordinator.bootstrap.targets import Target, completed, inventory, parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("web-1", Target("web-1")),
        ("root@web-1.example.com", Target("web-1.example.com", "root")),
        ("root@10.0.0.1:2222", Target("10.0.0.1", "root", 2222)),
        ("fe80::1", Target("fe80::1")),
        ("root@::1", Target("::1", "root")),
        ("root@[fe80::1]:22", Target("fe80::1", "root", 22)),
    ],
)
def test_a_host_is_read(text, target):
    assert parse(text) == target


@pytest.mark.parametrize(
    "text", ["", "@web", "web:", "web:0", "web:70000", "-oProxyCommand=x", "a b", "root@", "a@b@c", "[::1"]
)
def test_what_is_no_host_is_refused(text):
    with pytest.raises(InvalidRequest, match=r"write \[USER@\]HOST\[:PORT\]"):
        parse(text)


def test_an_inventory_has_a_host_a_line_with_tags():
    text = "# ours\n\nweb-1 Role=web Zone=a  # the first\nroot@web-2:2222\n"
    assert inventory(text, "hosts") == [
        Target("web-1", tags={"Role": "web", "Zone": "a"}),
        Target("web-2", "root", 2222),
    ]
    with pytest.raises(InvalidRequest, match=r"^hosts:2: cannot use 'Role' as a tag"):
        inventory("a\nb Role\n", "hosts")


def test_a_host_keeps_its_own_word_and_stands_there_once():
    full = completed([Target("a", "root", tags={"Role": "db"}), Target("b")], "ops", {"Role": "web", "Zone": "a"})
    assert [(each.user, each.tags) for each in full] == [
        ("root", {"Role": "db", "Zone": "a"}),
        ("ops", {"Role": "web", "Zone": "a"}),
    ]
    with pytest.raises(InvalidRequest, match="cannot bootstrap a twice"):
        completed([Target("a"), Target("a", "root")], "", {})
    with pytest.raises(InvalidRequest, match="without a host"):
        completed([], "", {})


@pytest.mark.parametrize(
    ("name", "version", "format", "machine"),
    [
        ("shiftwork-agent_0.1.0_amd64.deb", "0.1.0", "deb", "x86_64"),
        ("shiftwork-agent_0.1.0-1_arm64.deb", "0.1.0-1", "deb", "aarch64"),
        ("shiftwork-agent-0.1.0-1.x86_64.rpm", "0.1.0-1", "rpm", "x86_64"),
        ("shiftwork-agent_0.1.0~dev3_x86_64.rpm", "0.1.0~dev3", "rpm", "x86_64"),
        ("shiftwork-agent_0.1.0_all.deb", "0.1.0", "deb", ""),
    ],
)
def test_a_package_is_what_its_name_says(name, version, format, machine):
    found = packages.described(Path(name))
    assert (found.version, found.format, found.machine) == (version, format, machine)


@pytest.mark.parametrize("name", ["agent.deb", "shiftwork_0.1.0_amd64.deb", "shiftwork-agent_0.1.0_amd64.tar"])
def test_any_other_file_is_no_package(name):
    with pytest.raises(InvalidRequest, match="its name must be"):
        packages.described(Path(name))


def test_two_packages_for_the_same_hosts_are_refused(tmp_path):
    files = [tmp_path / f"shiftwork-agent_{version}_amd64.deb" for version in ("0.1.0", "0.2.0")]
    for file in files:
        file.write_bytes(b"x")
    with pytest.raises(InvalidRequest, match="cannot choose between"):
        packages.load(files)
    assert packages.load(files[:1])[0].size == 1


@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.1.0", "0.2.0"), ("0.9.0", "0.10.0"), ("0.1.0~dev3", "0.1.0"), ("0.1.0", "0.1.0.1"), ("0.1.0~1", "0.1.0~2")],
)
def test_versions_have_an_order(older, newer):
    assert packages.newer(newer, older)
    assert not packages.newer(older, newer)
    assert not packages.newer(older, older)


def test_a_package_revision_is_no_other_version():
    assert [packages.upstream(text) for text in ("0.1.0", "0.1.0-1", "1:0.1.0-2.el9")] == ["0.1.0"] * 3
