"""The coordinator's package after its service: the last tests here, because they take the coordinator away."""

import pytest
from packaged import NEW

pytestmark = pytest.mark.docker


def test_the_coordinator_keeps_its_settings_and_data(home):
    home.run("""echo 'SERVE_OPTIONS="--listen 0.0.0.0:7171"' >>/etc/default/shiftwork; systemctl restart shiftwork""")
    home.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y shiftwork </dev/null")
    assert home.attempt("test -e /opt/shiftwork -o -e /usr/bin/shiftwork")[0] != 0
    home.install(f"shiftwork_{NEW}_*.deb")
    assert "7171" in home.run("cat /var/lib/shiftwork/serve.json")
    assert "web-1" in home.run("shiftwork instances")
    home.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y shiftwork </dev/null")
    assert home.run("find / -xdev -path '*shiftwork*' -not -path '/var/log/*' -not -path '/packages/*'") == ""
