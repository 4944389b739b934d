"""Everything that is run on a host: a closed set of POSIX shell scripts, each with a name. Pure.

A script gets what varies as arguments, never as text, and a secret on its standard input, so that no process list
shows it. What it found out it prints as `@key=value` lines.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

PREFIX = "shiftwork-"
SAY = 'LC_ALL=C; export LC_ALL; umask 022; say() { printf \'@%s=%s\\n\' "$1" "$2"; }\n'

LOOK = (
    SAY
    + r"""
say uid "$(id -u)"; say user "$(id -un)"
say system "$(uname -s)"; say machine "$(uname -m)"; say hostname "$(uname -n)"
(
  ID= ID_LIKE= PRETTY_NAME=
  [ -r /etc/os-release ] && . /etc/os-release
  say ids "$ID $ID_LIKE"; say distribution "$PRETTY_NAME"
)
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ -d /run/systemd/system ] && say systemd yes
tools=
for tool in apt-get dpkg dnf yum zypper rpm; do command -v "$tool" >/dev/null 2>&1 && tools="$tools $tool"; done
say tools "$tools"
free() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'; }
opt=/opt; [ -d "$opt" ] || opt=/
say free_opt "$(free "$opt")"; say free_tmp "$(free "${TMPDIR:-/tmp}")"
set -- $SSH_CONNECTION
say address "${3:-}"
if ! command -v sudo >/dev/null 2>&1; then say sudo missing
elif sudo -n true >/dev/null 2>&1; then say sudo yes
else say sudo password
fi
exit 0
"""
)

SURVEY = (
    SAY
    + r"""
state=/var/lib/shiftwork-agent/identity
if command -v dpkg-query >/dev/null 2>&1; then
  say version "$(dpkg-query -W -f '${db:Status-Status} ${Version}' shiftwork-agent 2>/dev/null)"
fi
if command -v rpm >/dev/null 2>&1 && rpm -q shiftwork-agent >/dev/null 2>&1; then
  say version "$(rpm -q --qf 'installed %{VERSION}-%{RELEASE}' shiftwork-agent)"
fi
if [ -r "$state/identity.json" ]; then
  say identity "$(tr -d '\n' < "$state/identity.json")"
  say ca "$(base64 < "$state/ca.pem" 2>/dev/null | tr -d '\n')"
  say url "$(grep -o 'https://[^ ]*' /etc/shiftwork-agent/agent.yml 2>/dev/null | head -n 1)"
fi
say active "$(systemctl is-active shiftwork-agent 2>/dev/null)"
say enabled "$(systemctl is-enabled shiftwork-agent 2>/dev/null)"
exit 0
"""
)

PREPARE = (
    SAY
    + r"""
tmp=${TMPDIR:-/tmp}
find "$tmp" -maxdepth 1 -name 'shiftwork-bootstrap.*' -user "$(id -u)" -mmin +60 -exec rm -rf {} + 2>/dev/null
umask 077
made=$(mktemp -d "$tmp/shiftwork-bootstrap.XXXXXX") && say directory "$made"
"""
)

DISCARD = r"""
case $1 in */shiftwork-bootstrap.??????) rm -rf -- "$1" ;; esac
"""

# Once begun it goes through, whoever interrupts us: a package manager that is cut leaves the host in pieces. What it
# prints goes to a file first, because a pipe would end with the connection.
INSTALL = (
    SAY
    + r"""
file=$1 digest=$2
trap '' HUP INT PIPE TERM
trap 'rm -rf -- "${file%/*}"' EXIT
found=$(sha256sum < "$file" | cut -d ' ' -f 1)
[ "$found" = "$digest" ] || { echo "the copy has the SHA-256 $found, the package $digest"; exit 65; }
exec < /dev/null
install_it() {
case $file in
*.deb)
  DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
  if command -v apt-get >/dev/null 2>&1; then
    set -- apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold
    "$@" "$file" || { apt-get update -q && "$@" "$file"; }
  else
    dpkg -i --force-confold "$file"
  fi ;;
*)
  if command -v dnf >/dev/null 2>&1; then dnf install -y "$file"
  elif command -v yum >/dev/null 2>&1; then yum install -y "$file"
  elif command -v zypper >/dev/null 2>&1; then zypper --non-interactive install --allow-unsigned-rpm "$file"
  else rpm -U "$file"
  fi ;;
esac
}
install_it > "$file.log" 2>&1
code=$?
tail -c 4000 "$file.log"
exit "$code"
"""
)

JOIN = r"""
url=$1 name=$2 address=$3 force=$4
IFS= read -r SHIFTWORK_JOIN_TOKEN || exit 64
export SHIFTWORK_JOIN_TOKEN
exec < /dev/null
[ -z "$force" ] || systemctl stop shiftwork-agent || exit 1
shiftwork-agent join "$url" --name "$name" ${address:+--address "$address"} ${force:+--force} 2>&1
code=$?
[ "$code" = 0 ] || [ -z "$force" ] || systemctl start shiftwork-agent
exit "$code"
"""

START = r"""
exec < /dev/null
systemctl daemon-reload
systemctl enable shiftwork-agent 2>&1 && systemctl restart shiftwork-agent 2>&1 && exit 0
systemctl status --no-pager -n 5 shiftwork-agent 2>&1
exit 1
"""

EXPLAIN = r"""
shiftwork-agent status 2>&1 | grep '^link' || true
journalctl -u shiftwork-agent -n 3 --no-pager -o cat 2>&1 || true
"""


@dataclass(frozen=True)
class Order:
    """One script with its arguments, and whether it needs root."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    root: bool = True

    def command(self, sudo: tuple[str, ...] = ()) -> str:
        """The line for the host's shell. `sudo` is what makes a command root's, where the user is not."""
        words = ("sh", "-c", self.script, PREFIX + self.name, *self.arguments)
        return shlex.join((*sudo, *words) if self.root else words)


SUDO = ("sudo", "-n", "--")
SUDO_ASKED = ("sudo", "-k", "-S", "-p", "", "--")
"""Reads the password from standard input, whether or not one was given a moment ago."""

look = Order("look", LOOK, root=False)
survey = Order("survey", SURVEY)
prepare = Order("prepare", PREPARE, root=False)
start = Order("start", START)
explain = Order("explain", EXPLAIN)


def discard(directory: str) -> Order:
    return Order("discard", DISCARD, (directory,), root=False)


def install(file: str, digest: str) -> Order:
    return Order("install", INSTALL, (file, digest))


def join(url: str, name: str, address: str, *, force: bool) -> Order:
    """The token goes to its standard input, as a line."""
    return Order("join", JOIN, (url, name, address, "force" if force else ""))
