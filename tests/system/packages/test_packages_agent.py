"""A .deb's life on a bare Debian: installed, joined, restarted and upgraded under a running hook, rebooted, removed.

The tests are the days of one machine, in this order.
"""

import pytest
from packaged import NEW, OLD, until

pytestmark = pytest.mark.docker
LEAKS = (
    "LD_", "PYTHON", "NOTIFY_", "WATCHDOG_", "INVOCATION_", "JOURNAL_", "STATE_", "CONFIGURATION_", "SYSTEMD_",
)  # fmt: skip


@pytest.fixture(scope="module")
def web(make):
    return make("web-1")


def held_hook(home, web):
    """A deployment whose hook runs until /srv/hold is removed."""
    before = web.run("cat /srv/begun | wc -l")
    web.run("touch /srv/hold")
    deployment = home.begin()
    until(lambda: web.run("cat /srv/begun | wc -l") != before, "the hook to start")
    return deployment, web.processes("start.sh")


def let_go(home, web, deployment):
    """What became of it: the hook ran on to its end, once."""
    times = int(web.run("cat /srv/begun | wc -l"))
    web.run("rm /srv/hold")
    view = home.ended(deployment)
    assert view["status"] == "Succeeded", view
    assert int(web.run("cat /srv/begun | wc -l")) == times
    assert "the hook came to its end" in home.run(f"shiftwork logs {deployment} --event ApplicationStart")


def test_a_bare_machine_needs_no_python_and_one_command(home, web):
    assert web.attempt("command -v python3")[0] != 0
    web.install(f"shiftwork-agent_{OLD}_*.deb")
    assert web.run("systemctl is-enabled shiftwork-agent") == "enabled"
    assert web.attempt("systemctl is-active shiftwork-agent")[1].strip() == "inactive"
    assert "is started" in home.join(web, "web-1")
    told = web.wait_for_agent()
    assert told["version"] == OLD
    assert web.attempt("command -v python3")[0] != 0
    assert web.run(f"readlink /proc/{told['pid']}/exe") == "/opt/shiftwork-agent/bin/python3"
    assert web.run("systemctl show --property=MainPID --value shiftwork-agent") == str(told["pid"])


def test_hooks_see_nothing_of_the_package(home, web):
    assert home.ended(home.begin())["status"] == "Succeeded"
    environment = web.run("cat /srv/env").splitlines()
    assert "LIFECYCLE_EVENT=ApplicationStart" in environment
    assert [line for line in environment if line.startswith(LEAKS) or "/opt/shiftwork" in line] == []
    limits = [web.run(f"grep 'open files' /proc/{pid}/limits") for pid in ("1", "$(cat /srv/pid)")]
    assert limits[0].split()[4] == limits[1].split()[4], "the agent's unit lowers what an application may open"


def test_a_restart_in_mid_hook_touches_only_the_agent(home, web):
    before, application = web.status()["pid"], web.run("cat /srv/pid")
    deployment, hook = held_hook(home, web)
    web.run("systemctl restart shiftwork-agent")
    web.wait_for_agent(other_than=before)
    assert hook and web.processes("start.sh") == hook
    let_go(home, web, deployment)
    assert web.processes("sleep 54321") == [application]


def test_an_agent_that_hangs_is_replaced(web):
    before, application = web.status()["pid"], web.run("cat /srv/pid")
    drop_in = "/run/systemd/system/shiftwork-agent.service.d"
    web.run(f"mkdir -p {drop_in}; printf '[Service]\nWatchdogSec=2\n' >{drop_in}/test.conf; systemctl daemon-reload")
    web.run("systemctl restart shiftwork-agent")
    hung = web.wait_for_agent(other_than=before)["pid"]
    web.run(f"kill -STOP {hung}")
    web.wait_for_agent(other_than=hung)
    assert web.processes("sleep 54321") == [application]
    assert "watchdog" in web.run("journalctl --no-pager -u shiftwork-agent").lower()
    web.run(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart shiftwork-agent")


def test_an_upgrade_in_mid_hook_keeps_everything(home, web):
    web.run("echo 'log_level: debug' >>/etc/shiftwork-agent/agent.yml")
    kept = "sha256sum /etc/shiftwork-agent/agent.yml /var/lib/shiftwork-agent/identity/*"
    before, application, files = web.status()["pid"], web.run("cat /srv/pid"), web.run(kept)
    deployment, hook = held_hook(home, web)
    web.run(f"dpkg -i /packages/shiftwork-agent_{NEW}_*.deb </dev/null")
    assert web.wait_for_agent(other_than=before)["version"] == NEW
    assert hook and web.processes("start.sh") == hook
    let_go(home, web, deployment)
    assert web.processes("sleep 54321") == [application]
    assert web.run(kept) == files


def test_a_rebooted_machine_comes_back_by_itself(home, web):
    web.reboot()
    web.wait_for_agent()
    assert home.ended(home.begin())["status"] == "Succeeded"


def test_removed_and_installed_again_it_is_who_it_was(web):
    application, who = web.run("cat /srv/pid"), web.status()["instance"]
    web.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y shiftwork-agent </dev/null")
    assert web.attempt("test -e /opt/shiftwork-agent -o -e /usr/bin/shiftwork-agent")[0] != 0
    assert not web.processes("shiftwork_agent.daemon")
    assert web.processes("sleep 54321") == [application]
    web.install(f"shiftwork-agent_{NEW}_*.deb")
    assert web.wait_for_agent()["instance"] == who


def test_a_purge_leaves_nothing(web):
    application = web.run("cat /srv/pid")
    web.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y shiftwork-agent </dev/null")
    assert web.run("find / -xdev -path '*shiftwork*' -not -path '/var/log/*' -not -path '/packages/*'") == ""
    assert web.attempt("systemctl list-unit-files --no-legend 'shiftwork*'")[1] == ""
    assert web.processes("sleep 54321") == [application]
