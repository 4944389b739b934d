"""`shiftwork upgrade` on two machines: to a version that works, under a running hook; then to one that cannot start.

The tests are the days of the two, in this order.
"""

import json
import platform

import pytest
from packaged import NEW, OLD, until

from shiftwork_coordinator.packages import About, about

pytestmark = pytest.mark.docker
GROUP = """\
application: web
groups:
  upgraded: {instances: {tags: {Role: [upgraded]}}, config: AllAtOnce}
"""
BROKEN = "9.9.9"
BREAK = f"""\
cd /root && dpkg-deb -R /packages/shiftwork-agent_{NEW}_*.deb broken
sed -i 's/^Version: .*/Version: {BROKEN}/' broken/DEBIAN/control
cd broken/opt/shiftwork-agent/lib/python*/site-packages/shiftwork_agent
rm __pycache__/daemon.*; echo 'raise SystemExit("this one cannot start")' >daemon.py
cd /root && dpkg-deb -Zgzip -z1 -b broken broken.deb && rm -r broken
"""
LOCK = """\
use Fcntl; open(F, ">>", "/var/lib/dpkg/lock") or die; $l = pack("s s x4 q q i x4", F_WRLCK);
fcntl(F, F_SETLK, $l) or die; open(P, ">", "/run/locked"); print P $$; close P; sleep 600"""


@pytest.fixture(scope="module")
def webs(home, make):
    """Two machines with the older agent and an application that runs."""
    home.run(f"cat >/root/upgraded.yml <<'END'\n{GROUP}END\nshiftwork apply -f /root/upgraded.yml")
    made = [make(name) for name in ("upgraded-1", "upgraded-2")]
    for number, machine in enumerate(made, 1):
        machine.install(f"shiftwork-agent_{OLD}_*.deb")
        home.join(machine, f"upgraded-{number}", role="upgraded")
        machine.wait_for_agent()
    assert home.ended(home.begin("web/upgraded"))["status"] == "Succeeded"
    return made


def upgrade(home, *words):
    return home.attempt(f"shiftwork upgrade --at-once 1 --settle 2s --tag Role=upgraded {' '.join(words)}")


def told(home):
    return json.loads(home.run("shiftwork upgrade --status --output json"))


def targets(view):
    return {one["targetId"]: one["status"] for one in view["targets"]}


def test_the_coordinator_reads_what_both_packages_are(packages):
    for format in ("deb", "rpm"):
        with next(packages.glob(f"shiftwork-agent_{NEW}_*.{format}")).open("rb") as file:
            assert about(file) == About(NEW, format, platform.machine())


def test_an_upgrade_without_a_way_back_is_refused(home, webs):
    code, said = upgrade(home, f"--package /packages/shiftwork-agent_{NEW}_*.deb")
    assert code == 2 and f"version {OLD}" in said and "to go back to" in said


def test_hooks_and_applications_live_through_an_upgrade(home, webs):
    """The package manager is kept waiting until the hook runs, as by somebody else who installs something."""
    web, other = webs
    application, before = web.run("cat /srv/pid"), web.status()["pid"]
    locked = 'timeout 30 sh -c "until [ -s /run/locked ]; do sleep 0.1; done"'
    web.run(f"perl -e '{LOCK}' >/dev/null 2>&1 & {locked} && touch /srv/hold")
    code, said = upgrade(home, f"--package /packages/shiftwork-agent_{OLD}_*.deb --version {NEW} --no-wait")
    assert code == 0, said
    until(lambda: "dpkg" in web.attempt("cat /var/lib/shiftwork-agent/upgrade/log")[1], "the package manager to wait")
    deployment = home.begin("web/upgraded")
    until(lambda: web.processes("start.sh"), "the hook to start")
    hook = web.processes("start.sh")
    web.run("kill $(cat /run/locked)")
    assert web.wait_for_agent(other_than=before)["version"] == NEW
    assert web.processes("start.sh") == hook
    assert other.status()["version"] == OLD
    web.run("rm /srv/hold")
    assert home.ended(deployment)["status"] == "Succeeded"
    assert "the hook came to its end" in home.run(f"shiftwork logs {deployment} --event ApplicationStart")
    until(lambda: told(home)["completeTime"], "the upgrade to end", within=120)
    assert told(home)["status"] == "Succeeded" and other.status()["version"] == NEW
    assert web.processes("sleep 54321") == [application]


def test_one_that_cannot_start_is_put_back_and_the_rest_are_left_alone(home, webs):
    web, other = webs
    application, untouched = web.run("cat /srv/pid"), other.status()["pid"]
    home.run(BREAK)
    code, said = upgrade(home, "--package /root/broken.deb --connect-within 10s")
    assert code == 1, said
    assert targets(told(home)) == {"upgraded-1": "Failed", "upgraded-2": "Skipped"}
    assert f"{BROKEN} was not connected" in said
    assert web.wait_for_agent()["version"] == NEW
    assert (other.status()["version"], other.status()["pid"]) == (NEW, untouched)
    assert web.processes("sleep 54321") == [application]
    assert home.ended(home.begin("web/upgraded"))["status"] == "Succeeded"
