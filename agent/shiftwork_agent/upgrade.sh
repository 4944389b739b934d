#!/bin/sh
# upgrade.sh DIRECTORY: installs the agent's new package, and puts the one before it back unless the new agent connects
# and stays connected. It runs in a unit of its own from a copy beside the packages, and needs nothing of the agent.
#
# In DIRECTORY: `plan` (format, new version, seconds to connect, seconds to stay connected, a line each), new.FORMAT,
# previous.FORMAT (may be missing), `connected` (the running agent's version, there while it is connected). It writes
# `step` before each step, so that it goes on there when the host lost power, and `outcome` (a word, a sentence) last.
set -u
cd "$1" || exit 1
LC_ALL=C DEBIAN_FRONTEND=noninteractive
export LC_ALL DEBIAN_FRONTEND

if command -v flock >/dev/null; then
    exec 9>lock
    flock -n 9 || exit 0 # it runs already
fi
[ -e plan ] || exit 0
{ read -r format && read -r version && read -r within && read -r hold; } <plan || exit 1

keep() { # NAME TEXT: durable, whole or not at all
    printf '%s\n' "$2" >".$1" && sync && mv ".$1" "$1" && sync
}

package() { # FILE: installs it, asking nothing; settings that were changed stay
    case $format in
    deb) dpkg -i --force-confold --force-downgrade "$1" ;;
    rpm) rpm -U --oldpackage --replacepkgs "$1" ;;
    esac </dev/null >log 2>&1 9>&-
}

install() { # FILE: waits while somebody else installs something
    tries=0
    until package "$1"; do
        cat log
        tries=$((tries + 1))
        grep -q 'lock was locked' log && [ "$tries" -lt 60 ] || return 1
        sleep 5
    done
    cat log
    systemctl start --no-block shiftwork-agent.service || :
}

now() {
    read -r up _ </proc/uptime
    echo "${up%%.*}"
}

stays_connected() {
    end=$(($(now) + within)) since=
    while at=$(now) && { [ "$at" -lt "$end" ] || [ -n "$since" ]; }; do
        if [ "$(cat connected 2>/dev/null)" = "$version" ] && systemctl is-active --quiet shiftwork-agent.service; then
            : "${since:=$at}"
            [ $((at - since)) -lt "$hold" ] || return 0
        else
            since=
        fi
        sleep 1
    done
    return 1
}

finish() { # WORD SENTENCE
    echo "$1: $2"
    keep outcome "$1
$2" || exit 1 # no room: `plan` and `step` stay, so that it is gone on with later
    rm -f plan step why
    exit 0
}

fails() { # WHY: from here on the way back
    echo "putting the previous version back: $1"
    keep why "$1"
    keep step return
}

step=$(cat step 2>/dev/null) || step=install
if [ -e step ] && [ "$format" = deb ]; then # cut in the middle: end what dpkg had begun
    dpkg --configure -a --force-confold </dev/null || :
fi

if [ "$step" = install ]; then
    keep step install
    if install "new.$format"; then
        keep step await
    else
        fails "the package manager cannot install $version: $(tail -n 1 log)"
    fi
fi
if [ "$(cat step)" = await ]; then
    stays_connected && finish done ""
    fails "$version was not connected, or did not stay so, within $within s"
fi
why=$(cat why)
[ -e "previous.$format" ] || finish returned "$why; there is no package to go back to"
install "previous.$format" || finish returned "$why; the previous package cannot be installed either: $(tail -n 1 log)"
finish returned "$why"
