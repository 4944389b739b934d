#!/bin/sh
# Asks the running application to stop and waits until it has finished what it was serving.
set -eu
. "$(dirname "$0")/settings.sh"
pid=$(cat "$RUN/pid" 2>/dev/null) || { echo "not running"; exit 0; }
kill -TERM "$pid" 2>/dev/null || { echo "not running any more"; rm -f "$RUN/pid"; exit 0; }
while kill -0 "$pid" 2>/dev/null && [ "$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null)" != Z ]; do sleep 0.05; done
rm -f "$RUN/pid"
echo "stopped process $pid"
