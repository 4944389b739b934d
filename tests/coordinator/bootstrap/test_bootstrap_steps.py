"""Facts in, the next step out: a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shiftwork_coordinator.bootstrap import facts, orders
from shiftwork_coordinator.bootstrap.facts import Survey
from shiftwork_coordinator.bootstrap.packages import Package, newer
from shiftwork_coordinator.bootstrap.steps import (
    Await,
    Done,
    Install,
    Join,
    Known,
    Refuse,
    Start,
    Wish,
    name_of,
    next_step,
    unfit,
)
from shiftwork_coordinator.bootstrap.testing import DEBIAN

OURS, THEIRS = "aa" * 32, "bb" * 32
DEB = Package(Path("a.deb"), "0.2.0-1", "deb", "x86_64", size=15_000_000)
ARM = Package(Path("b.deb"), "0.2.0-1", "deb", "aarch64")
RPM = Package(Path("c.rpm"), "0.2.0-1", "rpm", "x86_64")
WISH = Wish((DEB, ARM, RPM), "https://c:7070", OURS)
GOOD = Survey("0.2.0-1", "host", OURS, "https://c:7070", active=True, enabled=True)
HERE = Known(exists=True, connected=True, version="0.2.0")


@pytest.mark.parametrize(
    ("survey", "known", "step"),
    [
        (Survey(), Known(), Install(DEB)),
        (Survey("0.2.0-1"), Known(), Join("host", force=False)),
        (Survey("0.2.0"), Known(exists=True, revoked=True), Join("host", force=False)),
        (replace(GOOD, active=False), HERE, Start()),
        (replace(GOOD, enabled=False), HERE, Start()),
        (GOOD, replace(HERE, connected=False), Await()),
        (GOOD, replace(HERE, version="0.1.0"), Await()),
        (GOOD, replace(HERE, version=""), Done()),
        (GOOD, HERE, Done()),
        (replace(GOOD, version="0.1.0-1"), HERE, Install(DEB)),
        (replace(GOOD, version="0.3.0"), replace(HERE, version="0.3.0"), Done()),
        (replace(GOOD, version="0.2.0-7"), HERE, Done()),
    ],
)
def test_the_next_step(survey, known, step):
    assert next_step(DEBIAN, survey, known, "host", WISH) == step


@pytest.mark.parametrize(
    ("survey", "known", "wish", "words"),
    [
        (replace(GOOD, ca=THEIRS, version=""), Known(), WISH, "another coordinator already, as host at https://c:7070"),
        (replace(GOOD, ca=THEIRS), HERE, WISH, "another coordinator"),
        (GOOD, Known(), WISH, "is not known here any more"),
        (GOOD, Known(exists=True, revoked=True), WISH, "is revoked"),
        (Survey(), HERE, WISH, "another host has joined by that name"),
        (Survey(), Known(taken_by="web-2"), WISH, "web-2 of this same run has that name"),
        (GOOD, replace(HERE, taken_by="web-2"), WISH, "web-2 of this same run"),
        (Survey(), Known(), replace(WISH, packages=()), "needs a deb for x86_64; given: none"),
        (Survey(), Known(), replace(WISH, packages=(ARM, RPM)), "given: deb for aarch64, rpm for x86_64"),
        (replace(GOOD, version="0.1.0"), HERE, replace(WISH, packages=(ARM,)), "needs a deb for x86_64"),
    ],
)
def test_what_is_refused_before_anything_is_changed(survey, known, wish, words):
    step = next_step(DEBIAN, survey, known, "host", wish)
    assert isinstance(step, Refuse)
    assert words in step.problem
    assert step.remedy


@pytest.mark.parametrize(
    ("survey", "known"),
    [(replace(GOOD, ca=THEIRS), Known()), (GOOD, Known()), (GOOD, Known(exists=True, revoked=True))],
)
def test_rejoin_takes_what_belongs_elsewhere(survey, known):
    assert next_step(DEBIAN, survey, known, "host", replace(WISH, rejoin=True)) == Join("host", force=True)


def test_rejoin_leaves_alone_what_is_ours():
    assert next_step(DEBIAN, GOOD, HERE, "host", replace(WISH, rejoin=True)) == Done()


def test_without_packages_what_is_installed_is_good_enough():
    wish = replace(WISH, packages=())
    assert next_step(DEBIAN, replace(GOOD, version="0.1.0"), HERE, "host", wish) == Done()


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ({"system": "FreeBSD"}, "on FreeBSD"),
        ({"systemd": False}, "systemd does not run there"),
        ({"glibc": ()}, "no glibc"),
        ({"glibc": (2, 12)}, "glibc is 2.12, the least is 2.17"),
        ({"root": False, "user": "ops", "sudo": "missing"}, "ops is not, and sudo is not installed"),
        ({"root": False, "user": "ops", "sudo": "password"}, "sudo wants a password of ops"),
    ],
)
def test_hosts_that_no_agent_can_run_on(look, words):
    refused = unfit(replace(DEBIAN, **look), WISH)
    assert refused is not None
    assert words in refused.problem


def test_rights_that_are_enough():
    ops = replace(DEBIAN, root=False, user="ops")
    assert unfit(ops, WISH) is None
    assert unfit(replace(ops, sudo="password"), replace(WISH, password=True)) is None
    assert "--no-sudo" in str(unfit(ops, replace(WISH, sudo=False)))


@pytest.mark.parametrize(("free", "where"), [({"free_opt": 1000}, "/opt"), ({"free_tmp": 20_000_000}, "/tmp")])
def test_a_full_disk_is_refused_only_where_something_would_be_written(free, where):
    full = replace(DEBIAN, **free)
    step = next_step(full, Survey(), Known(), "host", WISH)
    assert isinstance(step, Refuse)
    assert f"{where} has" in step.problem
    assert next_step(full, GOOD, HERE, "host", WISH) == Done()


def test_an_rpm_for_its_kind_and_a_name_that_cannot_be():
    fedora = replace(DEBIAN, ids=frozenset({"rocky", "rhel"}), tools=frozenset({"dnf", "rpm"}))
    assert next_step(fedora, Survey(), Known(), "host", WISH) == Install(RPM)
    assert replace(DEBIAN, ids=frozenset({"odd"}), tools=frozenset({"rpm"})).format == "rpm"
    step = next_step(DEBIAN, Survey("0.2.0"), Known(), "fe80::1", WISH)
    assert isinstance(step, Refuse)
    assert "'fe80::1'" in step.problem


def test_what_it_is_called():
    assert name_of(DEBIAN, Survey(), "10.0.0.9", WISH) == "host"
    assert name_of(DEBIAN, Survey(), "10.0.0.9", replace(WISH, name_from="address")) == "10.0.0.9"
    assert name_of(DEBIAN, replace(GOOD, instance="web-1"), "10.0.0.9", WISH) == "web-1"
    assert name_of(DEBIAN, replace(GOOD, instance="web-1", ca=THEIRS), "10.0.0.9", WISH) == "host"


def test_odd_words_of_a_host_are_not_there():
    survey = facts.survey({"version": "config-files 0.1.0", "identity": "{", "ca": "?", "active": "failed"})
    assert survey == Survey()
    look = facts.look(facts.told("\x1b[31m motd\n@free_opt=lots\r\n@glibc=\n @uid=0\n"))
    assert (look.free_opt, look.glibc, look.root) == (0, (), False)


def test_no_argument_becomes_shell_text():
    hostile = "$(touch /tmp/owned); 'x"
    command = orders.join("https://c", hostile, "", force=False).command(orders.SUDO)
    assert "'\"'\"'x' '' ''" in command
    assert command.startswith("sudo -n -- sh -c ")


def test_a_host_that_makes_up_numbers_ends_nobodys_run():
    long = "9" * 5000
    look = facts.look({"free_opt": "²", "free_tmp": long, "glibc": f"2.{long}"})
    assert (look.free_opt, look.free_tmp, look.glibc[0]) == (0, 0, 2)
    assert newer(long, "1")
