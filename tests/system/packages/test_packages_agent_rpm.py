"""The .rpm, by rpm's own tools; its life on a machine by the rpm of a Debian, which knows no dependencies of ours."""

import pytest
from packaged import NEW, OLD

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def box(make):
    return make("rpm-1")


@pytest.mark.parametrize(("name", "library"), [("shiftwork-agent", "libssl.so.3"), ("shiftwork", "libsqlite3.so.0")])
def test_an_rpm_names_what_it_holds_and_needs(box, name, library):
    file = f"/packages/{name}_{NEW}_*.rpm"
    files = box.run(f"rpm -qlp {file}").splitlines()
    unit = f"/usr/lib/systemd/system/{name}.service"
    assert {f"/opt/{name}/bin/python3", f"/usr/bin/{name}", unit} <= set(files)
    assert {path.split("/")[1] for path in files} <= {"opt", "usr", "etc"}
    requires = box.run(f"rpm -qp --requires {file}").splitlines()
    assert f"{library}()(64bit)" in requires
    assert any(line.startswith("libc.so.6(GLIBC_") for line in requires)
    assert not any("python" in line for line in requires)


def test_the_coordinator_s_settings_are_config_files(box):
    assert box.run(f"rpm -qp --configfiles /packages/shiftwork_{NEW}_*.rpm") == "/etc/default/shiftwork"


def test_both_formats_hold_the_same(packages, box):
    deb = box.run(f"dpkg-deb --fsys-tarfile /packages/shiftwork-agent_{NEW}_*.deb | tar t | grep -v '/$'")
    rpm = box.run(f"rpm -qp --qf '[%{{FILEMODES:perms}} %{{FILENAMES}}\n]' /packages/shiftwork-agent_{NEW}_*.rpm")
    files = {line.split(maxsplit=1)[1] for line in rpm.splitlines() if not line.startswith("d")}
    assert {path.removeprefix(".") for path in deb.splitlines()} == files


def test_an_rpm_is_installed_upgraded_and_erased(home, box):
    box.run(f"rpm -i --nodeps /packages/shiftwork-agent_{OLD}_*.rpm")
    assert box.run("systemctl is-enabled shiftwork-agent") == "enabled"
    home.join(box, "rpm-1")
    old = box.wait_for_agent()
    box.run(f"rpm -U --nodeps /packages/shiftwork-agent_{NEW}_*.rpm")
    new = box.wait_for_agent(other_than=old["pid"])
    assert (old["version"], new["version"], new["instance"]) == (OLD, NEW, old["instance"])
    box.run("rpm -e --nodeps shiftwork-agent")
    assert not box.processes("shiftwork_agent.daemon")
    assert box.attempt("test -e /opt/shiftwork-agent")[0] != 0
    assert box.run("find /etc/systemd /usr/lib/systemd -name 'shiftwork*'") == ""
    assert box.run("ls /var/lib/shiftwork-agent/identity")
