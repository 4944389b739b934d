#!/bin/sh
# Asks the running application to stop and waits until it has finished what it was serving.
set -eu
. "$(dirname "$0")/settings.sh"
runs() { tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$WEB/server.py"; }
pid=$(cat "$RUN/pid" 2>/dev/null) || { echo "not running"; exit 0; }
runs && kill -TERM "$pid" || { echo "not running any more"; rm -f "$RUN/pid"; exit 0; }
while runs; do sleep 0.05; done
rm -f "$RUN/pid"
echo "stopped process $pid"
